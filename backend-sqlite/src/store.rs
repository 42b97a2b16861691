use std::time::Duration;

use db_mutex_core::store::{
    DeleteBy, DeleteRequest, Deleted, Fence, HolderName, InsertRequest, Inserted, Lease, Limits, ListFilter, LockId,
    LockRow, LockStore, RenewRequest, Renewed, StoreError, StoreErrorKind, StoreTime, async_trait,
    duration_from_micros,
};
use rusqlite::{Row, Transaction, TransactionBehavior};

use crate::SqliteStore;
use crate::inbox::{Access, Kind};
use crate::row::one_row;
use crate::send::Database;

#[async_trait]
impl LockStore for SqliteStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let request = request.clone();
        self.worker.call(Kind::Insert, move |database, access| database.insert(&request, access)).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let request = request.clone();
        self.worker.call(Kind::Change, move |database, _| database.delete(&request)).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let request = request.clone();
        self.worker.call(Kind::Change, move |database, _| database.renew(&request)).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let older_than_us = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
        self.worker.call(Kind::Change, move |database, _| database.purge(older_than_us)).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let id = id.clone();
        self.worker.call(Kind::Read, move |database, _| database.find(&id)).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let include_free = filter.include_free;
        self.worker.call(Kind::Read, move |database, _| database.list(include_free)).await
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
        let (count, requests) = (requests.len(), requests.to_vec());
        let work = move |database: &mut Database, access| database.insert_many(&requests, access);
        self.worker.call_many(Kind::Insert, count, work).await
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        let (count, requests) = (requests.len(), requests.to_vec());
        let work = move |database: &mut Database, _| database.in_one_transaction(&requests, Database::delete);
        self.worker.call_many(Kind::Change, count, work).await
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        let (count, requests) = (requests.len(), requests.to_vec());
        let work = move |database: &mut Database, _| database.in_one_transaction(&requests, Database::renew);
        self.worker.call_many(Kind::Change, count, work).await
    }

    /// A few calls at a time are enough: there is one thread. As many requests as it can do in some milliseconds. A call
    /// waits for other writers, and does its work.
    fn limits(&self) -> Limits {
        let limits = Limits::new().concurrency(4).batch(500);
        let call = limits.call.max(self.worker.busy_timeout() + Duration::from_secs(5));
        limits.call(call)
    }
}

/// Why an insert was not granted.
enum Blocker {
    Held(LockRow),
    Spent,
}

impl Database {
    /// First a plain read, which refuses without a write lock; then the upsert, which decides. A lock that was released here
    /// just now is hardly held by another, and is not read.
    fn insert(&self, request: &InsertRequest, access: Access) -> Result<Inserted, StoreError> {
        if access == Access::Read {
            return self.refuse(request, access)?.ok_or_else(busy);
        }
        if self.released_last.take().as_ref() == Some(&request.lock_id) {
            match self.upsert(request) {
                Ok(Some(granted)) => return Ok(granted),
                Err(error) if error.kind() != StoreErrorKind::Busy => return Err(error),
                // Another owner has it, or another process is writing: the row shows which.
                _ => {}
            }
        }
        if let Some(answer) = self.ask(request)? {
            return Ok(answer);
        }
        // Another process was faster, between the read and the upsert. Under the write lock no one can be.
        self.in_one_transaction(&[request], |database, request| database.ask_locked(request))
            .pop()
            .unwrap_or_else(|| Err(busy()))
    }

    fn ask_locked(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        self.ask(request)?.ok_or_else(busy)
    }

    /// The answer, or `None` if another process changed the row between the two statements.
    fn ask(&self, request: &InsertRequest) -> Result<Option<Inserted>, StoreError> {
        if let Some(refusal) = self.refuse(request, Access::Write)? {
            return Ok(Some(refusal));
        }
        self.upsert(request)
    }

    /// The grant; `None` if there is none.
    fn upsert(&self, request: &InsertRequest) -> Result<Option<Inserted>, StoreError> {
        let parameters =
            (request.lock_id.as_str(), request.owner.as_bytes(), request.holder.as_str(), request.ttl.to_micros());
        Ok(self.write_lease(&self.sql.insert_or_take_over, parameters)?.map(Inserted::Granted))
    }

