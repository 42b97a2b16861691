mod sql;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use db_mutex_core::admin::{ListFilter, LockRow, StoreTime};
use db_mutex_core::store::rules::{self, Outcome, Row};
use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, Limits, LockStore, RenewRequest, Renewed};
use db_mutex_core::{LockId, StoreError, StoreErrorKind};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::both::{self, Deadline};

/// Four calls may wait for one another, so that none takes longer than the ten seconds that a store is given.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const CALLS: usize = 4;

/// Keeps locks in the table `db_mutex_dbmutex` of a Django project on SQLite.
///
/// What Django's table has no column for is in a table beside it, `db_mutex_rust`. Clones share a connection.
#[derive(Clone)]
pub struct DjangoSqlite {
    connection: Arc<Mutex<Connection>>,
    file: PathBuf,
    deadline: Deadline,
}

impl DjangoSqlite {
    /// Opens the database file of a Django project. `django_ttl` has to be what its `DB_MUTEX_TTL_SECONDS` says, by default 30
    /// minutes and `None` for never: Django deletes rows by it, ours too.
    ///
    /// # Errors
    /// If the file cannot be opened, or Django has not made its table yet.
    pub async fn open(file: impl AsRef<Path>, django_ttl: Option<Duration>) -> Result<Self, StoreError> {
        let file = file.as_ref().to_owned();
        let opening = move || {
            let failed = |error| store_error(&file, error);
            let connection = Connection::open(&file).map_err(failed)?;
            connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
            if let Some(problem) = sql::prepare(&connection).map_err(failed)? {
                return Err(StoreError::new(StoreErrorKind::Schema, format!("the database {file:?} {problem}")));
            }
            // Django and SQLite have the clock of the same machine.
            let deadline = Deadline { ttl: django_ttl, margin: Duration::ZERO };
            Ok(Self { connection: Arc::new(Mutex::new(connection)), file, deadline })
        };
        in_a_thread(opening).await
    }

    /// Runs `work` in a transaction, so that each method is atomic, to Django too. One that may write has the write lock from
    /// its start.
    async fn transaction<T: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Connection, StoreTime) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let working = move || {
            // A panic has rolled its transaction back.
            let mut connection = store.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let in_transaction = || {
                let transaction = connection.transaction_with_behavior(behavior)?;
                let done = work(&transaction, sql::now())?;
                transaction.commit()?;
                Ok(done)
            };
            in_transaction().map_err(|error| store_error(&store.file, error))
        };
        in_a_thread(working).await
    }

    /// Applies a rule of the contract to the rows of an id.
    async fn apply<A: Send + 'static>(
        &self,
        lock_id: &LockId,
        rule: impl FnOnce(Option<&Row>, StoreTime) -> Outcome<A> + Send + 'static,
    ) -> Result<A, StoreError> {
        let (lock_id, deadline) = (lock_id.clone(), self.deadline);
        let work = move |connection: &Connection, now| {
            let both = sql::read(connection, &lock_id)?;
            let before = both.row(deadline, now);
            let outcome = rule(before.as_ref(), now);
            if let Some(after) = &outcome.write {
                let change = both.change(before.as_ref(), after, deadline, now);
                sql::write(connection, &lock_id, &both, after, change)?;
            }
            Ok(outcome.answer)
        };
        self.transaction(TransactionBehavior::Immediate, work).await
    }
}

#[async_trait]
impl LockStore for DjangoSqlite {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let asked = request.clone();
        // The clock is read under the write lock, so the end of an excess needs no second statement.
        self.apply(&request.lock_id, move |row, now| both::insert(row, &asked, now)).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let asked = request.clone();
        self.apply(&request.lock_id, move |row, now| rules::delete(row, &asked, now)).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let asked = request.clone();
        self.apply(&request.lock_id, move |row, now| rules::renew(row, &asked, now)).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let deadline = self.deadline;
        let work = move |connection: &Connection, now| {
            let mut purged = 0;
            for (lock_id, both) in sql::read_all(connection)? {
                if both.row(deadline, now).is_some_and(|row| rules::is_purgeable(&row, older_than, now)) {
                    sql::delete(connection, &lock_id)?;
                    purged += 1;
                }
            }
            Ok(purged)
        };
        self.transaction(TransactionBehavior::Immediate, work).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let (lock_id, deadline) = (id.clone(), self.deadline);
        let work = move |connection: &Connection, now| {
            let row = sql::read(connection, &lock_id)?.row(deadline, now);
            Ok(row.map(|row| row.read(lock_id, now)))
        };
        self.transaction(TransactionBehavior::Deferred, work).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let (filter, deadline) = (filter.clone(), self.deadline);
        let work = move |connection: &Connection, now| {
            let all = sql::read_all(connection)?.into_iter();
            let rows = all.filter_map(|(lock_id, both)| Some(both.row(deadline, now)?.read(lock_id, now)));
            Ok(rows.filter(|row| filter.include_free || row.is_taken()).collect())
        };
        self.transaction(TransactionBehavior::Deferred, work).await
    }

    fn limits(&self) -> Limits {
        Limits::new().concurrency(CALLS)
    }
}

impl fmt::Debug for DjangoSqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, deadline, .. } = self;
        f.debug_struct("DjangoSqlite").field("file", file).field("deadline", deadline).finish_non_exhaustive()
    }
}

/// SQLite blocks. A future that is dropped leaves its request to run to its end.
async fn in_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let stopped = |error| StoreError::new(StoreErrorKind::Other, "the call did not end").with_source(error);
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

fn store_error(file: &Path, error: rusqlite::Error) -> StoreError {
    let (kind, what) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (StoreErrorKind::Busy, "is locked by another process")
        }
        Some(ErrorCode::ReadOnly) => (StoreErrorKind::ReadOnly, "is read-only"),
        Some(ErrorCode::DiskFull) => (StoreErrorKind::Full, "cannot grow: the disk is full"),
        Some(ErrorCode::CannotOpen) => (StoreErrorKind::Config, "cannot be opened"),
        _ => (StoreErrorKind::Other, "could not be used"),
    };
    StoreError::new(kind, format!("the database {file:?} {what}")).with_source(error)
}
