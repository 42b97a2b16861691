use std::time::Duration;

use tracing::Instrument;

use crate::acquire::{Attempts, Options, mint};
use crate::engine::backoff::Patience;
use crate::engine::queue::Place;
use crate::engine::telemetry;
use crate::mutex::check_hold_at_least;
use crate::{
    DbMutex, Error, Guard, HolderText, InsertRequest, Invalid, LockId, OwnerToken, StoreError, StoreErrorKind, Ttl,
    WaitLimit,
};

/// One lock of a [`DbMutex`], with its options: what [`DbMutex::lock`] answers.
///
/// It holds nothing yet. An option or an id that is not valid is told when the lock is acquired.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use db_mutex_core::{DbMutex, MemoryStore};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), db_mutex_core::Error> {
/// # let mutex = DbMutex::new(Arc::new(MemoryStore::new()))?;
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
    mutex: DbMutex,
    lock_id: Result<LockId, Invalid>,
    ttl: Result<Ttl, Invalid>,
    /// Whether the TTL was set in code, and not by the environment or the default.
    ttl_is_chosen: bool,
    holder: Result<HolderText, Invalid>,
    wait: WaitLimit,
    hold_at_least: Duration,
    keep_alive: bool,
    hold_at_most: Option<Duration>,
    on_lost: OnLost,
}

/// What [`Lock::run`] does with its body when the lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnLost {
    /// Lets it finish, and answers [`Error::TimedOut`] with what it returned.
    #[default]
    Finish,
    /// Drops it at its current await, and answers [`Error::Lost`]. What it has begun may be half done.
    Drop,
}

impl Lock {
    pub(crate) fn new(mutex: DbMutex, lock_id: &str) -> Self {
        let shared = &mutex.shared;
        Self {
            lock_id: LockId::new(lock_id),
            ttl: Ok(shared.ttl),
            ttl_is_chosen: shared.chosen_ttl.is_some(),
            holder: Ok(shared.holder.clone()),
            wait: shared.wait,
            hold_at_least: shared.hold_at_least,
            keep_alive: shared.keep_alive,
            hold_at_most: None,
            on_lost: OnLost::Finish,
            mutex,
        }
    }

