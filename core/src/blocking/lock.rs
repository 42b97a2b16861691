use std::time::Duration;

use super::Guard;
use super::wait::wait;
use crate::lock::{released, skipped_if_held};
use crate::{Action, Error, Invalid, OwnerToken, RunError, Ttl, WaitLimit};

/// A handle to one lock and its options, returned by [`DbMutex::lock`](super::DbMutex::lock). It holds nothing yet.
///
/// Options that are not set use the mutex's defaults. Invalid options and ids are reported when the lock is acquired. There
/// is no `on_lost`: a closure that blocks can only stop by itself, by checking [`Guard::is_valid`](crate::Guard::is_valid).
///
/// ```
/// # use std::time::Duration;
/// # use db_mutex_core::{DbMutex, Error, testing::MemoryStore};
/// # fn main() -> Result<(), Error> {
/// # let mutex = DbMutex::new(MemoryStore::new())?.blocking();
/// let guard = mutex
///     .lock("billing")
///     .ttl(Duration::from_secs(300))
///     .wait(Duration::from_secs(10))
///     .label("invoices of May")
///     .acquire()?;
/// # guard.release()
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a lock is not acquired until `acquire`, `try_acquire` or `run` is called"]
pub struct Lock {
    lock: crate::Lock,
}

impl From<crate::Lock> for Lock {
    /// Its [`on_lost`](crate::Lock::on_lost) has no effect.
    fn from(lock: crate::Lock) -> Self {
        Self { lock }
    }
}

impl Lock {
    pub(super) fn new(lock: crate::Lock) -> Self {
        Self { lock }
    }

    /// Sets how long the lease lasts: a [`Duration`] or a [`Ttl`]; see [`Lock::ttl`](crate::Lock::ttl).
    pub fn ttl<V>(self, ttl: V) -> Self
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        Self::new(self.lock.ttl(ttl))
    }

    /// Sets how long to wait while another holder has the lock: a [`Duration`] or a [`WaitLimit`]. Default: the mutex's
    /// [`wait`](crate::DbMutexBuilder::wait), which is not to wait unless set in code.
    pub fn wait(self, limit: impl Into<WaitLimit>) -> Self {
        Self::new(self.lock.wait(limit))
    }

    /// Sets how long the lock stays taken after its acquisition, even if it is released sooner; see
    /// [`Lock::hold_at_least`](crate::Lock::hold_at_least).
    pub fn hold_at_least(self, hold_at_least: Duration) -> Self {
        Self::new(self.lock.hold_at_least(hold_at_least))
    }

    /// Sets whether the lease is renewed while the guard lives, on a background thread of the mutex; see
    /// [`Lock::keep_alive`](crate::Lock::keep_alive).
    pub fn keep_alive(self, keep_alive: bool) -> Self {
        Self::new(self.lock.keep_alive(keep_alive))
    }

    /// Sets how long the lock may be held with renewals; see [`Lock::hold_at_most`](crate::Lock::hold_at_most).
    pub fn hold_at_most(self, hold_at_most: Duration) -> Self {
        Self::new(self.lock.hold_at_most(hold_at_most))
    }

    /// Sets a description of why the lock is held. It is appended to the holder's name that others see. Default: no label.
    pub fn label(self, label: impl AsRef<str>) -> Self {
        Self::new(self.lock.label(label))
    }

    /// Acquires the lock, waiting for it up to the [wait limit](Self::wait); see [`Lock::acquire`](crate::Lock::acquire).
    ///
    /// # Errors
    /// Same as there, and [`Error::Invalid`] where blocking [is refused](super#where-it-may-be-called).
    pub fn acquire(&self) -> Result<Guard, Error> {
        self.granted(Action::Acquire, self.lock.acquire())
    }

    /// Acquires the lock if it is free. Never waits for another holder, even if a [wait limit](Self::wait) is set. It
    /// blocks until the store responds.
    ///
    /// # Errors
    /// Same as [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Guard, Error> {
        self.granted(Action::Acquire, self.lock.try_acquire())
    }

    /// Acquires the lock like [`acquire`](Self::acquire), runs `body` on this thread, releases the lock, and returns the
    /// output of `body`.
    ///
    /// The output of `body` always reaches the caller, even if it is an error. If the release fails afterwards, a warning
    /// is logged, and the lock expires with its TTL. If `body` panics, the lock is released as when a guard is dropped.
    ///
    /// # Errors
    /// [`RunError::Acquire`] with the error of [`acquire`](Self::acquire), and [`RunError::Lost`] if the lock was lost before
    /// `body` ended; it contains the output of `body`.
    pub fn run<T>(&self, body: impl FnOnce(&Guard) -> T) -> Result<T, RunError<T>> {
        let _span = tracing::debug_span!("run", lock_id = self.lock.name()).entered();
        let guard = self.acquire()?;
        let lock_id = guard.lock_id().clone();
        let output = body(&guard);
        let was_valid = guard.is_valid();
        released(lock_id, guard.release(), was_valid, output)
    }

    /// Runs `body` under the lock like [`run`](Self::run). If the lock is held, logs that at level `INFO` and returns `None`.
    ///
    /// # Errors
    /// Same as [`run`](Self::run), but never [`Error::Held`].
    pub fn run_or_skip<T>(&self, body: impl FnOnce(&Guard) -> T) -> Result<Option<T>, RunError<T>> {
        skipped_if_held(self.run(body))
    }

    /// Takes over a lock that another guard handed over with [`Guard::into_owner_token`]; see
    /// [`Lock::resume`](crate::Lock::resume).
    ///
    /// # Errors
    /// Same as there, and [`Error::Invalid`] where blocking [is refused](super#where-it-may-be-called).
    pub fn resume(&self, owner: OwnerToken) -> Result<Guard, Error> {
        self.granted(Action::Resume, self.lock.resume(owner))
    }

    fn granted(
        &self,
        action: Action,
        acquiring: impl Future<Output = Result<crate::Guard, Error>>,
    ) -> Result<Guard, Error> {
        let lock_id = self.lock.lock_id.as_ref().ok();
        wait(&self.lock.mutex.shared.engine, (action, lock_id), acquiring).map(Guard::from)
    }
}
