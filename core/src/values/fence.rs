use std::fmt;

/// A fencing token: a positive number that is greater for each acquisition of a lock id than for every earlier one.
///
/// Pass it to the resource that the lock protects, and let the resource refuse a smaller one than it has seen: then a
/// holder that was paused beyond its lease can do no harm
/// ([how and why](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html)). It is
/// `max(previous + 1, microseconds since 1970)`; only its order means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fence(i64);

impl Fence {
    /// Wraps a number as a store keeps it.
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
