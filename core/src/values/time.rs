use std::fmt;
use std::ops::Add;
use std::time::{Duration, SystemTime};

/// A time on the store's clock, in microseconds since 1970, UTC; or never.
///
/// It has no meaning on the client's clock; only compare it with other times of the same store.
///
/// ```
/// use std::time::Duration;
/// use db_mutex_core::store::StoreTime;
///
/// let granted = StoreTime::from_micros(1_577_836_800_000_000);
/// assert_eq!(granted.to_string(), "2020-01-01T00:00:00.000000Z");
/// assert_eq!((granted + Duration::from_secs(5)).since(granted), Duration::from_secs(5));
/// assert_eq!(StoreTime::NEVER.to_string(), "never");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreTime(i64);

impl StoreTime {
    /// The end of a lease that never expires; later than every other time.
    pub const NEVER: StoreTime = StoreTime(NEVER_US);
    /// 1970-01-01T00:00:00Z: the end of a lease that was released without a rest.
    pub const ZERO: StoreTime = StoreTime(0);

    /// Wraps a number that a store has stored.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The number as a store keeps it.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whether it is [`NEVER`](Self::NEVER).
    pub const fn is_never(self) -> bool {
        self.0 == NEVER_US
    }

    /// The time that has passed since `earlier`; zero if that is later. For never, the longest duration.
    pub fn since(self, earlier: Self) -> Duration {
        if self.is_never() {
            return Duration::MAX;
        }
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The time `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The same moment as a [`SystemTime`], if the store's clock is right; `None` for never.
    pub fn to_system_time(self) -> Option<SystemTime> {
        let since_1970 = Duration::from_micros(u64::try_from(self.0).ok()?);
        if self.is_never() { None } else { SystemTime::UNIX_EPOCH.checked_add(since_1970) }
    }
}

impl Add<Duration> for StoreTime {
    type Output = Self;

    /// The time `duration` later, or never if that cannot be represented.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Add<Option<Duration>> for StoreTime {
    type Output = Self;

    /// The end of a lease of that length; `None` is never.
    fn add(self, length: Option<Duration>) -> Self {
        length.map_or(Self::NEVER, |length| self + length)
    }
}

/// [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339) in UTC with microseconds, or `never`.
impl fmt::Display for StoreTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const YEAR_10000_US: i64 = 253_402_300_800_000_000;
        match self.to_system_time() {
            Some(time) if self.0 < YEAR_10000_US => humantime::format_rfc3339_micros(time).fmt(f),
            _ if self.is_never() => f.write_str("never"),
            _ => write!(f, "{} µs since 1970", self.0),
        }
    }
}

impl fmt::Debug for StoreTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// "Never" as a number of microseconds.
const NEVER_US: i64 = i64::MAX;

/// A duration for a store, in microseconds; `None` is never.
pub fn duration_to_micros(duration: Option<Duration>) -> i64 {
    duration.map_or(NEVER_US, |duration| i64::try_from(duration.as_micros()).unwrap_or(NEVER_US))
}

/// A duration from a store, in microseconds; `None` for never. Negative numbers become zero.
pub fn duration_from_micros(micros: i64) -> Option<Duration> {
    (micros != NEVER_US).then(|| Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate_and_differences_are_never_negative() {
        let now = StoreTime::from_micros(1_000_000);
        assert_eq!(now + Duration::MAX, StoreTime::NEVER);
        assert_eq!(StoreTime::NEVER + Duration::from_secs(1), StoreTime::NEVER);
        assert_eq!(now.since(now + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(StoreTime::NEVER.since(now), Duration::MAX);
    }

    #[test]
    fn every_number_can_be_shown() {
        for micros in [i64::MIN, -1, 0, 253_402_300_800_000_000, i64::MAX - 1, i64::MAX] {
            assert!(!StoreTime::from_micros(micros).to_string().is_empty());
        }
        assert_eq!(StoreTime::ZERO.to_string(), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn never_is_a_duration_too() {
        for duration in [None, Some(Duration::ZERO), Some(Duration::from_secs(60))] {
            assert_eq!(duration_from_micros(duration_to_micros(duration)), duration);
        }
        assert_eq!(duration_from_micros(-5), Some(Duration::ZERO));
    }
}
