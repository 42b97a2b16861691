use std::fmt;

/// A fencing token: a positive number that is greater for each acquisition of a lock id than for every earlier one.
///
/// Pass it to the resource that the lock protects, and let the resource refuse any that is smaller than one it has seen.
/// Then a holder that was paused beyond its lease can do no harm ([how and
/// why](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html)). The number is `max(previous + 1,
/// microseconds since 1970)`; only the order of fencing tokens has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(i64);

impl Fence {
    /// Wraps a number that a store has stored.
    pub const fn new(fence: i64) -> Self {
        Self(fence)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
