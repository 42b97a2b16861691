use std::time::Duration;

use tracing::Instrument;

use crate::acquire::Acquisition;
use crate::options::{OnLost, Options};
use crate::{DbMutex, Error, Guard, Invalid, LockId, LostReason, OwnerToken, RunError, Ttl, WaitLimit};

/// A handle to one lock and its options, returned by [`DbMutex::lock`]. It holds nothing yet.
///
/// Options have the mutex's defaults. Invalid options and ids are reported when the lock is acquired.
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
    /// [`ttl`](crate::DbMutexBuilder::ttl), which is 30 minutes unless `DB_MUTEX_TTL_SECONDS` or code sets another.
    pub fn ttl<V>(mut self, ttl: V) -> Self
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        self.options.set_ttl(ttl);
        self
    }

    /// Sets how long to wait while another holder has the lock: a [`Duration`] or a [`WaitLimit`]. Default: the mutex's
    /// [`wait`](crate::DbMutexBuilder::wait), which is not at all unless code sets another.
    pub fn wait(mut self, limit: impl Into<WaitLimit>) -> Self {
        self.options.wait = limit.into();
        self
    }

    /// Sets how long the lock stays taken after its acquisition, even if it is released sooner; at most the TTL. Default: the
    /// mutex's [`hold_at_least`](crate::DbMutexBuilder::hold_at_least), which is zero unless code sets another.
    pub fn hold_at_least(mut self, hold_at_least: Duration) -> Self {
        self.options.hold_at_least = hold_at_least;
        self
    }

    /// Sets whether the lease is renewed while the guard lives. Default: the mutex's
    /// [`keep_alive`](crate::DbMutexBuilder::keep_alive), which is no unless code sets another.
    ///
    /// With it a short TTL serves a job of unknown length: a crash blocks others for no more than the TTL. The lease is
    /// renewed when a third of the TTL is over; an attempt that fails is repeated until the lease ends. A thread of the
    /// mutex does that, so code under the lock may block its own runtime.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.options.keep_alive = keep_alive;
        self
    }

    /// Sets how long the lock may be held with renewals. After that it counts as lost, however long the lease still lasts.
    /// This way a hung job cannot block others forever. Default: no limit.
    pub fn hold_at_most(mut self, hold_at_most: Duration) -> Self {
        self.options.hold_at_most = Some(hold_at_most);
        self
    }

    /// Sets what [`run`](Self::run) does with its closure when the lock is lost. Default: [`OnLost::Finish`].
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.options.on_lost = on_lost;
        self
    }

    /// Describes why the lock is held; appended to the holder's name that others see. Default: no label.
    pub fn label(mut self, label: impl AsRef<str>) -> Self {
        let name = self.mutex.shared.options.holder.clone();
        self.options.holder = name.and_then(|name| name.labelled(label.as_ref()));
        self
    }

    /// Acquires the lock, waiting for it up to the [wait limit](Self::wait).
    ///
    /// The waiters of a process (of this mutex and its clones) are served in the order in which they came, and only the
    /// first of them asks the store; a release in the same process wakes it at once. Between processes there is no order.
    /// If the store fails for a reason that may pass, it is asked again until the limit is over.
    ///
    /// # Errors
    /// [`Error::Held`] if another holder kept the lock for the whole wait limit; [`Error::Store`] if the store fails, which
    /// says nothing about who holds the lock; [`Error::Invalid`] for an invalid id or option.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time. If the lock was granted meanwhile, it is released in the background.
    pub async fn acquire(&self) -> Result<Guard, Error> {
        self.acquire_within(self.options.wait).await
    }

    /// Acquires the lock if it is free. Never waits for another holder, whatever the [wait limit](Self::wait) is.
    ///
    /// # Errors
    /// Same as [`acquire`](Self::acquire).
    ///
    /// # Cancellation safety
    /// Same as [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Guard, Error> {
        self.acquire_within(WaitLimit::DontWait).await
    }

    /// Acquires the lock like [`acquire`](Self::acquire), runs `body`, releases the lock, and returns what `body` returned.
    ///
    /// Whatever `body` returns reaches the caller, an error too: a release that fails after it does not hide it (the lock
    /// then ends with its TTL, and a warning is logged). If `body` panics, the lock is released as when a guard is dropped.
    ///
    /// # Errors
    /// [`RunError::Acquire`] with the error of [`acquire`](Self::acquire), and [`RunError::Lost`] if the lock was lost before
    /// `body` ended; it contains the output of `body`, unless that was dropped ([`OnLost::Drop`]).
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

    /// Takes over a lock that another guard, in this process or another, has handed over with
    /// [`Guard::into_owner_token`].
    ///
    /// The lease lasts at least this lock's TTL from now on if one was set in code, on the lock or the mutex. Otherwise it
    /// stays as long as it is, and is renewed for the longest TTL that it was acquired or renewed with: the default TTL and
    /// `DB_MUTEX_TTL_SECONDS` are for locks that are acquired here. A lease is never shortened.
    ///
    /// A command that `db-mutex run` has started does so with the owner in its environment (`DB_MUTEX_OWNER`, read with
    /// [`OwnerToken::from_hex`]); both then hold the lock, and whichever releases it first has released it.
    ///
    /// # Errors
    /// [`Error::Lost`] if that owner does not hold the lock any more; [`Error::Store`] if the store fails, which does
    /// not mean that; [`Error::Invalid`] for an invalid id or option.
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

/// What running a closure returns after its end, given how the release ended.
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

/// `None`, and an event, for a closure that was not run because the lock is held.
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
