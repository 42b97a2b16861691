use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::engine::deadline::Deadline;
use crate::engine::release::Release;
use crate::engine::renewal::Due;
use crate::engine::telemetry;
use crate::values::ClientTime;
use crate::{Fence, InsertRequest, Lease, LockId, LostReason, OwnerToken, Ttl};

/// A held lock: what its guard and the renewal share.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) lock_id: LockId,
    pub(crate) owner: OwnerToken,
    /// The TTL of each renewal.
    pub(crate) ttl: Ttl,
    /// When the lock was acquired, on the client's clock.
    pub(crate) acquired_at: ClientTime,
    /// When renewing stops, on the client's clock.
    pub(crate) at_most_until: Option<ClientTime>,
    state: Mutex<State>,
    due: Mutex<Scheduled>,
    lost: CancellationToken,
    reason: OnceLock<LostReason>,
    known: Notify,
}

/// What changes while the lock is held.
#[derive(Debug)]
struct State {
    lease: Lease,
    deadline: Deadline,
    /// The last attempt to renew has failed.
    unknown: bool,
    /// The guard is releasing the lock: the answer "not held" no longer means a loss.
    ending: bool,
    /// The store has reported that the lock is not held; the reason is being determined.
    invalid: bool,
    /// The longest TTL that was requested, including failed requests.
    longest: Ttl,
}

/// When the renewal is due to act on a lease.
#[derive(Debug, Default)]
pub(crate) struct Scheduled {
    pub(crate) renewal: Option<Due>,
    pub(crate) deadline: Option<Due>,
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
            state: Mutex::new(State { lease, deadline, unknown: false, ending: false, invalid: false, longest: ttl }),
            due: Mutex::default(),
            lost: CancellationToken::new(),
            reason: OnceLock::new(),
            known: Notify::new(),
        }
    }

    pub(crate) fn lease(&self) -> Lease {
        self.state().lease
    }

    pub(crate) fn fence(&self) -> Fence {
        self.lease().fence
    }

    /// Until when the holder may rely on the lock: the end of the lease, or of the time that it may be held.
    pub(crate) fn deadline(&self) -> Deadline {
        if self.reason.get().is_some() {
            return Deadline::PASSED;
        }
        let State { deadline, invalid, .. } = *self.state();
        if invalid {
            return Deadline::PASSED;
        }
        self.at_most_until.map_or(deadline, |until| deadline.earlier(Deadline::at(until)))
    }

    /// Takes a renewal into account: the store has renewed the lease for `ttl`, for a request that was sent at `sent`.
    ///
    /// A renewal never shortens a lease, so the later of two ends is certain, in any order of the answers.
    pub(crate) fn renewed(&self, lease: Lease, sent: ClientTime, ttl: Ttl) {
        let mut state = self.state();
        state.deadline = state.deadline.later(Deadline::counted_from(sent, ttl));
        state.unknown = false;
        if lease.expires_at > state.lease.expires_at {
            state.lease = lease;
        }
    }

    /// When the renewal is due to act: only the renewal changes it.
    pub(crate) fn due(&self) -> MutexGuard<'_, Scheduled> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the store has reported the lock as not held: it is no longer valid, and the reason follows.
    pub(crate) fn invalidate(&self) {
        self.state().invalid = true;
        self.lost.cancel();
    }

    /// Waits until the reason for the loss is known.
    pub(crate) async fn reason_known(&self) {
        let known = self.known.notified();
        if self.reason.get().is_none() {
            known.await;
        }
    }

    /// Whether there is nothing more to renew or to watch.
    pub(crate) fn is_over(&self) -> bool {
        self.reason.get().is_some() || self.is_ending()
    }

    /// When the lease is over in any case, even if the last renewal got no reply; `None` if it never is.
    pub(crate) fn latest_end(&self, now: ClientTime) -> Option<ClientTime> {
        let State { deadline, longest, .. } = *self.state();
        let known = deadline.remaining(now)?;
        Some(Release::end_of(longest, now)?.max(now + known + known / 10))
    }

    /// Notes that the store is asked to renew the lease for `ttl`.
    pub(crate) fn asking(&self, ttl: Ttl) {
        let mut state = self.state();
        let length = |ttl: Ttl| ttl.duration().unwrap_or(Duration::MAX);
        if length(ttl) > length(state.longest) {
            state.longest = ttl;
        }
    }

    /// Notes that an attempt to renew has failed; the next one decides.
    pub(crate) fn renewal_failed(&self) {
        self.state().unknown = true;
    }

    pub(crate) fn end(&self) {
        self.state().ending = true;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state().ending
    }

    /// Marks the lock as lost, permanently. Only the first reason counts.
    pub(crate) fn lose(&self, reason: LostReason) {
        if self.reason.set(reason).is_ok() {
            telemetry::lost(self, reason);
            self.lost.cancel();
            self.known.notify_waiters();
        }
    }

    /// Marks the lock as lost if its deadline has passed. Returns whether it is lost.
    pub(crate) fn lose_if_over(&self, now: ClientTime) -> bool {
        if self.state().invalid {
            return true;
        }
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
