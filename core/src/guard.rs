use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::holding::Holding;
use crate::engine::job::Answered;
use crate::engine::release::Release;
use crate::engine::renewal::FINDING_OUT;
use crate::engine::{Engine, telemetry};
use crate::values::ClientTime;
use crate::{
    Action, DbMutex, DeleteRequest, Deleted, Error, Fence, Invalid, Lease, LockId, LostReason, OwnerToken,
    RenewRequest, Renewed, StoreError, StoreErrorKind, Ttl,
};

/// How long a request of a guard is repeated while its row is locked.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

/// A lock that is held until the guard is released or dropped, or the lease ends.
///
/// Prefer [`release`](Self::release), which reports whether the lock was held to the end.
///
/// # Dropping
///
/// Dropping a guard starts its release in the background and returns at once. The release is not immediate, and cannot
/// report failure. If it never succeeds, the lock expires with its TTL. Dropping never blocks or panics, and needs no
/// runtime.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    mutex: DbMutex,
    holding: Arc<Holding>,
    hold_at_least: Duration,
    released: bool,
    /// Whether an insert of the owner may still take effect, after the release too.
    is_unknown: bool,
}

impl Guard {
    pub(crate) fn new(mutex: DbMutex, holding: Arc<Holding>, hold_at_least: Duration, is_unknown: bool) -> Self {
        Self { mutex, holding, hold_at_least, released: false, is_unknown }
    }

    /// The lock id.
    pub fn lock_id(&self) -> &LockId {
        &self.holding.lock_id
    }

    /// The fencing token of this acquisition, to pass to the resource that the lock protects.
    pub fn fence(&self) -> Fence {
        self.holding.fence()
    }

    /// The lease as the store granted it, by the store's clock. See [`remaining`](Self::remaining) for how much of it is
    /// left.
    pub fn lease(&self) -> Lease {
        self.holding.lease()
    }

    /// The secret that proves this acquisition to the store. It is needed to verify the lock inside a transaction.
    pub fn owner_token(&self) -> &OwnerToken {
        &self.holding.owner
    }

    /// Whether the lock is still held. Does not send a request to the store.
    ///
    /// While it returns `true`, no one else has been granted the lock; see [what it promises](DbMutex#what-it-promises). It
    /// turns `false` before the lease expires in the store, by a safety margin of 5 % of the TTL, at least 100 ms and at
    /// most half of the TTL.
    pub fn is_valid(&self) -> bool {
        !self.holding.deadline().has_passed(self.now())
    }

    /// How long [`is_valid`](Self::is_valid) stays `true` if the lease is not renewed: zero if the lock is lost, `None` if
    /// the lease never ends.
    pub fn remaining(&self) -> Option<Duration> {
        self.holding.deadline().remaining(self.now())
    }

    /// Waits until the lock is lost, and returns the reason.
    ///
    /// Returns no later than [`is_valid`](Self::is_valid) turns `false`, even if a renewal is still in progress.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time.
    pub async fn lost(&self) -> LostReason {
        self.engine().watch(&self.holding);
        loop {
            self.holding.lose_if_over(self.now());
            if let Some(reason) = self.holding.lost_reason() {
                return reason;
            }
            tokio::select! {
                biased;
                () = self.holding.reason_known() => {}
                () = tokio::time::sleep(self.next_check(Duration::ZERO)) => {}
            }
        }
    }

    /// Why the lock was lost; `None` while the lock is not known to be lost.
    pub fn lost_reason(&self) -> Option<LostReason> {
        self.holding.lose_if_over(self.now());
        self.holding.lost_reason()
    }

    /// Returns a token that is cancelled when the lock is lost, for the work under the lock.
    ///
    /// It is cancelled in time even if the runtime of the work is blocked.
    pub fn cancel_token(&self) -> CancellationToken {
        self.engine().watch(&self.holding);
        self.holding.lost_token().child_token()
    }

    /// Waits until no more than `lead` is left of the lease. Keeps waiting as long as the lease is renewed, and forever if
    /// it never expires.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time.
    pub async fn until_expiring(&self, lead: Duration) {
        while self.remaining().is_none_or(|left| left > lead) {
            tokio::time::sleep(self.next_check(lead)).await;
        }
    }

    /// Ensures that at least `duration` remains on the lease, extending it if necessary. Call it before a step that must
    /// complete under the lock.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lock is lost; [`Error::Store`] if the store fails; [`Error::Invalid`] if `duration` is longer
    /// than any TTL.
    ///
    /// # Cancellation safety
    /// Same as [`extend`](Self::extend).
    pub async fn ensure(&self, duration: Duration) -> Result<(), Error> {
        let enough = |guard: &Self| guard.remaining().is_none_or(|left| left >= duration);
        if enough(self) {
            return Ok(());
        }
        // The safety margin is subtracted again, and the request takes time.
        let needed = duration.saturating_mul(10) / 9 + Duration::from_millis(400);
        let ttl = self.holding.ttl.duration().map_or(needed, |ttl| ttl.max(needed));
        self.extend(ttl).await?;
        if enough(self) {
            return Ok(());
        }
        let slow =
            StoreError::new(StoreErrorKind::Unavailable, "the store took too long to extend the lease; try again");
        Err(Error::store(self.lock_id(), Action::Extend, slow))
    }

