use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::engine::busy::WhileBusy;
use crate::engine::holding::Holding;
use crate::engine::telemetry;
use crate::{
    DbMutex, DeleteRequest, Deleted, Error, Fence, Invalid, Lease, LockId, LostReason, OwnerToken, RenewRequest,
    Renewed, StoreError, StoreErrorKind, Ttl,
};

/// How long a request of a guard is repeated while its row is locked.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

/// Holds a lock until it is released or dropped, or until its lease ends.
///
/// Prefer [`release`](Self::release), which tells whether the lock was kept to the end. Dropping hands the release to a
/// background worker and returns at once: it is not immediate, cannot tell of a failure, and is what the TTL is the
/// backstop of. Dropping never blocks or panics, and needs no runtime.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    mutex: DbMutex,
    holding: Arc<Holding>,
    hold_at_least: Duration,
    released: bool,
}

impl Guard {
    pub(crate) fn new(mutex: DbMutex, holding: Arc<Holding>, hold_at_least: Duration) -> Self {
        Self { mutex, holding, hold_at_least, released: false }
    }

    /// Which lock it is.
    pub fn lock_id(&self) -> &LockId {
        &self.holding.lock_id
    }

    /// The fencing token of this acquisition, to pass to the resource that the lock protects.
    pub fn fence(&self) -> Fence {
        self.holding.fence()
    }

    /// What the store granted, in the store's time; [`remaining`](Self::remaining) is what counts here.
    pub fn lease(&self) -> Lease {
        self.holding.lease()
    }

    /// The secret that proves this acquisition to the store: what verifying inside a transaction asks for.
    pub fn owner(&self) -> &OwnerToken {
        &self.holding.owner
    }

    /// Whether the lock is still held, as far as can be known without asking the store.
    ///
    /// While it answers `true` nobody else has been granted the lock; see the [promises](DbMutex#what-it-promises). It
    /// turns `false` a safety margin before the store lets the lease expire: 5 % of the TTL, at least 100 ms, at most
    /// half of the TTL.
    pub fn is_valid(&self) -> bool {
        !self.holding.deadline().has_passed(self.now())
    }

    /// For how long [`is_valid`](Self::is_valid) stays `true` from now on, unless the lease is renewed: zero when it no
    /// longer is, `None` when it never ends.
    pub fn remaining(&self) -> Option<Duration> {
        self.holding.deadline().remaining(self.now())
    }

    /// Waits until the lock is lost, and answers why.
    ///
    /// That is at the latest when [`is_valid`](Self::is_valid) turns `false`, whatever an attempt to renew waits for.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time.
    pub async fn lost(&self) -> LostReason {
        self.mutex.shared.renewal.watch(&self.holding);
        loop {
            self.holding.lose_if_over(self.now());
            if let Some(reason) = self.holding.lost_reason() {
                return reason;
            }
            tokio::select! {
                biased;
                () = self.holding.lost_token().cancelled() => {}
                () = tokio::time::sleep(self.next_look(Duration::ZERO)) => {}
            }
        }
    }

    /// Why the lock was lost; `None` while it is not known to be.
    pub fn lost_reason(&self) -> Option<LostReason> {
        self.holding.lose_if_over(self.now());
        self.holding.lost_reason()
    }

    /// A token that is cancelled when the lock is lost, to be handed to what works under the lock.
    ///
    /// It needs the runtime in which it is called, or the one in which the lock was acquired.
    pub fn lost_token(&self) -> CancellationToken {
        self.mutex.shared.renewal.watch(&self.holding);
        self.holding.lost_token().child_token()
    }

    /// Waits until no more than `lead` is left of the lock; at once if less is left already. A lock that is renewed, or
    /// never ends, lets it wait on.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time.
    pub async fn on_expiring(&self, lead: Duration) {
        while self.remaining().is_none_or(|left| left > lead) {
            tokio::time::sleep(self.next_look(lead)).await;
        }
    }

    /// Sees to it that at least `duration` is left of the lock, and extends it if need be: before a step that must not be
    /// overtaken.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the lock is lost; [`Error::Store`] when the store fails; [`Error::Invalid`] when no TTL is
    /// that long.
    ///
    /// # Cancellation safety
    /// As [`extend`](Self::extend).
    pub async fn ensure(&self, duration: Duration) -> Result<(), Error> {
        let enough = |guard: &Self| guard.remaining().is_none_or(|left| left >= duration);
        if enough(self) {
            return Ok(());
        }
        // The margin comes off again, and a moment passes on the way.
        let needed = duration.saturating_mul(10) / 9 + Duration::from_millis(400);
        let ttl = self.holding.ttl.duration().map_or(needed, |ttl| ttl.max(needed));
        self.extend(ttl).await?;
        if enough(self) {
            return Ok(());
        }
        let slow =
            StoreError::new(StoreErrorKind::Unavailable, "the store took too long to extend the lease; try again");
        Err(Error::store(self.lock_id(), "extend", slow))
    }