    /// The refusals need no transaction; the others share one.
    fn insert_many(&self, requests: &[InsertRequest], access: Access) -> Vec<Result<Inserted, StoreError>> {
        let mut answers: Vec<_> = requests.iter().map(|request| self.refuse(request, access).transpose()).collect();
        if access == Access::Read {
            return answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(busy()))).collect();
        }
        let open = requests.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        let open: Vec<_> = open.map(|(request, _)| request).collect();
        let mut granted = self.in_one_transaction(&open, |database, request| database.ask_locked(request)).into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
            *answer = granted.next();
        }
        answers.into_iter().flatten().collect()
    }

    /// The answer to an insert that is not granted; `None` if it may be.
    fn refuse(&self, request: &InsertRequest, access: Access) -> Result<Option<Inserted>, StoreError> {
        let Some(blocker) = self.find_blocker(request)? else { return Ok(None) };
        let Blocker::Held(row) = blocker else { return Ok(Some(Inserted::Spent)) };
        if access == Access::Write && row.is_excessive() {
            match self.execute(&self.sql.end_excess, [request.lock_id.as_str()]) {
                Ok(_) => {}
                // A writer elsewhere: the row is left to the next attempt.
                Err(error) if error.kind() == StoreErrorKind::Busy => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Inserted::Held(row.to_holder())))
    }

    fn find_blocker(&self, request: &InsertRequest) -> Result<Option<Blocker>, StoreError> {
        let parameters = (request.lock_id.as_str(), request.owner.as_bytes());
        let read = |row: &Row<'_>| {
            let is_spent: bool = row.get(9)?;
            if is_spent { Ok(Blocker::Spent) } else { read_row(row).map(Blocker::Held) }
        };
        let run = || one_row(&mut *self.connection.prepare_cached(&self.sql.find_blocker)?, parameters, read);
        run().map_err(|error| self.error(error))
    }

    fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let parameters = (request.lock_id.as_str(), request.owner.as_bytes(), request.ttl.to_micros());
        Ok(match self.write_lease(&self.sql.renew, parameters)? {
            Some(lease) => Renewed::Renewed(lease),
            None => Renewed::NotHeld,
        })
    }

    pub(crate) fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let id = request.lock_id.as_str();
        let (released, before) = match &request.by {
            DeleteBy::Owner(owner) => {
                let owner = owner.as_bytes();
                let released = self.execute(&self.sql.delete_by_owner, (id, owner, request.hold_at_least_us()))?;
                (released, released == 0 && self.exists(&self.sql.was_released_by, (id, owner))?)
            }
            DeleteBy::Fence(fence) => {
                let parameters = (id, fence.get());
                let released = self.execute(&self.sql.delete_by_fence, parameters)?;
                (released, released == 0 && self.exists(&self.sql.has_released_fence, parameters)?)
            }
            by => {
                let message = format!("the SQLite store does not know how to delete by {by:?}; update db-mutex-sqlite");
                return Err(StoreError::new(StoreErrorKind::Other, message));
            }
        };
        Ok(match (released, before) {
            (1.., _) => {
                self.released_last.replace(Some(request.lock_id.clone()));
                Deleted::Released
            }
            (0, true) => Deleted::Already,
            (0, false) => Deleted::NotHeld,
        })
    }

    fn purge(&self, older_than_us: i64) -> Result<u64, StoreError> {
        Ok(self.execute(&self.sql.purge, [older_than_us])? as u64)
    }

    fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.read_one(&self.sql.find, [id.as_str()])
    }

    fn list(&self, include_free: bool) -> Result<Vec<LockRow>, StoreError> {
        let sql = if include_free { &self.sql.list_all } else { &self.sql.list_taken };
        let failed = |error| self.error(error);
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map((), |row| Ok(read_row(row))).map_err(failed)?;
        rows.map(|row| row.and_then(|row| row).map_err(failed)).collect()
    }

    /// Does `each` for all, and commits them together: one wait for the write lock and one commit. Each answer stands
    /// alone, unless the transaction fails.
    fn in_one_transaction<Q, A>(
        &self,
        requests: &[Q],
        each: impl Fn(&Self, &Q) -> Result<A, StoreError>,
    ) -> Vec<Result<A, StoreError>> {
        if requests.is_empty() {
            return Vec::new();
        }
        let run = || {
            // Immediate: a transaction that reads first and writes then fails at once when another has written in between.
            // Unchecked only for the borrow: the connection has no other user than this thread.
            let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
                .map_err(|error| self.error(error))?;
            let mut answers = Vec::with_capacity(requests.len());
            for request in requests {
                let answer = each(self, request);
                // Some failures, such as a full disk, undo the whole transaction, and with it what was done before.
                if self.connection.is_autocommit() {
                    let undone = || StoreError::new(StoreErrorKind::Other, "SQLite has undone the transaction");
                    return Err(answer.err().unwrap_or_else(undone));
                }
                answers.push(answer);
            }
            transaction.commit().map_err(|error| self.error(error))?;
            Ok(answers)
        };
        run().unwrap_or_else(|error: StoreError| error.for_all(requests.len()))
    }

    fn exists(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<bool, StoreError> {
        let run = || self.connection.prepare_cached(sql)?.exists(parameters);
        run().map_err(|error| self.error(error))
    }

    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize, StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute(parameters);
        run().map_err(|error| self.error(error))
    }

    /// Runs a write that returns at most one lease.
    fn write_lease(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Option<Lease>, StoreError> {
        let read = |row: &Row<'_>| read_lease(row, [0, 1, 2]);
        let run = || one_row(&mut *self.connection.prepare_cached(sql)?, parameters, read);
        run().map_err(|error| self.error(error))
    }

    fn read_one(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Option<LockRow>, StoreError> {
        let run = || one_row(&mut *self.connection.prepare_cached(sql)?, parameters, read_row);
        run().map_err(|error| self.error(error))
    }
}

fn busy() -> StoreError {
    StoreError::new(StoreErrorKind::Busy, "another process has changed the row at the same moment; try again")
}

/// A row of the statements that begin with `Sql`'s `SELECT lock_id, …`.
fn read_row(row: &Row<'_>) -> rusqlite::Result<LockRow> {
    let id: String = row.get(0)?;
    let id = LockId::new(&id)
        .map_err(|invalid| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, invalid.into()))?;
    let holder = HolderName::lossy(&row.get::<_, String>(3)?);
    let lease = read_lease(row, [2, 4, 6])?;
    let mut read = LockRow::new(id, holder, lease);
    read.owned = row.get(1)?;
    read.released_at = row.get::<_, Option<i64>>(5)?.map(StoreTime::from_micros);
    read.ttl = duration_from_micros(row.get(7)?);
    read.now = StoreTime::from_micros(row.get(8)?);
    Ok(read)
}

/// The fencing token, and the times of the acquisition and of its end, in these columns.
fn read_lease(row: &Row<'_>, columns: [usize; 3]) -> rusqlite::Result<Lease> {
    let [fence, acquired_at, expires_at] = columns;
    let time = |column| row.get(column).map(StoreTime::from_micros);
    Ok(Lease::new(Fence::new(row.get(fence)?), time(acquired_at)?, time(expires_at)?))
}
