use std::time::Duration;

use tracing::Instrument;

use crate::acquire::Acquisition;
use crate::options::{OnLost, Options};
use crate::{DbMutex, Error, Guard, Invalid, LockId, LostReason, OwnerToken, RunError, Ttl, WaitLimit};

/// A handle to one lock and its options, returned by [`DbMutex::lock`]. It holds nothing yet.
///
/// Options that are not set use the mutex's defaults. Invalid options and ids are reported when the lock is acquired.
///
/// ```
/// # use std::time::Duration;
/// # use db_mutex_core::{DbMutex, testing::MemoryStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), db_mutex_core::Error> {
/// # let mutex = DbMutex::new(MemoryStore::new())?;
/// let guard = mutex
///     .lock("billing")
///     .ttl(Duration::from_secs(300))
///     .wait(Duration::from_secs(10))
///     .label("invoices of May")
///     .acquire()
///     .await?;
/// # guard.release().await
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a lock is not acquired until `acquire`, `try_acquire` or `run` is awaited"]
pub struct Lock {
    pub(crate) mutex: DbMutex,
    pub(crate) lock_id: Result<LockId, Invalid>,
    pub(crate) options: Options,
}

impl Lock {
    pub(crate) fn new(mutex: DbMutex, lock_id: &str) -> Self {
        Self { lock_id: LockId::new(lock_id), options: mutex.shared.options.clone(), mutex }
    }