    /// Extends the lease so that it lasts at least `ttl` (a [`Duration`] or a [`Ttl`]) from now on.
    ///
    /// A lease is never shortened: if more than `ttl` is left already, nothing changes. An extension cannot be undone
    /// either; after `extend(Ttl::NEVER)` the lease ends with its release, or by force.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if the lease is over: the lock is lost. [`Error::Store`] if the store fails, which does not mean
    /// that: the lock stays valid until [`remaining`](Self::remaining) is zero, and extending may be tried again.
    /// [`Error::Invalid`] for an invalid TTL.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the lease may have been extended or not; the guard counts on the end that it knows of.
    pub async fn extend<V>(&self, ttl: V) -> Result<(), Error>
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        let ttl = ttl.try_into().map_err(Invalid::from)?;
        if self.holding.lose_if_over(self.now()) {
            return Err(self.timed_out());
        }
        let request = RenewRequest::new(self.lock_id().clone(), *self.owner(), ttl);
        let mut busy = WhileBusy::at_most(BUSY_LIMIT);
        loop {
            let sent = self.now();
            return match self.mutex.shared.store.renew(&request).await {
                // A guard that is not valid any more stays lost, although no one else may have had the lock.
                Ok(Renewed::Renewed(_)) if self.holding.lose_if_over(self.now()) => Err(self.timed_out()),
                Ok(Renewed::Renewed(lease)) => {
                    self.holding.renewed(lease, sent, ttl);
                    tracing::debug!(lock_id = %self.lock_id(), fence = %lease.fence, %ttl, "extended");
                    Ok(())
                }
                Ok(Renewed::NotHeld) => {
                    self.holding.lose(LostReason::Expired);
                    Err(self.timed_out())
                }
                Err(error) if busy.repeats(&error).await => continue,
                Err(error) => Err(Error::store(self.lock_id(), "extend", error)),
            };
        }
    }

    /// Releases the lock, and reports whether it was held until now.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if the lease had ended before, so that another holder may have had the lock meanwhile.
    /// [`Error::Store`] if the store fails; the release is then tried again in the background, and the lock ends
    /// with its TTL at the latest.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the release goes on in the background, as when the guard is dropped.
    pub async fn release(mut self) -> Result<(), Error> {
        self.holding.end();
        let request = self.delete_request();
        let mut busy = WhileBusy::at_most(BUSY_LIMIT);
        loop {
            return match self.mutex.shared.store.delete(&request).await {
                Ok(deleted) => {
                    self.released = true;
                    // Released already: through another guard of the same owner token, or by force.
                    if deleted != Deleted::Released {
                        return Err(self.timed_out());
                    }
                    self.mutex.shared.queue.released(self.lock_id());
                    Ok(())
                }
                Err(error) if busy.repeats(&error).await => continue,
                Err(error) => Err(Error::store(self.lock_id(), "release", error)),
            };
        }
    }

    /// Gives the lock away without releasing it: whoever has the token goes on with [`Lock::resume`](crate::Lock::resume),
    /// in another process too, until the lease ends. Nothing renews it meanwhile.
    pub fn into_token(mut self) -> OwnerToken {
        self.released = true;
        *self.owner()
    }

    fn timed_out(&self) -> Error {
        Error::TimedOut { lock_id: self.lock_id().clone(), output: () }
    }

    fn delete_request(&self) -> DeleteRequest {
        DeleteRequest::by_owner(self.lock_id().clone(), *self.owner()).hold_at_least(self.hold_at_least)
    }

    fn now(&self) -> Duration {
        self.mutex.shared.clock.elapsed()
    }

    /// How long to sleep until `lead` is left. At most a second: tokio's timer stands still while the machine is
    /// suspended, the lease does not.
    fn next_look(&self, lead: Duration) -> Duration {
        let left = self.remaining().map_or(Duration::MAX, |left| left.saturating_sub(lead));
        left.clamp(Duration::from_millis(1), Duration::from_secs(1))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.holding.end();
        let held = self.now().saturating_sub(self.holding.acquired_at);
        telemetry::ended(&self.holding, held, if self.released { "released" } else { "dropped" });
        if !self.released {
            self.mutex.shared.releaser.release_soon(self.delete_request());
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
