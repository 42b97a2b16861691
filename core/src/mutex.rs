use std::env;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::busy::WhileBusy;
use crate::engine::queue::Queue;
use crate::engine::releaser::Releaser;
use crate::engine::renewal::Renewal;
use crate::engine::telemetry;
use crate::{
    Clock, DeleteRequest, Deleted, Error, Guard, HolderText, Invalid, ListFilter, Lock, LockId, LockRow, LockStore,
    StoreError, SystemClock, Ttl, WaitLimit,
};

/// The environment variable that sets the TTL of a mutex which is not told one: a number of seconds, or `none`.
pub const TTL_VARIABLE: &str = "DB_MUTEX_TTL_SECONDS";

/// Makes long jobs exclude each other, across processes and machines, through a database.
///
/// It is a store together with the defaults of its locks. Cheap to clone; clones share everything.
///
/// ```
/// use std::sync::Arc;
/// use db_mutex_core::{DbMutex, MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), db_mutex_core::Error<u32>> {
/// let mutex = DbMutex::new(Arc::new(MemoryStore::new())).map_err(db_mutex_core::Error::from)?;
/// let rows = mutex.run("nightly-report", async |_guard| 42).await?;
/// assert_eq!(rows, 42);
/// # Ok(())
/// # }
/// ```
///
/// # What it promises
///
/// - **Exclusion.** In the database's commit order a lock id has at most one unexpired owner at any point, and the
///   [fencing token](crate::Fence) of each acquisition is greater than all earlier ones of that id.
/// - **Validity.** While [`Guard::is_valid`] answers `true`, nobody else has been granted the lock, provided that the
///   database's clock does not step forward by more than the safety margin and that no acknowledged commit is lost.
/// - **What a lease cannot do.** Nothing stops your code when its lease expires: work in flight may overlap that of a
///   successor. Pass [`Guard::fence`] to the resource, or verify the lock inside your own transaction where your data is
///   in the same database.
/// - **Liveness.** A holder that crashed blocks others for at most its TTL.
#[derive(Debug, Clone)]
pub struct DbMutex {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones of a mutex, its locks and its guards share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn LockStore>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) releaser: Releaser,
    pub(crate) renewal: Renewal,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) holder: HolderText,
    pub(crate) ttl: Ttl,
    /// The TTL, where it was set in code and not by the environment or the default.
    pub(crate) chosen_ttl: Option<Ttl>,
    pub(crate) wait: WaitLimit,
    pub(crate) hold_at_least: Duration,
    pub(crate) keep_alive: bool,
}

impl DbMutex {
    /// A mutex on `store` with the default options; see [`DbMutexBuilder`].
    ///
    /// # Errors
    /// [`Invalid::Environment`] when `DB_MUTEX_TTL_SECONDS` is set to something that is no TTL.
    pub fn new(store: Arc<dyn LockStore>) -> Result<Self, Invalid> {
        Self::builder(store).build()
    }

