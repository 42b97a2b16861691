use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::{
    DbMutex, DeleteRequest, Deleted, Error, Fence, InsertRequest, Invalid, Lease, LockId, OwnerToken, RenewRequest,
    Renewed, Ttl,
};

/// Holds a lock until it is released or dropped, or until its lease ends.
///
/// Prefer [`release`](Self::release), which tells whether the lock was kept to the end. Dropping hands the release to a
/// background worker and returns at once: it is not immediate, cannot tell of a failure, and is what the TTL is the
/// backstop of. Dropping never blocks or panics, and needs no runtime.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    mutex: DbMutex,
    lock_id: LockId,
    owner: OwnerToken,
    hold_at_least: Duration,
    held: Mutex<Held>,
    released: bool,
}

/// What a renewal changes.
#[derive(Clone, Copy)]
struct Held {
    lease: Lease,
    deadline: Deadline,
}

impl Guard {
    pub(crate) fn new(
        mutex: DbMutex,
        request: &InsertRequest,
        lease: Lease,
        deadline: Deadline,
        hold_at_least: Duration,
    ) -> Self {
        Self {
            mutex,
            lock_id: request.lock_id.clone(),
            owner: request.owner,
            hold_at_least,
            held: Mutex::new(Held { lease, deadline }),
            released: false,
        }
    }

    /// Which lock it is.
    pub fn lock_id(&self) -> &LockId {
        &self.lock_id
    }

    /// The fencing token of this acquisition, to pass to the resource that the lock protects.
    pub fn fence(&self) -> Fence {
        self.held().lease.fence
    }

    /// What the store granted, in the store's time; [`remaining`](Self::remaining) is what counts here.
    pub fn lease(&self) -> Lease {
        self.held().lease
    }

    /// The secret that proves this acquisition to the store: what verifying inside a transaction asks for.
    pub fn owner(&self) -> &OwnerToken {
        &self.owner
    }

    /// Whether the lock is still held, as far as can be known without asking the store.
    ///
    /// While it answers `true` nobody else has been granted the lock; see the [promises](DbMutex#what-it-promises). It
    /// turns `false` a safety margin before the store lets the lease expire: 5 % of the TTL, at least 100 ms, at most
    /// half of the TTL.
    pub fn is_valid(&self) -> bool {
        !self.held().deadline.has_passed(self.mutex.shared.clock.elapsed())
    }

    /// For how long [`is_valid`](Self::is_valid) stays `true` from now on: zero when it no longer is, `None` when the
    /// lease never expires.
    pub fn remaining(&self) -> Option<Duration> {
        self.held().deadline.remaining(self.mutex.shared.clock.elapsed())
    }

    /// Lets the lease last `ttl` (a [`Duration`] or a [`Ttl`]) from now on, longer or shorter than what was left.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the lease is over: the lock is lost. [`Error::Store`] when the store fails, which does
    /// not mean that: the lock stays valid until [`remaining`](Self::remaining) is zero, and extending may be tried
    /// again. [`Error::Invalid`] for a TTL that is not valid.
    ///
    /// # Cancellation safety
    /// When the future is dropped the lease may have been extended or not; the guard counts on the earlier end.
    pub async fn extend<V>(&self, ttl: V) -> Result<(), Error>
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        let ttl = ttl.try_into().map_err(Invalid::from)?;
        let shared = &self.mutex.shared;
        let extended = Deadline::counted_from(shared.clock.elapsed(), ttl);
        // A shorter lease may be in force from the moment at which the request is sent, whether or not we hear of it.
        self.change(|held| held.deadline = held.deadline.earlier(extended));
        match shared.store.renew(&RenewRequest::new(self.lock_id.clone(), self.owner, ttl)).await {
            Ok(Renewed::Renewed(lease)) => {
                self.change(|held| *held = Held { lease, deadline: extended });
                tracing::debug!(lock_id = %self.lock_id, fence = %lease.fence, %ttl, "extended");
                Ok(())
            }
            Ok(Renewed::NotHeld) => {
                self.change(|held| held.deadline = Deadline::PASSED);
                Err(self.timed_out())
            }
            Err(error) => Err(Error::store(&self.lock_id, "extend", error)),
        }
    }

    /// Releases the lock, and tells whether it was kept until now.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the lease had ended before, so that somebody else may have had the lock meanwhile.
    /// [`Error::Store`] when the store fails; the release is then tried again in the background, and the lock ends
    /// with its TTL at the latest.
    ///
    /// # Cancellation safety
    /// When the future is dropped the release goes on in the background, as when the guard is dropped.
    pub async fn release(mut self) -> Result<(), Error> {
        match self.mutex.shared.store.delete(&self.delete_request()).await {
            Ok(deleted) => {
                self.released = true;
                match deleted {
                    Deleted::Released => {
                        tracing::debug!(lock_id = %self.lock_id, fence = %self.fence(), "released");
                        Ok(())
                    }
                    Deleted::NotHeld => Err(self.timed_out()),
                }
            }
            Err(error) => Err(Error::store(&self.lock_id, "release", error)),
        }
    }

    fn timed_out(&self) -> Error {
        tracing::warn!(lock_id = %self.lock_id, fence = %self.fence(), "the lock was lost");
        Error::TimedOut { lock_id: self.lock_id.clone(), output: () }
    }

    fn delete_request(&self) -> DeleteRequest {
        DeleteRequest::by_owner(self.lock_id.clone(), self.owner).hold_at_least(self.hold_at_least)
    }

    fn held(&self) -> Held {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.released {
            self.mutex.shared.releaser.release_soon(self.delete_request());
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("lock_id", &self.lock_id)
            .field("fence", &self.fence().get())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
