use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::StoreTime;

/// A time on the client's clock, as the time that has passed since a fixed moment. It never goes backwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientTime(Duration);

impl ClientTime {
    /// The fixed moment.
    pub const ZERO: ClientTime = ClientTime(Duration::ZERO);

    /// The last time that can be represented.
    pub(crate) const LAST: ClientTime = ClientTime(Duration::MAX);

    /// The time `duration` after the fixed moment.
    pub const fn after(duration: Duration) -> Self {
        Self(duration)
    }

    /// The time that has passed since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time `duration` earlier, or the fixed moment if that is later.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

impl Add<Duration> for ClientTime {
    type Output = Self;

    /// The time `duration` later, or the last representable time.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// The client's clock.
///
/// It only measures how much of a lease is left. Only the store's clock decides whether a lease has expired for others. The
/// client's clock should keep running while the machine is suspended.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now. It never goes backwards within a process.
    fn now(&self) -> ClientTime;
}

/// The operating system's monotonic clock.
///
/// On Linux it is [`CLOCK_BOOTTIME`](https://man7.org/linux/man-pages/man2/clock_gettime.2.html), which continues during
/// suspend. [`std::time::Instant`] does not, so a laptop that wakes up would treat leases as valid that ended long ago.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn now(&self) -> ClientTime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        ClientTime(Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0)))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn now(&self) -> ClientTime {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        ClientTime(START.get_or_init(std::time::Instant::now).elapsed())
    }
}

/// A clock for tests, which stands still until a test moves it. Clones are the same clock.
///
/// Pass it both to [`MemoryStore::with_clock`](crate::testing::MemoryStore::with_clock) and to
/// [`DbMutexBuilder::clock`](crate::DbMutexBuilder::clock). Then a test can let half an hour pass at once.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// 2020-01-01T00:00:00Z, in microseconds since 1970.
    const START_US: i64 = 1_577_836_800_000_000;

    /// Returns a clock that stands at 2020-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(Self::START_US)))
    }

    /// Moves the clock forward, rounded down to a microsecond.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Moves the clock backwards, as an administrator may do with the clock of a database server.
    pub fn step_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// The time, as a store's clock shows it.
    pub fn store_time(&self) -> StoreTime {
        StoreTime::from_micros(self.0.load(Ordering::SeqCst))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> ClientTime {
        ClientTime(self.store_time().since(StoreTime::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_never_goes_back() {
        let first = SystemClock.now();
        assert!(SystemClock.now() >= first);
    }

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = ManualClock::new();
        let before = clock.now();
        clock.clone().advance(Duration::from_secs(60));
        assert_eq!(clock.now().since(before), Duration::from_secs(60));
    }
}
