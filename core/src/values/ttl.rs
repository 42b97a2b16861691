use std::fmt;
use std::time::Duration;

use super::{Invalid, duration_to_micros};

/// How long a lease lasts without being renewed: 100 ms to 365 days, or forever.
///
/// It is measured on the store's clock from the moment of the grant, in whole microseconds, rounded down.
///
/// ```
/// use std::time::Duration;
/// use db_mutex_core::Ttl;
///
/// assert_eq!(Ttl::new(Duration::from_secs(90))?.duration(), Some(Duration::from_secs(90)));
/// assert_eq!(Ttl::NEVER.duration(), None);
/// assert!(Ttl::new(Duration::from_millis(50)).is_err());
/// # Ok::<_, db_mutex_core::Invalid>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ttl(Option<Duration>);

impl Ttl {
    /// The shortest: 100 ms. A shorter lease would be comparable to one round trip.
    pub const MIN: Duration = Duration::from_millis(100);
    /// The shortest TTL: [`MIN`](Self::MIN).
    pub(crate) const SHORTEST: Ttl = Ttl(Some(Self::MIN));
    /// The longest TTL that is not [`NEVER`](Self::NEVER): 365 days.
    pub const MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    /// 30 minutes: the default of a mutex.
    pub const DEFAULT: Ttl = Ttl(Some(Duration::from_secs(30 * 60)));
    /// The lease never expires. A holder that crashes blocks others until the lock is released by force.
    pub const NEVER: Ttl = Ttl(None);

    /// Validates `ttl`.
    ///
    /// # Errors
    /// [`Invalid::Ttl`] if it is shorter than [`MIN`](Self::MIN) or longer than [`MAX`](Self::MAX).
    pub fn new(ttl: Duration) -> Result<Self, Invalid> {
        let reason = if ttl < Self::MIN {
            "shorter than 100ms"
        } else if ttl > Self::MAX {
            "longer than 365 days"
        } else {
            return Ok(Self(Some(ttl)));
        };
        Err(Invalid::Ttl { value: format!("{ttl:?}"), reason: reason.into() })
    }

    /// The duration, or `None` if the lease never expires.
    pub const fn duration(self) -> Option<Duration> {
        self.0
    }

    /// A TTL from a store, limited to the valid range.
    pub(crate) fn recorded(ttl: Option<Duration>) -> Self {
        Self(ttl.map(|ttl| ttl.clamp(Self::MIN, Self::MAX)))
    }

    /// The duration in whole microseconds; `i64::MAX` if the lease never expires.
    pub fn to_micros(self) -> i64 {
        duration_to_micros(self.0)
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<Duration> for Ttl {
    type Error = Invalid;

    fn try_from(ttl: Duration) -> Result<Self, Invalid> {
        Self::new(ttl)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ttl) => write!(f, "{ttl:?}"),
            None => f.write_str("never"),
        }
    }
}

impl fmt::Debug for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ttl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive() {
        assert!(Ttl::new(Ttl::MIN).is_ok());
        assert!(Ttl::new(Ttl::MAX).is_ok());
        for bad in [Duration::ZERO, Duration::from_millis(50), Ttl::MAX + Duration::from_nanos(1), Duration::MAX] {
            assert!(Ttl::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn never_is_the_greatest_number() {
        assert_eq!(Ttl::NEVER.to_micros(), i64::MAX);
        assert_eq!(Ttl::DEFAULT.to_micros(), 1_800_000_000);
    }
}