    /// Begins a mutex with options of its own.
    pub fn builder(store: Arc<dyn LockStore>) -> DbMutexBuilder {
        DbMutexBuilder {
            store,
            ttl: None,
            wait: WaitLimit::No,
            hold_at_least: Duration::ZERO,
            keep_alive: false,
            holder: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// Names a lock, to set its options and to acquire it. An id that is not valid is told when it is acquired.
    pub fn lock(&self, lock_id: impl AsRef<str>) -> Lock {
        Lock::new(self.clone(), lock_id.as_ref())
    }

    /// Runs `body` under the lock; short for [`lock(lock_id).run(body)`](Lock::run).
    ///
    /// # Errors
    /// As [`Lock::run`].
    ///
    /// # Cancellation safety
    /// As [`Lock::run`].
    pub async fn run<T>(&self, lock_id: impl AsRef<str>, body: impl AsyncFnOnce(&Guard) -> T) -> Result<T, Error<T>> {
        self.lock(lock_id).run(body).await
    }

    /// Runs `body` under the lock, or skips it when the lock is held; short for
    /// [`lock(lock_id).run_or_skip(body)`](Lock::run_or_skip).
    ///
    /// # Errors
    /// As [`Lock::run_or_skip`].
    ///
    /// # Cancellation safety
    /// As [`Lock::run`].
    pub async fn run_or_skip<T>(
        &self,
        lock_id: impl AsRef<str>,
        body: impl AsyncFnOnce(&Guard) -> T,
    ) -> Result<Option<T>, Error<T>> {
        self.lock(lock_id).run_or_skip(body).await
    }

    /// Reads what the store knows of a lock; `None` when it was never acquired, or its row was purged.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id that is not valid, [`Error::Store`] when the store fails.
    pub async fn find(&self, lock_id: impl AsRef<str>) -> Result<Option<LockRow>, Error> {
        let lock_id = LockId::new(lock_id)?;
        self.shared.store.find(&lock_id).await.map_err(|error| Error::store(&lock_id, "read", error))
    }

    /// Reads many locks, in the order of their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        self.shared.store.list(filter).await
    }

    /// Releases the lock regardless of who holds it. Returns whether it was held, or resting.
    ///
    /// It ends the acquisition that it finds, and no other: if the lock is released and granted again meanwhile, the new
    /// holder keeps it. The holder notices only at its next renewal, so make sure that it has stopped. Fencing tokens keep
    /// increasing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid id, [`Error::Store`] if the store fails.
    pub async fn force_release(&self, lock_id: impl AsRef<str>) -> Result<bool, Error> {
        let lock_id = LockId::new(lock_id)?;
        let failed = |error| Error::store(&lock_id, "release", error);
        let Some(row) = self.shared.store.find(&lock_id).await.map_err(failed)? else { return Ok(false) };
        let request = DeleteRequest::by_fence(lock_id.clone(), row.fence);
        let mut busy = WhileBusy::at_most(Duration::from_secs(2));
        loop {
            return match self.shared.store.delete(&request).await {
                Ok(deleted) => Ok(deleted == Deleted::Released),
                Err(error) if busy.repeats(&error).await => continue,
                Err(error) => Err(failed(error)),
            };
        }
    }

    /// Removes the rows of locks that became free at least `older_than` ago, and answers how many.
    ///
    /// Housekeeping only: an expired lock is granted whether or not its row was purged. Keep `older_than` longer than
    /// your database's clock may ever step back (a day, say), for without its row an id's fencing token starts again
    /// at the clock.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.shared.store.purge_expired(older_than).await
    }

    /// Waits until what was dropped (guards, unfinished acquisitions) is released in the store, at most for `limit`, and
    /// answers the ids of those that still are not; they end with their TTL.
    ///
    /// Call it before the process exits. Locks that are still held are not touched.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time; the releases go on.
    pub async fn shutdown(&self, limit: Duration) -> Vec<LockId> {
        let left = self.shared.releaser.drain(limit).await;
        telemetry::drained(left.len());
        left
    }

    /// How long a lease lasts unless the lock is told otherwise.
    pub fn ttl(&self) -> Ttl {
        self.shared.ttl
    }

    /// The store underneath.
    pub fn store(&self) -> &Arc<dyn LockStore> {
        &self.shared.store
    }
}

/// Builds a [`DbMutex`]; what is not set has the default that each method tells.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct DbMutexBuilder {
    store: Arc<dyn LockStore>,
    ttl: Option<Result<Ttl, Invalid>>,
    wait: WaitLimit,
    hold_at_least: Duration,
    keep_alive: bool,
    holder: Option<HolderText>,
    clock: Arc<dyn Clock>,
}