    /// Extends the lease to last at least `ttl` (a [`Duration`] or a [`Ttl`]) from now.
    ///
    /// A lease is never shortened: if more than `ttl` is left already, nothing changes. An extension cannot be undone:
    /// after `extend(Ttl::NEVER)`, the lease ends only with its release, or by force.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lease is over. [`Error::Store`] if the store fails: the lock then stays valid until
    /// [`remaining`](Self::remaining) is zero, and `extend` may be called again. [`Error::Invalid`] for an invalid TTL.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the lease may have been extended or not. The guard then relies on the end of the lease
    /// that it knows.
    pub async fn extend<V>(&self, ttl: V) -> Result<(), Error>
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        let ttl = ttl.try_into().map_err(Invalid::from)?;
        if self.holding.lose_if_over(self.now()) {
            return Err(self.lost_error());
        }
        let request = RenewRequest::new(self.lock_id().clone(), *self.owner_token(), ttl);
        self.holding.asking(ttl);
        let Answered { result, sent, .. } = self.engine().ask_while_busy(&request, BUSY_LIMIT).await;
        match result {
            // A guard that is no longer valid stays lost, even if no one else has had the lock.
            Ok(Renewed::Renewed(_)) if self.holding.lose_if_over(self.now()) => Err(self.lost_error()),
            Ok(Renewed::Renewed(lease)) => {
                self.holding.renewed(lease, sent, ttl);
                tracing::debug!(lock_id = %self.lock_id(), fence = %lease.fence, %ttl, "extended");
                Ok(())
            }
            Ok(Renewed::NotHeld) => {
                self.engine().not_held(&self.holding);
                self.engine().time.within(2 * FINDING_OUT, self.holding.reason_known()).await;
                self.holding.lose(LostReason::Expired);
                Err(self.lost_error())
            }
            Err(error) => Err(Error::store(self.lock_id(), Action::Extend, error)),
        }
    }

    /// Releases the lock, and reports whether it was held until then.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lease had already ended, so that another holder may have had the lock meanwhile.
    /// [`Error::Store`] if the store fails; the release is then repeated in the background, and the lock expires with its
    /// TTL at the latest.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the release continues in the background, as when the guard is dropped.
    pub async fn release(mut self) -> Result<(), Error> {
        self.end();
        let request = self.delete_request();
        let Answered { result, is_repeat, .. } = self.engine().ask_while_busy(&request, BUSY_LIMIT).await;
        match result {
            Ok(deleted) if deleted == Deleted::Released || deleted == Deleted::Already && is_repeat => {
                self.released = true;
                self.engine().wait_queues.released(self.lock_id());
                Ok(())
            }
            Ok(deleted) => {
                self.released = true;
                self.holding.lose_if_over(self.now());
                if self.lost_reason().is_none() {
                    self.holding.lose(match deleted {
                        Deleted::Already => LostReason::ReleasedByForce,
                        _ => self.engine().why_lost(&self.holding).await,
                    });
                }
                Err(self.lost_error())
            }
            Err(error) => Err(Error::store(self.lock_id(), Action::Release, error)),
        }
    }

    /// Converts the answer of a store that has verified this lock inside a transaction. For implementors of `verify_in`.
    ///
    /// # Errors
    /// [`Error::Lost`] if the store found no lease of this guard: with [`LostReason::Missing`] if it should not have ended yet.
    /// Why it has is then found out, for [`lost`](Self::lost) and [`release`](Self::release). [`Error::Store`] if the store failed.
    pub fn verified(&self, answer: Result<Option<Fence>, StoreError>) -> Result<Fence, Error> {
        match answer {
            Ok(Some(fence)) => Ok(fence),
            Ok(None) => {
                let is_over = self.holding.lose_if_over(self.now());
                let error = self.lost_error();
                if !is_over {
                    self.engine().not_held(&self.holding);
                }
                Err(error)
            }
            Err(error) => Err(Error::store(self.lock_id(), Action::Verify, error)),
        }
    }

    /// Transfers the lock without releasing it. The receiver of the token, which may be another process, continues with
    /// [`Lock::resume`](crate::Lock::resume) before the lease ends. Meanwhile the lease is not renewed.
    pub fn into_owner_token(mut self) -> OwnerToken {
        (self.released, self.is_unknown) = (true, false);
        *self.owner_token()
    }

    /// The error of a lock that was lost, with the first reason that is known.
    fn lost_error(&self) -> Error {
        // As long as it is being found out, the store has no such lease.
        let reason = self.lost_reason().unwrap_or(LostReason::Missing);
        Error::Lost { lock_id: self.lock_id().clone(), reason }
    }

    fn delete_request(&self) -> DeleteRequest {
        DeleteRequest::by_owner(self.lock_id().clone(), *self.owner_token()).hold_at_least(self.hold_at_least)
    }

    /// From now on only deletes are sent for the owner.
    fn end(&self) {
        self.holding.end();
        self.engine().renewal.forget(&self.holding);
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.mutex.shared.engine
    }

    fn now(&self) -> ClientTime {
        self.engine().clock.now()
    }

    /// How long to sleep until `lead` is left. At most a second: tokio's timer stands still while the machine is
    /// suspended, the lease does not.
    fn next_check(&self, lead: Duration) -> Duration {
        let left = self.remaining().map_or(Duration::MAX, |left| left.saturating_sub(lead));
        left.clamp(Duration::from_millis(1), Duration::from_secs(1))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // In a forked child the lock is the parent's, and another thread of it may have held our mutexes.
        if self.engine().forked().is_some() {
            return;
        }
        self.end();
        let held = self.now().since(self.holding.acquired_at);
        telemetry::ended(&self.holding, held, if self.released { "released" } else { "dropped" });
        if !self.released || self.is_unknown {
            let until = self.holding.latest_end(self.now());
            let request = self.delete_request();
            self.engine().release_soon(Release { request, insert: None, is_unknown: self.is_unknown, until });
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("lock_id", self.lock_id())
            .field("fence", &self.fence().get())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
