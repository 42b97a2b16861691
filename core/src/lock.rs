use std::sync::Arc;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::holding::Holding;
use crate::mutex::check_hold_at_least;
use crate::waiting::Patience;
use crate::{
    DbMutex, DeleteRequest, Error, Guard, HolderText, InsertRequest, Inserted, Invalid, LockId, OwnerToken, StoreError,
    StoreErrorKind, Ttl, WaitLimit,
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
        self.acquire_within(self.wait).await
    }

    /// Acquires the lock if it is free; never waits for another holder, whatever the [wait limit](Self::wait) is.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancellation safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Guard, Error> {
        self.acquire_within(WaitLimit::No).await
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

    async fn acquire_within(&self, wait: WaitLimit) -> Result<Guard, Error> {
        let mut attempts = Attempts::of(self)?;
        if wait == WaitLimit::No {
            return attempts.ask().await;
        }
        let mut patience = Patience::start(wait);
        let lock_id = attempts.request.lock_id.clone();
        let mut place = self.mutex.shared.queue.join(&lock_id);
        if !place.become_head(patience.left()).await {
            // The head has asked for all; only where it never got an answer is there something to ask.
            return match place.holder() {
                Some(holder) => Err(Error::Held { lock_id, expires_in: holder.expires_in, holder }),
                None => attempts.ask().await,
            };
        }
        loop {
            let error = match attempts.ask().await {
                Ok(guard) => return Ok(guard),
                Err(error) => error,
            };
            let expires_in = match &error {
                Error::Held { expires_in, holder, .. } => {
                    place.note_holder(holder);
                    *expires_in
                }
                error if error.is_transient() => None,
                _ => return Err(error),
            };
            let Some(pause) = patience.next_pause(expires_in) else { return Err(error) };
            tokio::select! {
                () = place.released_here() => {}
                () = self.pause(&lock_id, pause) => {}
            }
        }
    }

    /// Waits for a release that the store may learn of, or for the pause to end.
    async fn pause(&self, lock_id: &LockId, pause: Duration) {
        if self.mutex.shared.store.wait_for_release(lock_id, pause).await.is_err() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// What becomes of a grant.
#[derive(Debug, Clone, Copy)]
struct Options {
    hold_at_least: Duration,
    keep_alive: bool,
    hold_at_most: Option<Duration>,
}

/// The attempts of one acquisition. All carry the same owner token, minted before the first, so that one whose reply was
/// lost can be repeated, and so that whatever was granted and never received can be released.
struct Attempts {
    mutex: DbMutex,
    request: InsertRequest,
    options: Options,
    /// Whether the store may have granted something that nobody has received.
    unsettled: bool,
}

impl Attempts {
    fn of(lock: &Lock) -> Result<Self, Error> {
        let lock_id = lock.lock_id.clone()?;
        let ttl = lock.ttl.clone()?;
        check_hold_at_least(lock.hold_at_least, ttl)?;
        let owner = OwnerToken::mint().map_err(|error| Error::store(&lock_id, "acquire", error))?;
        let request = InsertRequest::new(lock_id, owner, ttl, lock.holder.clone()?);
        lock.mutex.shared.releaser.ensure_task();
        let options =
            Options { hold_at_least: lock.hold_at_least, keep_alive: lock.keep_alive, hold_at_most: lock.hold_at_most };
        Ok(Self { mutex: lock.mutex.clone(), request, options, unsettled: false })
    }

    async fn ask(&mut self) -> Result<Guard, Error> {
        let shared = &self.mutex.shared;
        let lock_id = &self.request.lock_id;
        let settled_before = !self.unsettled;
        let sent = shared.clock.elapsed();
        self.unsettled = true;
        match shared.store.insert_if_absent(&self.request).await {
            Ok(Inserted::Granted(lease)) => {
                let deadline = Deadline::counted_from(sent, self.request.ttl);
                if deadline.has_passed(shared.clock.elapsed()) {
                    let late = StoreError::new(
                        StoreErrorKind::Unavailable,
                        format!("the store's answer came too late for a ttl of {}; use a longer one", self.request.ttl),
                    );
                    return Err(Error::store(lock_id, "acquire", late));
                }
                self.unsettled = false;
                tracing::debug!(%lock_id, fence = %lease.fence, "acquired");
                let at_most_until = self.options.hold_at_most.map(|at_most| sent.saturating_add(at_most));
                let holding = Arc::new(Holding::new(&self.request, lease, deadline, at_most_until));
                if self.options.keep_alive {
                    shared.renewal.keep_alive(&holding, sent);
                }
                Ok(Guard::new(self.mutex.clone(), holding, self.options.hold_at_least))
            }
            Ok(Inserted::Held(holder)) => {
                // A refusal settles this attempt; one before it that failed may still be on its way.
                self.unsettled = !settled_before;
                tracing::debug!(%lock_id, %holder, "refused");
                Err(Error::Held { lock_id: lock_id.clone(), expires_in: holder.expires_in, holder })
            }
            Err(error) => Err(Error::store(lock_id, "acquire", error)),
        }
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        if self.unsettled {
            let request = DeleteRequest::by_owner(self.request.lock_id.clone(), self.request.owner);
            self.mutex.shared.releaser.release_soon(request);
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