    /// Sets how long the lease lasts: a [`Duration`] or a [`Ttl`]. Default: the mutex's
    /// [`ttl`](crate::DbMutexBuilder::ttl), which is 30 minutes unless set in code or by `DB_MUTEX_TTL_SECONDS`.
    pub fn ttl<V>(mut self, ttl: V) -> Self
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        self.options.set_ttl(ttl);
        self
    }

    /// Sets how long to wait while another holder has the lock: a [`Duration`] or a [`WaitLimit`]. Default: the mutex's
    /// [`wait`](crate::DbMutexBuilder::wait). If that is not set either, [`acquire`](Self::acquire) does not wait.
    pub fn wait(mut self, limit: impl Into<WaitLimit>) -> Self {
        self.options.wait = limit.into();
        self
    }

    /// Sets how long the lock stays taken after its acquisition, even if it is released sooner; at most the TTL. Default:
    /// the mutex's [`hold_at_least`](crate::DbMutexBuilder::hold_at_least), which is zero unless set in code.
    pub fn hold_at_least(mut self, hold_at_least: Duration) -> Self {
        self.options.hold_at_least = hold_at_least;
        self
    }

    /// Sets whether the lease is renewed while the guard lives. Default: the mutex's
    /// [`keep_alive`](crate::DbMutexBuilder::keep_alive), which is `false` unless set in code.
    ///
    /// With renewal, a short TTL suits a job of unknown length: after a crash, others wait no longer than the TTL. The
    /// lease is renewed when a third of the TTL has passed. Failed attempts are repeated until the lease ends. Renewals run
    /// on a background thread of the mutex, so the work under the lock may block its own runtime.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.options.keep_alive = keep_alive;
        self
    }

    /// Sets how long the lock may be held with renewals. After that it counts as lost, even if the lease has not ended, so
    /// that a hung job cannot block others forever. Default: no limit.
    pub fn hold_at_most(mut self, hold_at_most: Duration) -> Self {
        self.options.hold_at_most = Some(hold_at_most);
        self
    }

    /// Sets what [`run`](Self::run) does with its closure when the lock is lost. Default: [`OnLost::Finish`].
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.options.on_lost = on_lost;
        self
    }

    /// Sets a description of why the lock is held. It is appended to the holder's name that others see. Default: no label.
    pub fn label(mut self, label: impl AsRef<str>) -> Self {
        let name = self.mutex.shared.options.holder.clone();
        self.options.holder = name.and_then(|name| name.labelled(label.as_ref()));
        self
    }

    /// Acquires the lock, waiting for it up to the [wait limit](Self::wait).
    ///
    /// Waiters of this mutex and its clones are served in order of arrival, and only the first of them sends requests to
    /// the store. A release in the same process wakes it at once. There is no order between processes. If the store fails
    /// for a reason that may be temporary, the attempt is repeated until the wait limit.
    ///
    /// # Errors
    /// [`Error::Held`] if another holder kept the lock for the whole wait limit; [`Error::Store`] if the store fails, which
    /// says nothing about who holds the lock; [`Error::Invalid`] for an invalid id or option.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time. If the lock has been granted, it is released in the background.
    pub async fn acquire(&self) -> Result<Guard, Error> {
        self.acquire_within(self.options.wait).await
    }

    /// Acquires the lock if it is free. Never waits for another holder, even if a [wait limit](Self::wait) is set.
    ///
    /// # Errors
    /// Same as [`acquire`](Self::acquire).
    ///
    /// # Cancellation safety
    /// Same as [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Guard, Error> {
        self.acquire_within(WaitLimit::DontWait).await
    }

    /// Acquires the lock like [`acquire`](Self::acquire), runs `body`, releases the lock, and returns the output of `body`.
    ///
    /// The output of `body` always reaches the caller, even if it is an error. If the release fails afterwards, a warning
    /// is logged, and the lock expires with its TTL. If `body` panics, the lock is released as when a guard is dropped.
    ///
    /// # Errors
    /// [`RunError::Acquire`] with the error of [`acquire`](Self::acquire), and [`RunError::Lost`] if the lock was lost
    /// before `body` ended; it contains the output of `body`, unless `body` was dropped ([`OnLost::Drop`]).
    ///
    /// # Cancellation safety
    /// If the future is dropped, `body` is dropped at its current await point, and the lock is released in the background.
    pub async fn run<T>(&self, body: impl AsyncFnOnce(&Guard) -> T) -> Result<T, RunError<T>> {
        self.run_here(body).instrument(tracing::debug_span!("run", lock_id = self.name())).await
    }

    /// Runs `body` under the lock like [`run`](Self::run). If the lock is held, logs that at level `INFO` and returns `None`.
    ///
    /// # Errors
    /// Same as [`run`](Self::run), but never [`Error::Held`].
    ///
    /// # Cancellation safety
    /// Same as [`run`](Self::run).
    pub async fn run_or_skip<T>(&self, body: impl AsyncFnOnce(&Guard) -> T) -> Result<Option<T>, RunError<T>> {
        skipped_if_held(self.run(body).await)
    }

    /// Takes over a lock that a guard in this or another process has handed over with [`Guard::into_owner_token`].
    ///
    /// If a TTL was set in code, on the lock or the mutex, the lease is extended to last at least that long from now.
    /// Otherwise the lease stays as it is, and renewals use the longest TTL that it was acquired or renewed with. (The
    /// default TTL and `DB_MUTEX_TTL_SECONDS` apply only to locks that are acquired here.) A lease is never shortened.
    ///
    /// A command that was started by `db-mutex run` can resume the lock that it runs under: the environment variable
    /// `DB_MUTEX_OWNER` contains the owner token, which [`OwnerToken::from_hex`] reads. Both then hold the lock, and the
    /// first release by either ends it.
    ///
    /// # Errors
    /// [`Error::Lost`] if that owner no longer holds the lock. [`Error::Store`] if the store fails, which says nothing
    /// about the lock. [`Error::Invalid`] for an invalid id or option.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the lease may have been extended.
    pub async fn resume(&self, owner: OwnerToken) -> Result<Guard, Error> {
        Acquisition::of_owner(self, Some(owner))?.resume().await
    }

    async fn acquire_within(&self, limit: WaitLimit) -> Result<Guard, Error> {
        let span = tracing::debug_span!("acquire", lock_id = self.name());
        async { Acquisition::of_owner(self, None)?.within(limit).await }.instrument(span).await
    }

    async fn run_here<T>(&self, body: impl AsyncFnOnce(&Guard) -> T) -> Result<T, RunError<T>> {
        let guard = self.acquire().await?;
        let lock_id = guard.lock_id().clone();
        let output = match self.options.on_lost {
            OnLost::Finish => body(&guard).await,
            OnLost::Drop => tokio::select! {
                biased;
                output = body(&guard) => output,
                reason = guard.lost() => {
                    let _ = guard.release().await;
                    return Err(RunError::Lost { lock_id, reason, output: None });
                }
            },
        };
        let was_valid = guard.is_valid();
        released(lock_id, guard.release().await, was_valid, output)
    }

    /// The lock id, if it is valid.
    pub(crate) fn name(&self) -> &str {
        self.lock_id.as_ref().map_or("", LockId::as_str)
    }
}

/// The result of running a closure, given the result of the release.
pub(crate) fn released<T>(
    lock_id: LockId,
    release: Result<(), Error>,
    was_valid: bool,
    output: T,
) -> Result<T, RunError<T>> {
    match release {
        Ok(()) => Ok(output),
        Err(Error::Lost { reason, .. }) => Err(RunError::Lost { lock_id, reason, output: Some(output) }),
        Err(error) if was_valid => {
            tracing::warn!(%lock_id, %error, "the work is done, but the lock could not be released");
            Ok(output)
        }
        Err(_) => Err(RunError::Lost { lock_id, reason: LostReason::StoreUnreachable, output: Some(output) }),
    }
}

/// Turns [`Error::Held`] into `None` and an event.
pub(crate) fn skipped_if_held<T>(outcome: Result<T, RunError<T>>) -> Result<Option<T>, RunError<T>> {
    match outcome {
        Ok(output) => Ok(Some(output)),
        Err(RunError::Acquire(Error::Held { lock_id, holder })) => {
            tracing::info!(%lock_id, %holder, "skipped: the lock is held");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
