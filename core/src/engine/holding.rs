use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::engine::deadline::Deadline;
use crate::engine::telemetry;
use crate::values::ClientTime;
use crate::{Fence, InsertRequest, Lease, LockId, LostReason, OwnerToken, Ttl};

/// A lock that is held: what its guard and the renewal share.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) lock_id: LockId,
    pub(crate) owner: OwnerToken,
    /// How long each renewal asks for.
    pub(crate) ttl: Ttl,
    /// When the lock was acquired, on the client's clock.
    pub(crate) acquired_at: ClientTime,
    /// When renewing stops, on the client's clock.
    pub(crate) at_most_until: Option<ClientTime>,
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
    /// The guard releases the lock: an answer "not held" is no news any more.
    ending: bool,
    /// When the renewal's task checks the deadline next, on the client's clock.
    next_check: Option<ClientTime>,
}

impl Holding {
    pub(crate) fn new(
        request: &InsertRequest,
        ttl: Ttl,
        lease: Lease,
        deadline: Deadline,
        acquired_at: ClientTime,
        at_most_until: Option<ClientTime>,
    ) -> Self {
        Self {
            lock_id: request.lock_id.clone(),
            owner: request.owner,
            ttl,
            acquired_at,
            at_most_until,
            state: Mutex::new(State { lease, deadline, unknown: false, ending: false, next_check: None }),
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

    /// Takes into account that the store has renewed the lease for `ttl`, upon a request that was sent at `sent`.
    ///
    /// A renewal never shortens a lease, so the later of two ends is certain, in whichever order the answers arrive.
    pub(crate) fn renewed(&self, lease: Lease, sent: ClientTime, ttl: Ttl) {
        let mut state = self.state();
        state.deadline = state.deadline.later(Deadline::counted_from(sent, ttl));
        state.unknown = false;
        if lease.expires_at > state.lease.expires_at {
            state.lease = lease;
        }
    }

    /// Schedules a deadline check; returns whether it is earlier than the one already scheduled.
    pub(crate) fn schedule_check(&self, at: ClientTime) -> bool {
        let mut state = self.state();
        let sooner = state.next_check.is_none_or(|scheduled| at < scheduled);
        if sooner {
            state.next_check = Some(at);
        }
        sooner
    }

    /// Begins the check that was scheduled for `at`; returns whether it still was.
    pub(crate) fn begin_check(&self, at: ClientTime) -> bool {
        let mut state = self.state();
        let scheduled = state.next_check == Some(at);
        if scheduled {
            state.next_check = None;
        }
        scheduled
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
    pub(crate) fn lose_if_over(&self, now: ClientTime) -> bool {
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
