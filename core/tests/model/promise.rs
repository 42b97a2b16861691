use std::time::Duration;

use db_mutex_core::Ttl;
use db_mutex_core::testing::ClientTime;

use crate::deadline::Deadline;

/// The time of a step.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Time {
    /// The clients' clock, which nothing disturbs.
    pub(crate) real_us: i64,
    /// The store's clock.
    pub(crate) clock_us: i64,
    /// How far the store's clock was set forward until now, in sum.
    pub(crate) forward_us: i64,
}

impl Time {
    pub(crate) fn real(self) -> ClientTime {
        ClientTime::after(Duration::from_micros(u64::try_from(self.real_us).unwrap()))
    }
}

/// A statement that was begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    /// When its request was sent; for a duplicate, when the original was.
    pub(crate) sent: Time,
    /// The clock that it judges by.
    pub(crate) clock_us: i64,
}

/// What a lease or a rest promises: that no one else is granted the lock until then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    /// Whose guard is valid; `None` for a rest.
    pub(crate) owner: Option<usize>,
    until: Deadline,
    /// By how much the store's clock may be set forward meanwhile.
    margin_us: i64,
    forward_us: i64,
}

impl Promise {
    /// That of a positive answer to a request which was sent then, by the rule of core's guards.
    pub(crate) fn of_lease(owner: usize, sent: Time, ttl: Ttl) -> Self {
        let until = Deadline::counted_from(sent.real(), ttl);
        let margin_us = match until.remaining(sent.real()) {
            Some(valid) => ttl.to_micros() - i64::try_from(valid.as_micros()).unwrap(),
            None => i64::MAX,
        };
        Self { owner: Some(owner), until, margin_us, forward_us: sent.forward_us }
    }

    pub(crate) fn of_rest(now: Time, left_us: i64) -> Self {
        let until = Deadline::at(now.real() + Duration::from_micros(u64::try_from(left_us).unwrap_or(0)));
        Self { owner: None, until, margin_us: 0, forward_us: now.forward_us }
    }

    /// Whether it is still to be kept.
    pub(crate) fn holds(&self, now: Time) -> bool {
        !self.until.has_passed(now.real()) && now.forward_us - self.forward_us <= self.margin_us
    }
}
