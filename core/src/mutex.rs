use std::sync::Arc;
use std::time::Duration;

use crate::admin::{ListFilter, LockRow};
use crate::engine::{Engine, telemetry};
use crate::options::Options;
use crate::{
    Action, DbMutexBuilder, DeleteRequest, Deleted, Error, Guard, Lock, LockId, LockStore, RunError, StoreError, Ttl,
};

/// A mutex in a database. It keeps jobs from overlapping, across processes and machines.
///
/// It consists of a store and the default options of its locks. Cheap to clone; clones share everything.
///
/// ```
/// use db_mutex_core::{DbMutex, Error};
/// use db_mutex_core::testing::MemoryStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let mutex = DbMutex::new(MemoryStore::new())?;
/// let rows = mutex.run("nightly-report", async |_guard| 42).await?;
/// assert_eq!(rows, 42);
/// # Ok(())
/// # }
/// ```
///
/// # Which kind of mutex should you use?
///
/// Use this one for jobs of seconds to hours that must not overlap in *different processes*, if those processes share a
/// database anyway. Within one process, [`tokio::sync::Mutex`](https://docs.rs/tokio/latest/tokio/sync/struct.Mutex.html)
/// is much faster and cannot be lost. If all the work is in one transaction, a row lock of the database (`SELECT … FOR
/// UPDATE`) is simpler.
///
/// # What it promises
///
/// - **Exclusion.** In the database's commit order a lock has at most one unexpired owner, and the
///   [fencing token](crate::Fence) of each acquisition is greater than every earlier one of that lock.
/// - **Validity.** While [`Guard::is_valid`] returns `true`, no one else has been granted the lock, provided that the
///   database's clock does not step forward, in sum during one lease, by more than the safety margin and that no
///   acknowledged commit is lost. This holds however the client's own requests interleave: late, repeated, abandoned or
///   reordered.
/// - **What a lease cannot do.** Nothing stops your code when its lease expires: work in flight may overlap the next
///   holder's. Pass [`Guard::fence`] to the resource, or verify the lock inside your own transaction if your data is in the
///   same database.
/// - **Liveness.** A crashed holder blocks others for at most the longest TTL that it requested. If the database's clock
///   was ahead for a while, that time counts from the first attempt by another client after the clock was corrected. If the
///   clock was ahead by less than 10 s, or less than a tenth of the TTL if that is more, this is not detected, and others
///   wait that much longer. A released lock is free, even if the clock is wrong later.
///
/// # Reentrancy
///
/// A lock is not reentrant: two tasks of one process exclude each other too. If this process already holds the lock,
/// `acquire` treats that guard like any other holder: it waits, and returns [`Error::Held`] at the wait limit.
///
/// # Fairness
///
/// The waiters of one mutex and its clones are served in order of arrival. Between processes there is no order.
///
/// # Runtimes
///
/// Requests run in the tokio runtime in which the mutex was first used. Everything else runs on a background thread of the
/// mutex: renewals, waiting, releases of dropped guards, and requests from other runtimes. This thread starts when it is
/// first needed, and has its own connections. So no lock is lost because a runtime is blocked or ends. (A store on your
/// application's pool sends everything through that pool, and depends on its runtime.)
///
/// For code without a runtime, use the module `blocking` (feature `blocking`).
///
/// After a fork, the child cannot use the mutex of its parent: its calls fail, and its guards release nothing.
///
/// # Dropping
///
/// Dropping a [`Guard`], or the future of an acquisition, releases the lock in the background; see
/// [`Guard`](Guard#dropping). The release is repeated until it succeeds or the lease is over. Dropping the last clone of a
/// mutex does not wait for these releases; they get five more seconds.
///
/// # Process exit
///
/// When the process exits, background releases are cut off, and their locks stay taken until their TTL. To wait for them,
/// call [`shutdown`](Self::shutdown) at the end of `main`. Guards that are still in variables of `main` are dropped only
/// after that call, so release them first.
#[derive(Debug, Clone)]
pub struct DbMutex {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones of a mutex, its locks and its guards share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: Options,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.engine.close();
    }
}

impl DbMutex {
    /// Returns a mutex on `store` with the default options; see [`builder`](Self::builder).
    ///
    /// # Errors
    /// [`Error::Invalid`] if `DB_MUTEX_TTL_SECONDS` is set and is not a valid TTL.
    pub fn new(store: impl LockStore) -> Result<Self, Error> {
        Self::builder(store).build()
    }

    /// Returns a builder with the default options.
    pub fn builder(store: impl LockStore) -> DbMutexBuilder {
        DbMutexBuilder::new(Arc::new(store))
    }

    /// Returns a handle to a lock. **Nothing is acquired yet**, unlike with the `lock` method of other mutexes. An invalid
    /// id is reported by [`acquire`](Lock::acquire).
    ///
    /// The id is a `&str`, a `String`, a [`LockId`], or anything else that is [`AsRef<str>`].
    pub fn lock(&self, lock_id: impl AsRef<str>) -> Lock {
        Lock::new(self.clone(), lock_id.as_ref())
    }