impl DbMutexBuilder {
    /// How long a lease lasts: a [`Duration`] or a [`Ttl`]. Default: `DB_MUTEX_TTL_SECONDS`, else 30 minutes.
    pub fn ttl<V>(mut self, ttl: V) -> Self
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        self.ttl = Some(ttl.try_into().map_err(Invalid::from));
        self
    }

    /// How long to wait for a lock that is held: a [`Duration`] or a [`WaitLimit`]. Default: not at all.
    pub fn wait(mut self, limit: impl Into<WaitLimit>) -> Self {
        self.wait = limit.into();
        self
    }

    /// How long a lock stays taken after its acquisition, even if it is released sooner; at most the TTL. Default: zero.
    ///
    /// It keeps a fast job from running twice for one tick where the clocks of several crontabs differ.
    pub fn hold_at_least(mut self, hold_at_least: Duration) -> Self {
        self.hold_at_least = hold_at_least;
        self
    }

    /// Whether leases are renewed while their guards live; see [`Lock::keep_alive`]. Default: no.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// What others are told about the holder. Default: host name and process id.
    pub fn holder(mut self, holder: HolderText) -> Self {
        self.holder = Some(holder);
        self
    }

    /// The clock that counts leases down. Default: [`SystemClock`]; tests may give a
    /// [`ManualClock`](crate::ManualClock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Builds the mutex.
    ///
    /// # Errors
    /// [`Invalid::Ttl`], [`Invalid::HoldAtLeast`], or [`Invalid::Environment`] when `DB_MUTEX_TTL_SECONDS` is looked at
    /// and is no TTL.
    pub fn build(self) -> Result<DbMutex, Invalid> {
        let chosen_ttl = self.ttl.transpose()?;
        let ttl = match chosen_ttl {
            Some(ttl) => ttl,
            None => ttl_of_environment(env::var_os(TTL_VARIABLE).map(|value| value.to_string_lossy().into_owned()))?,
        };
        check_hold_at_least(self.hold_at_least, ttl)?;
        let queue = Arc::<Queue>::default();
        Ok(DbMutex {
            shared: Arc::new(Shared {
                releaser: Releaser::new(Arc::clone(&self.store), Arc::clone(&queue)),
                queue,
                renewal: Renewal::new(Arc::clone(&self.store), Arc::clone(&self.clock)),
                store: self.store,
                clock: self.clock,
                holder: self.holder.unwrap_or_else(HolderText::of_this_process),
                ttl,
                chosen_ttl,
                wait: self.wait,
                hold_at_least: self.hold_at_least,
                keep_alive: self.keep_alive,
            }),
        })
    }
}

/// A lease that ends before its "hold at least" could not keep that promise when its holder crashes.
pub(crate) fn check_hold_at_least(hold_at_least: Duration, ttl: Ttl) -> Result<(), Invalid> {
    match ttl.duration() {
        Some(longest) if hold_at_least > longest => Err(Invalid::HoldAtLeast { hold_at_least, ttl }),
        None if hold_at_least > Ttl::MAX => Err(Invalid::HoldAtLeast { hold_at_least, ttl }),
        _ => Ok(()),
    }
}

fn ttl_of_environment(value: Option<String>) -> Result<Ttl, Invalid> {
    let Some(value) = value else { return Ok(Ttl::DEFAULT) };
    let trimmed = value.trim();
    if trimmed.eq_ignore_ascii_case("none") {
        return Ok(Ttl::NEVER);
    }
    let refuse = |reason: String| Invalid::Environment { variable: TTL_VARIABLE, value: value.clone(), reason };
    let seconds = trimmed.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(seconds) => Ttl::new(seconds).map_err(|invalid| refuse(invalid.to_string())),
        None => Err(refuse("give a number of seconds from 0.1 to 31536000, or none".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_sets_the_ttl() {
        let ttl = |value: &str| ttl_of_environment(Some(value.into()));
        assert_eq!(ttl_of_environment(None), Ok(Ttl::DEFAULT));
        assert_eq!(ttl("90"), Ok(Ttl::new(Duration::from_secs(90)).unwrap()));
        assert_eq!(ttl("0.5"), Ok(Ttl::new(Duration::from_millis(500)).unwrap()));
        assert_eq!(ttl("none"), Ok(Ttl::NEVER));
        assert_eq!(ttl(" None "), Ok(Ttl::NEVER));
    }

    #[test]
    fn a_bad_environment_names_the_variable() {
        for bad in ["", "abc", "-1", "0", "0.05", "31536001", "1e30", "inf", "nan", "30m"] {
            let message = ttl_of_environment(Some(bad.into())).unwrap_err().to_string();
            assert!(message.contains("DB_MUTEX_TTL_SECONDS"), "{message}");
            assert!(message.contains(&format!("{bad:?}")), "{message}");
        }
    }

    #[test]
    fn handles_can_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<DbMutex>();
        check::<DbMutexBuilder>();
        check::<Lock>();
        check::<Guard>();
        check::<Error<u8>>();
        check::<StoreError>();
    }
}
