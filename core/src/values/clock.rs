use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The client's clock: how much time has passed since a fixed moment.
///
/// It only counts leases down; whether a lease has expired for others is decided by the store's clock alone. It never
/// goes backwards, and it should go on while the machine is suspended.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time since a moment that stays the same for the life of the process.
    fn elapsed(&self) -> Duration;
}

/// The operating system's monotonic clock.
///
/// On Linux it is [`CLOCK_BOOTTIME`](https://man7.org/linux/man-pages/man2/clock_gettime.2.html), which goes on during
/// suspend; [`std::time::Instant`] there does not, so a laptop that wakes up would believe in leases long lost.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn elapsed(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn elapsed(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// A clock for tests, which stands still until it is told to move. Clones are the same clock.
///
/// Given both to [`MemoryStore::with_clock`](crate::MemoryStore::with_clock) and to
/// [`DbMutexBuilder::clock`](crate::DbMutexBuilder::clock), it lets a test see half an hour pass at once.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// 2020-01-01T00:00:00Z, in microseconds since 1970.
    const START_US: i64 = 1_577_836_800_000_000;

    /// A clock that stands at 2020-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(Self::START_US)))
    }

    /// Moves the clock forward, rounded down to a microsecond.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Moves the clock backwards, as an administrator may do to a database server's.
    pub fn step_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// The time in microseconds since 1970, UTC.
    pub fn now_us(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn elapsed(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.now_us()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_never_goes_back() {
        let first = SystemClock.elapsed();
        assert!(SystemClock.elapsed() >= first);
    }

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = ManualClock::new();
        let before = clock.elapsed();
        clock.clone().advance(Duration::from_secs(60));
        assert_eq!(clock.elapsed() - before, Duration::from_secs(60));
    }
}