    /// Runs `body` under the lock; short for [`lock(lock_id).run(body)`](Lock::run).
    ///
    /// # Errors
    /// Same as [`Lock::run`].
    ///
    /// # Cancellation safety
    /// Same as [`Lock::run`].
    pub async fn run<T>(
        &self,
        lock_id: impl AsRef<str>,
        body: impl AsyncFnOnce(&Guard) -> T,
    ) -> Result<T, RunError<T>> {
        self.lock(lock_id).run(body).await
    }

    /// Runs `body` under the lock, or skips it if the lock is held; short for
    /// [`lock(lock_id).run_or_skip(body)`](Lock::run_or_skip).
    ///
    /// # Errors
    /// Same as [`Lock::run_or_skip`].
    ///
    /// # Cancellation safety
    /// Same as [`Lock::run`].
    pub async fn run_or_skip<T>(
        &self,
        lock_id: impl AsRef<str>,
        body: impl AsyncFnOnce(&Guard) -> T,
    ) -> Result<Option<T>, RunError<T>> {
        self.lock(lock_id).run_or_skip(body).await
    }

    /// Returns the row of a lock, or `None` if the lock was never acquired or its row was purged.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid id, [`Error::Store`] if the store fails.
    pub async fn find(&self, lock_id: impl AsRef<str>) -> Result<Option<LockRow>, Error> {
        let lock_id = LockId::new(lock_id)?;
        self.read(lock_id.clone()).await.map_err(|error| Error::store(&lock_id, Action::Read, error))
    }

    /// Returns the rows of the locks that `filter` selects, ordered by the bytes of their ids.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, Error> {
        let filter = filter.clone();
        let list = self.shared.engine.call(|store| async move { store.list(&filter).await });
        list.await.map_err(|error| of_many(Action::List, error))
    }

    /// Releases the lock regardless of who holds it. Returns whether it was held or resting.
    ///
    /// It ends only the acquisition that it finds. If the lock is released and granted again meanwhile, the new holder
    /// keeps it. The holder notices only at its next renewal, so make sure that it has stopped. Fencing tokens keep
    /// increasing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid id, [`Error::Store`] if the store fails.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the lock may have been released or not.
    pub async fn force_release(&self, lock_id: impl AsRef<str>) -> Result<bool, Error> {
        let lock_id = LockId::new(lock_id)?;
        let failed = |error| Error::store(&lock_id, Action::Release, error);
        let Some(row) = self.read(lock_id.clone()).await.map_err(failed)? else { return Ok(false) };
        let request = DeleteRequest::by_fence(lock_id.clone(), row.fence);
        let deleted = self.shared.engine.ask_while_busy(&request, Duration::from_secs(2)).await.result;
        Ok(deleted.map_err(failed)? == Deleted::Released)
    }

    /// Removes the rows of locks that became free at least `older_than` ago, and returns their number. The number may be
    /// too small if a connection broke meanwhile.
    ///
    /// This is housekeeping only: an expired lock is granted whether or not its row was purged. Choose `older_than` longer
    /// than your database's clock may ever step back, for example a day. Without its row, the next fencing token of an id
    /// depends on the clock alone.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    pub async fn purge_expired(&self, older_than: Duration) -> Result<u64, Error> {
        let purge = self.shared.engine.call(move |store| async move { store.purge_expired(older_than).await });
        purge.await.map_err(|error| of_many(Action::Purge, error))
    }

    /// Waits up to `limit` until dropped guards and abandoned acquisitions are released. Returns the ids that are still
    /// pending; their locks expire with their TTL.
    ///
    /// Call it before the process exits. Locks whose guards are alive are not touched.
    ///
    /// # Cancellation safety
    /// The future may be dropped at any time; the releases continue.
    pub async fn shutdown(&self, limit: Duration) -> Vec<LockId> {
        let engine = &self.shared.engine;
        engine.time.within(limit, engine.releases.drained()).await;
        let left = engine.releases.pending();
        telemetry::drained(left.len());
        left
    }

    async fn read(&self, lock_id: LockId) -> Result<Option<LockRow>, StoreError> {
        self.shared.engine.call(|store| async move { store.find(&lock_id).await }).await
    }

    /// Returns the TTL of locks that do not set their own.
    pub fn ttl(&self) -> Ttl {
        self.shared.options.ttl.clone().unwrap_or_default()
    }
}

fn of_many(action: Action, source: StoreError) -> Error {
    Error::Store { lock_id: None, action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_can_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<DbMutex>();
        check::<DbMutexBuilder>();
        check::<Lock>();
        check::<Guard>();
        check::<Error>();
        check::<RunError<u8>>();
        check::<StoreError>();
    }
}
