use std::ops::Deref;
use std::time::Duration;

use super::wait::wait;
use super::{Guard, Lock};
use crate::admin::{ListFilter, LockRow};
use crate::{Action, Error, LockId, RunError};

/// A [mutex](crate::DbMutex) whose methods block, returned by [`DbMutex::blocking`](crate::DbMutex::blocking). Cheap to
/// clone; clones and the async form share everything.
///
/// It dereferences to the async form. See [where it may be called](super#where-it-may-be-called). It makes the [same
/// promises](crate::DbMutex#what-it-promises), also about dropped guards and process exit.
///
/// ```
/// use db_mutex_core::{DbMutex, Error, blocking, testing::MemoryStore};
///
/// fn nightly_report(mutex: &blocking::DbMutex) -> Result<u32, Error> {
///     Ok(mutex.run("nightly-report", |_guard| 42)?)
/// }
///
/// fn main() -> Result<(), Error> {
///     let mutex = DbMutex::new(MemoryStore::new())?.blocking();
///     assert_eq!(nightly_report(&mutex)?, 42);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct DbMutex {
    mutex: crate::DbMutex,
}

impl crate::DbMutex {
    /// Returns the blocking form of this mutex, for code without a runtime.
    ///
    /// ```
    /// # use db_mutex_core::{DbMutex, Error, testing::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let mutex = DbMutex::new(MemoryStore::new())?;
    /// let blocking = mutex.blocking();
    /// let job = tokio::task::spawn_blocking(move || blocking.run("job", |_guard| 42));
    /// assert_eq!(job.await.unwrap()?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn blocking(&self) -> DbMutex {
        DbMutex { mutex: self.clone() }
    }
}

impl From<crate::DbMutex> for DbMutex {
    fn from(mutex: crate::DbMutex) -> Self {
        Self { mutex }
    }
}

impl From<DbMutex> for crate::DbMutex {
    fn from(blocking: DbMutex) -> Self {
        blocking.mutex
    }
}

impl Deref for DbMutex {
    type Target = crate::DbMutex;

    fn deref(&self) -> &crate::DbMutex {
        &self.mutex
    }
}

impl DbMutex {
    /// Returns a handle to a lock. **Nothing is acquired yet**, unlike with the `lock` method of other mutexes. An invalid
    /// id is reported by [`acquire`](Lock::acquire).
    pub fn lock(&self, lock_id: impl AsRef<str>) -> Lock {
        Lock::new(self.mutex.lock(lock_id))
    }

    /// Runs `body` under the lock; short for [`lock(lock_id).run(body)`](Lock::run).
    ///
    /// # Errors
    /// Same as [`Lock::run`].
    pub fn run<T>(&self, lock_id: impl AsRef<str>, body: impl FnOnce(&Guard) -> T) -> Result<T, RunError<T>> {
        self.lock(lock_id).run(body)
    }

    /// Runs `body` under the lock, or skips it if the lock is held; short for
    /// [`lock(lock_id).run_or_skip(body)`](Lock::run_or_skip).
    ///
    /// # Errors
    /// Same as [`Lock::run_or_skip`].
    pub fn run_or_skip<T>(
        &self,
        lock_id: impl AsRef<str>,
        body: impl FnOnce(&Guard) -> T,
    ) -> Result<Option<T>, RunError<T>> {
        self.lock(lock_id).run_or_skip(body)
    }

    /// Returns the row of a lock, or `None` if the lock was never acquired or its row was purged.
    ///
    /// # Errors
    /// Same as [`DbMutex::find`](crate::DbMutex::find), and [`Error::Invalid`] where blocking
    /// [is refused](super#where-it-may-be-called).
    pub fn find(&self, lock_id: impl AsRef<str>) -> Result<Option<LockRow>, Error> {
        let lock_id = LockId::new(lock_id)?;
        self.wait(Action::Read, Some(&lock_id), self.mutex.find(&lock_id))
    }

    /// Returns the rows of the locks that `filter` selects, ordered by the bytes of their ids.
    ///
    /// # Errors
    /// Same as [`DbMutex::list`](crate::DbMutex::list), and [`Error::Invalid`] where blocking
    /// [is refused](super#where-it-may-be-called).
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, Error> {
        self.wait(Action::List, None, self.mutex.list(filter))
    }

    /// Releases the lock regardless of who holds it; see [`DbMutex::force_release`](crate::DbMutex::force_release).
    ///
    /// # Errors
    /// Same as there, and [`Error::Invalid`] where blocking [is refused](super#where-it-may-be-called).
    pub fn force_release(&self, lock_id: impl AsRef<str>) -> Result<bool, Error> {
        let lock_id = LockId::new(lock_id)?;
        self.wait(Action::Release, Some(&lock_id), self.mutex.force_release(&lock_id))
    }

    /// Removes the rows of locks that became free at least `older_than` ago, and returns their number; see
    /// [`DbMutex::purge_expired`](crate::DbMutex::purge_expired).
    ///
    /// # Errors
    /// Same as there, and [`Error::Invalid`] where blocking [is refused](super#where-it-may-be-called).
    pub fn purge_expired(&self, older_than: Duration) -> Result<u64, Error> {
        self.wait(Action::Purge, None, self.mutex.purge_expired(older_than))
    }

    /// Waits up to `limit` for dropped guards to be released, and returns the ids that are still pending; they end with their
    /// TTL. Call it before the process exits.
    ///
    /// # Errors
    /// [`Error::Invalid`] where blocking [is refused](super#where-it-may-be-called); [`Error::Store`] if the mutex has no thread.
    pub fn shutdown(&self, limit: Duration) -> Result<Vec<LockId>, Error> {
        self.wait(Action::Release, None, async { Ok(self.mutex.shutdown(limit).await) })
    }

    fn wait<T>(
        &self,
        action: Action,
        lock_id: Option<&LockId>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        wait(&self.mutex.shared.engine, (action, lock_id), work)
    }
}
