use std::time::Duration;

use crate::Ttl;
use crate::values::ClientTime;

/// Until when a holder may rely on its lease, on the client's clock; `None`: forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(Option<ClientTime>);

impl Deadline {
    /// A deadline that has passed: the lease is known to be lost.
    pub(crate) const PASSED: Deadline = Deadline(Some(ClientTime::ZERO));

    /// The deadline of a lease of `ttl` whose request was sent at `sent`.
    ///
    /// Counted from *before* the request: the store granted the lease at some time after that, so its own end lies
    /// later than ours, however slow the reply was.
    pub(crate) fn counted_from(sent: ClientTime, ttl: Ttl) -> Self {
        Self::of_lease(sent, ttl.duration())
    }

    /// The deadline of a lease of which `left` remained, by the store's clock, when a request arrived that was sent at
    /// `sent`.
    pub(crate) fn of_lease(sent: ClientTime, left: Option<Duration>) -> Self {
        Self(left.map(|left| (sent + left).before(margin(left))))
    }

    /// A deadline at that time.
    pub(crate) const fn at(time: ClientTime) -> Self {
        Self(Some(time))
    }

    /// The time left at `now`: zero when it has passed, `None`: forever.
    pub(crate) fn remaining(self, now: ClientTime) -> Option<Duration> {
        self.0.map(|at| at.since(now))
    }

    pub(crate) fn has_passed(self, now: ClientTime) -> bool {
        self.remaining(now) == Some(Duration::ZERO)
    }

    pub(crate) fn later(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Self(Some(one.max(two))),
            _ => Self(None),
        }
    }

    pub(crate) fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Self(Some(one.min(two))),
            (one, two) => Self(one.or(two)),
        }
    }
}

/// The safety margin: how much earlier than the store the client regards a lease as ended. It is 100 ms or 5 % of the TTL,
/// whichever is more, for clocks that run at different speeds and for the time between a check and the action after it;
/// never more than half of the TTL.
fn margin(ttl: Duration) -> Duration {
    (ttl / 20).max(Duration::from_millis(100)).min(ttl / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: ClientTime = ClientTime::after(Duration::from_secs(1_000));

    fn left(ttl: Duration) -> Duration {
        Deadline::counted_from(SENT, Ttl::new(ttl).unwrap()).remaining(SENT).unwrap()
    }

    #[test]
    fn margin_is_taken_off() {
        assert_eq!(left(Duration::from_secs(100)), Duration::from_secs(95));
        assert_eq!(left(Duration::from_secs(1)), Duration::from_millis(900));
        assert_eq!(left(Duration::from_millis(100)), Duration::from_millis(50));
    }

    #[test]
    fn never_stays_never() {
        let never = Deadline::counted_from(SENT, Ttl::NEVER);
        assert!(!never.has_passed(ClientTime::after(Duration::MAX)));
        assert_eq!(never.earlier(Deadline::PASSED), Deadline::PASSED);
    }
}