    /// How long the lease lasts: a [`Duration`] or a [`Ttl`]. Default: the mutex's.
    pub fn ttl<V>(mut self, ttl: V) -> Self
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        self.ttl = ttl.try_into().map_err(Invalid::from);
        self.ttl_is_chosen = true;
        self
    }

    /// How long to wait while somebody else holds the lock: a [`Duration`] or a [`WaitLimit`]. Default: the mutex's,
    /// which is not to wait unless it was built otherwise.
    pub fn wait(mut self, limit: impl Into<WaitLimit>) -> Self {
        self.wait = limit.into();
        self
    }

    /// How long the lock stays taken after its acquisition, even if it is released sooner; at most the TTL. Default: the
    /// mutex's.
    pub fn hold_at_least(mut self, hold_at_least: Duration) -> Self {
        self.hold_at_least = hold_at_least;
        self
    }

    /// Whether the lease is renewed while the guard lives. Default: the mutex's, which is not to.
    ///
    /// With it a short TTL serves a job of unknown length: a crash costs the others no more than the TTL. The lease is
    /// renewed when a third of the TTL is over; an attempt that fails is repeated until the lease ends. It needs the
    /// runtime in which the lock is acquired to go on running: code that blocks its threads for a third of the TTL keeps
    /// the renewal from its work.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// How long the lock may be held with renewals: then it counts as lost, however long the lease still lasts. A job that
    /// hangs does not keep the others away for ever. Default: no limit.
    pub fn hold_at_most(mut self, hold_at_most: Duration) -> Self {
        self.hold_at_most = Some(hold_at_most);
        self
    }

    /// What [`run`](Self::run) does with its body when the lock is lost. Default: it lets it finish.
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.on_lost = on_lost;
        self
    }

    /// Says what the lock is wanted for; others read it behind the mutex's holder text.
    pub fn label(mut self, label: impl AsRef<str>) -> Self {
        self.holder = self.mutex.shared.holder.labelled(label.as_ref());
        self
    }

    /// Acquires the lock, waiting for it up to the [wait limit](Self::wait).
    ///
    /// The waiters of a process (of this mutex and its clones) are served in the order in which they came, and only the
    /// first of them asks the store; a release in the same process wakes it at once. Between processes there is no order.
    /// A store that fails for a passing reason is asked again until the limit is over.
    ///
    /// # Errors
    /// [`Error::Held`] when somebody else holds it all that time; [`Error::Store`] when the store fails, which says
    /// nothing about who holds the lock; [`Error::Invalid`] for an id or an option that is not valid.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time. If the lock was granted meanwhile it is released in the background.
    pub async fn acquire(&self) -> Result<Guard, Error> {
        self.acquire_within(self.wait).instrument(tracing::debug_span!("acquire", lock_id = self.name())).await
    }

    /// Acquires the lock if it is free; never waits for another holder, whatever the [wait limit](Self::wait) is.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancellation safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Guard, Error> {
        self.acquire_within(WaitLimit::No).instrument(tracing::debug_span!("acquire", lock_id = self.name())).await
    }

    /// Acquires the lock as [`acquire`](Self::acquire) does, runs `body`, releases the lock, and answers what `body`
    /// returned.
    ///
    /// Whatever `body` returns reaches the caller, an error of its own too: a release that fails after it does not hide
    /// it (the lock then ends with its TTL, and a warning is logged). If `body` panics the lock is released as when a
    /// guard is dropped.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`Error::TimedOut`] with the output of `body` when the lease ended before
    /// `body` did; with [`OnLost::Drop`], [`Error::Lost`] instead.
    ///
    /// # Cancellation safety
    /// When the future is dropped, `body` is dropped at its current await, and then the lock is released in the
    /// background.
    pub async fn run<T>(&self, body: impl AsyncFnOnce(&Guard) -> T) -> Result<T, Error<T>> {
        self.run_here(body).instrument(tracing::debug_span!("run", lock_id = self.name())).await
    }

    async fn run_here<T>(&self, body: impl AsyncFnOnce(&Guard) -> T) -> Result<T, Error<T>> {
        let guard = match self.acquire().await {
            Ok(guard) => guard,
            Err(error) => return Err(with_output_of(error)),
        };
        let lock_id = guard.lock_id().clone();
        let output = match self.on_lost {
            OnLost::Finish => body(&guard).await,
            OnLost::Drop => tokio::select! {
                biased;
                output = body(&guard) => output,
                reason = guard.lost() => {
                    let _ = guard.release().await;
                    return Err(Error::Lost { lock_id, reason });
                }
            },
        };
        let was_valid = guard.is_valid();
        match guard.release().await {
            Ok(()) => Ok(output),
            Err(error) if was_valid && !error.is_timed_out() => {
                tracing::warn!(%lock_id, %error, "the work is done, but the lock could not be released");
                Ok(output)
            }
            Err(_) => Err(Error::TimedOut { lock_id, output }),
        }
    }

    /// Runs `body` under the lock as [`run`](Self::run) does; when the lock is held, logs that at level `INFO` and
    /// answers `None`.
    ///
    /// # Errors
    /// As [`run`](Self::run), but never [`Error::Held`].
    ///
    /// # Cancellation safety
    /// As [`run`](Self::run).
    pub async fn run_or_skip<T>(&self, body: impl AsyncFnOnce(&Guard) -> T) -> Result<Option<T>, Error<T>> {
        match self.run(body).await {
            Ok(output) => Ok(Some(output)),
            Err(Error::Held { lock_id, holder, .. }) => {
                tracing::info!(%lock_id, %holder, "skipped: the lock is held");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes over a lock that another guard, in this process or another, has given away with
    /// [`Guard::into_token`].
    ///
    /// The lease lasts at least this lock's TTL from now on if one was set in code, on the lock or the mutex. Otherwise it
    /// stays as long as it is, and is renewed for the longest TTL that it was acquired or renewed with: the default TTL and
    /// `DB_MUTEX_TTL_SECONDS` are for locks that are acquired here. It is never shortened.
    ///
    /// A command that `db-mutex run` has started does so with the owner in its environment (`DB_MUTEX_OWNER`, read with
    /// [`OwnerToken::from_hex`]); both then hold the lock, and whichever releases it first has released it.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if that owner does not hold the lock any more; [`Error::Store`] if the store fails, which does
    /// not mean that; [`Error::Invalid`] for an invalid id or option.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the lease may have been extended.
    pub async fn resume(&self, owner: OwnerToken) -> Result<Guard, Error> {
        let ttl = self.ttl.clone()?;
        self.attempts_of(owner)?.resume(self.ttl_is_chosen.then_some(ttl)).await
    }

    /// Attempts in the name of a new owner.
    fn attempts(&self) -> Result<Attempts, Error> {
        // What is not valid is told before anything is asked of the operating system.
        let lock_id = self.lock_id.clone()?;
        self.attempts_of(mint().map_err(|error| Error::store(&lock_id, "acquire", error))?)
    }

    fn attempts_of(&self, owner: OwnerToken) -> Result<Attempts, Error> {
        let (lock_id, ttl, holder) = (self.lock_id.clone()?, self.ttl.clone()?, self.holder.clone()?);
        check_hold_at_least(self.hold_at_least, ttl)?;
        let options =
            Options { hold_at_least: self.hold_at_least, keep_alive: self.keep_alive, hold_at_most: self.hold_at_most };
        Ok(Attempts::new(&self.mutex, InsertRequest::new(lock_id, owner, ttl, holder), options))
    }

    /// The lock id, where it is one.
    fn name(&self) -> &str {
        self.lock_id.as_ref().map_or("", LockId::as_str)
    }

    async fn acquire_within(&self, wait: WaitLimit) -> Result<Guard, Error> {
        let mut attempts = self.attempts()?;
        if wait == WaitLimit::No {
            return attempts.ask().await;
        }
        let mut patience = Patience::start(wait);
        let lock_id = attempts.lock_id().clone();
        let mut place = self.mutex.shared.queue.join(&lock_id);
        if !place.become_head(patience.left()).await || !self.outlasts_the_rest(&place, &patience).await {
            // A head has asked for all; only where none ever got an answer is there something to ask.
            return match place.holder() {
                Some(holder) => Err(Error::Held { lock_id, expires_in: holder.expires_in, holder }),
                None => attempts.ask().await,
            };
        }
        loop {
            let error = match attempts.ask().await {
                Ok(guard) => {
                    place.granted();
                    return Ok(guard);
                }
                Err(error) => error,
            };
            let expires_in = match &error {
                Error::Held { expires_in, .. } => *expires_in,
                error if error.is_transient() => None,
                _ => return Err(error),
            };
            let pause = patience.next_pause(expires_in);
            if let Error::Held { holder, .. } = &error
                && place.refused(holder, pause.unwrap_or(Patience::LONGEST))
            {
                telemetry::waiting(&lock_id, holder);
            }
            let Some(pause) = pause else { return Err(error) };
            tokio::select! {
                biased;
                () = place.released_here() => {}
                () = self.pause(&lock_id, pause) => {}
            }
        }
    }

    /// Waits as long as a head before would have waited; answers whether patience lasted. Else each of ten thousand waiters
    /// who give up one after the other would ask once.
    async fn outlasts_the_rest(&self, place: &Place, patience: &Patience) -> bool {
        let rest = place.rest();
        let left = patience.left().unwrap_or(Duration::MAX);
        if rest.is_zero() {
            return true;
        }
        tokio::select! {
            () = place.released_here() => true,
            () = tokio::time::sleep(rest.min(left)) => left > rest,
        }
    }

    /// Waits for a release that the store may learn of, or for the pause to end.
    async fn pause(&self, lock_id: &LockId, pause: Duration) {
        if self.mutex.shared.store.wait_for_release(lock_id, pause).await.is_err() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// An error of acquiring, as one of running: there is no output yet, and acquiring never times out under work.
fn with_output_of<T>(error: Error) -> Error<T> {
    match error {
        Error::Held { lock_id, holder, expires_in } => Error::Held { lock_id, holder, expires_in },
        Error::Store { lock_id, action, source } => Error::Store { lock_id, action, source },
        Error::Connect { source } => Error::Connect { source },
        Error::Invalid(invalid) => Error::Invalid(invalid),
        Error::Lost { lock_id, reason } => Error::Lost { lock_id, reason },
        Error::TimedOut { lock_id, output: () } => Error::Store {
            lock_id,
            action: "acquire",
            source: StoreError::new(StoreErrorKind::Other, "the lease ended before the work under it began"),
        },
    }
}
