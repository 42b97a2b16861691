use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::deadline::Deadline;
use crate::{Fence, InsertRequest, Lease, LockId, OwnerToken, Ttl, telemetry};

/// Why a lock was lost while it was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// The lease ended: it was not renewed, or not in time.
    Expired,
    /// Renewing failed until the lease ended; the store could not be reached.
    StoreUnreachable,
    /// Another owner has the lock.
    TakenOver,
    /// Somebody has released it by force.
    ReleasedByForce,
    /// It was held as long as it may be at most.
    HeldTooLong,
}

impl LostReason {
    /// The reason as a word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::StoreUnreachable => "store_unreachable",
            Self::TakenOver => "taken_over",
            Self::ReleasedByForce => "released_by_force",
            Self::HeldTooLong => "held_too_long",
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease expired",
            Self::StoreUnreachable => "its lease could not be renewed",
            Self::TakenOver => "another holder has taken it over",
            Self::ReleasedByForce => "it was released by force",
            Self::HeldTooLong => "it was held as long as it may be",
        })
    }
}

/// A lock that is held: what its guard and the renewal share.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) lock_id: LockId,
    pub(crate) owner: OwnerToken,
    /// How long each renewal asks for.
    pub(crate) ttl: Ttl,
    /// When the lock was acquired, on the client's clock.
    pub(crate) acquired_at: Duration,
    /// When renewing stops, on the client's clock.
    pub(crate) at_most_until: Option<Duration>,
    state: Mutex<State>,
    lost: CancellationToken,
    reason: OnceLock<LostReason>,
}

/// What changes while the lock is held.
#[derive(Debug)]
struct State {
    lease: Lease,
    deadline: Deadline,
    /// The last attempt to renew has failed.
    unknown: bool,
    /// The guard gives the lock back: an answer "not held" is no news any more.
    ending: bool,
    /// Somebody wants to be told of the loss in time.
    watched: bool,
    /// When the renewal's task looks at the deadline next, on the client's clock.
    next_look: Option<Duration>,
    /// The requests for another lease that are under way.
    asking: Vec<Asked>,
    numbered: u64,
}

#[derive(Debug)]
struct Asked {
    number: u64,
    ttl: Ttl,
    /// The deadline if it succeeds, whatever else was under way at the time.
    end: Deadline,
}

/// A request for another lease, under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Asking {
    holding: Arc<Holding>,
    number: u64,
}

impl Asking {
    /// Counts with what the store has answered.
    pub(crate) fn renewed(self, lease: Lease) {
        let state = &mut *self.holding.state();
        if let Some(asked) = state.asking.iter().find(|asked| asked.number == self.number) {
            // Both ends are certain; a request sent later may have been answered sooner.
            let deadline = state.deadline.later(asked.end);
            (state.lease, state.deadline, state.unknown) = (lease, deadline, false);
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.holding.state().asking.retain(|asked| asked.number != self.number);
    }
}

impl Holding {
    pub(crate) fn new(
        request: &InsertRequest,
        lease: Lease,
        deadline: Deadline,
        acquired_at: Duration,
        at_most_until: Option<Duration>,
    ) -> Self {
        Self {
            lock_id: request.lock_id.clone(),
            owner: request.owner,
            ttl: request.ttl,
            acquired_at,
            at_most_until,
            state: Mutex::new(State {
                lease,
                deadline,
                unknown: false,
                ending: false,
                watched: false,
                next_look: None,
                asking: Vec::new(),
                numbered: 0,
            }),
            lost: CancellationToken::new(),
            reason: OnceLock::new(),
        }
    }

    pub(crate) fn lease(&self) -> Lease {
        self.state().lease
    }

    pub(crate) fn fence(&self) -> Fence {
        self.lease().fence
    }

    /// Until when the lock may be believed in: the end of the lease, or of the time that it may be held.
    pub(crate) fn deadline(&self) -> Deadline {
        if self.reason.get().is_some() {
            return Deadline::PASSED;
        }
        let deadline = self.state().deadline;
        self.at_most_until.map_or(deadline, |until| deadline.earlier(Deadline::at(until)))
    }

    /// How long the next renewal asks for: never for less than is left, as after an extension.
    pub(crate) fn renewal_ttl(&self, now: Duration) -> Ttl {
        self.state().deadline.kept_by(now, self.ttl)
    }

    /// Begins a request for a lease of `ttl`, sent at `sent`.
    ///
    /// A shorter lease may be in force from the moment at which the request is sent, whether or not we hear of it. And of
    /// two requests under way at once nobody knows which the store does last, so that the shorter of them counts.
    pub(crate) fn ask(self: &Arc<Self>, sent: Duration, ttl: Ttl) -> Asking {
        let deadline = Deadline::counted_from(sent, ttl);
        let mut state = self.state();
        state.deadline = state.deadline.earlier(deadline);
        state.numbered += 1;
        let mut end = deadline;
        for other in &mut state.asking {
            // Done after this one, it is done after `sent`.
            end = end.earlier(Deadline::counted_from(sent, other.ttl));
            other.end = other.end.earlier(deadline);
        }
        let number = state.numbered;
        state.asking.push(Asked { number, ttl, end });
        Asking { holding: Arc::clone(self), number }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.state().watched
    }

    /// Wants the deadline to be looked at then; answers whether that is sooner than was planned.
    pub(crate) fn look_at(&self, at: Duration) -> bool {
        let mut state = self.state();
        let sooner = state.next_look.is_none_or(|planned| at < planned);
        if sooner {
            state.next_look = Some(at);
        }
        sooner
    }

    /// Begins the look that was planned for `at`; answers whether it still was.
    pub(crate) fn begin_look(&self, at: Duration) -> bool {
        let mut state = self.state();
        let planned = state.next_look == Some(at);
        if planned {
            state.next_look = None;
        }
        planned
    }

    pub(crate) fn be_watched(&self) {
        self.state().watched = true;
    }

    /// Notes that an attempt to renew has failed, so that nothing is known until the next.
    pub(crate) fn renewal_failed(&self) {
        self.state().unknown = true;
    }

    pub(crate) fn end(&self) {
        self.state().ending = true;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state().ending
    }

    /// Says that the lock is lost, for good. Only the first reason counts.
    pub(crate) fn lose(&self, reason: LostReason) {
        if self.reason.set(reason).is_ok() {
            telemetry::lost(self, reason);
            self.lost.cancel();
        }
    }

    /// Says that the lock is lost if its deadline has passed, and answers whether it is lost.
    pub(crate) fn lose_if_over(&self, now: Duration) -> bool {
        if self.reason.get().is_none() && self.deadline().has_passed(now) {
            self.lose(match self.at_most_until {
                Some(until) if until <= now => LostReason::HeldTooLong,
                _ if self.state().unknown => LostReason::StoreUnreachable,
                _ => LostReason::Expired,
            });
        }
        self.reason.get().is_some()
    }

    pub(crate) fn lost_reason(&self) -> Option<LostReason> {
        self.reason.get().copied()
    }

    pub(crate) fn lost_token(&self) -> &CancellationToken {
        &self.lost
    }

    /// Nothing that can panic runs under this mutex.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
