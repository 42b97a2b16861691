use std::ops::Deref;
use std::time::Duration;

use super::wait::wait;
use crate::{Action, Error, Invalid, LostReason, OwnerToken, Ttl};

/// A lock that is held until the guard is released or dropped, or the lease ends.
///
/// It dereferences to the async [`Guard`](crate::Guard), whose methods that do not wait can be called: `is_valid`,
/// `remaining`, `fence` and others. `verify_in` and `blocking_verify_with` of a store accept a reference to it.
///
/// Prefer [`release`](Self::release), which reports whether the lock was held to the end.
///
/// # Dropping
///
/// Dropping a guard starts its release in the background and returns at once, on any thread; see [the async
/// guard](crate::Guard#dropping).
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    guard: crate::Guard,
}

impl From<crate::Guard> for Guard {
    fn from(guard: crate::Guard) -> Self {
        Self { guard }
    }
}

impl From<Guard> for crate::Guard {
    fn from(blocking: Guard) -> Self {
        blocking.guard
    }
}

impl Deref for Guard {
    type Target = crate::Guard;

    fn deref(&self) -> &crate::Guard {
        &self.guard
    }
}

impl Guard {
    /// Extends the lease to last at least `ttl` (a [`Duration`] or a [`Ttl`]) from now; see
    /// [`Guard::extend`](crate::Guard::extend).
    ///
    /// # Errors
    /// Same as there, and [`Error::Invalid`] where blocking [is refused](super#where-it-may-be-called).
    pub fn extend<V>(&self, ttl: V) -> Result<(), Error>
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        self.wait(Action::Extend, self.guard.extend(ttl))
    }

    /// Ensures that at least `duration` remains on the lease, extending it if necessary. Call it before a step that must
    /// complete under the lock.
    ///
    /// # Errors
    /// Same as [`Guard::ensure`](crate::Guard::ensure), and [`Error::Invalid`] where blocking
    /// [is refused](super#where-it-may-be-called).
    pub fn ensure(&self, duration: Duration) -> Result<(), Error> {
        self.wait(Action::Extend, self.guard.ensure(duration))
    }

    /// Blocks until the lock is lost, and returns the reason. For a thread that monitors the work of another; see
    /// [`Guard::lost`](crate::Guard::lost).
    ///
    /// # Errors
    /// [`Error::Invalid`] where blocking [is refused](super#where-it-may-be-called); [`Error::Store`] if the mutex has no thread.
    pub fn lost(&self) -> Result<LostReason, Error> {
        self.wait(Action::Read, async { Ok(self.guard.lost().await) })
    }

    /// Blocks until no more than `lead` is left of the lease; see [`Guard::until_expiring`](crate::Guard::until_expiring).
    ///
    /// # Errors
    /// Same as [`lost`](Self::lost).
    pub fn until_expiring(&self, lead: Duration) -> Result<(), Error> {
        self.wait(Action::Read, async {
            self.guard.until_expiring(lead).await;
            Ok(())
        })
    }

    /// Releases the lock, and reports whether it was held until then.
    ///
    /// # Errors
    /// Same as [`Guard::release`](crate::Guard::release). [`Error::Invalid`] where blocking
    /// [is refused](super#where-it-may-be-called); the lock is then released in the background, as when the guard is dropped.
    pub fn release(self) -> Result<(), Error> {
        let (engine, lock_id) = (self.guard.engine().clone(), self.lock_id().clone());
        wait(&engine, (Action::Release, Some(&lock_id)), self.guard.release())
    }

    /// Transfers the lock without releasing it; see [`Guard::into_owner_token`](crate::Guard::into_owner_token).
    pub fn into_owner_token(self) -> OwnerToken {
        self.guard.into_owner_token()
    }

    fn wait<T>(&self, action: Action, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        wait(self.guard.engine(), (action, Some(self.lock_id())), work)
    }
}
