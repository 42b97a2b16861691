use std::time::Duration;

use db_mutex_core::{
    DeleteBy, DeleteRequest, Deleted, Fence, HolderText, InsertRequest, Inserted, Lease, ListFilter, LockId, LockRow,
    LockStore, OwnerToken, PendingDelete, RenewRequest, Renewed, StoreError, StoreErrorKind, async_trait,
};
use rusqlite::{OptionalExtension, Row, TransactionBehavior};

use crate::SqliteStore;
use crate::worker::Database;

#[async_trait]
impl LockStore for SqliteStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let request = request.clone();
        self.worker.call(move |database| database.insert(&request)).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let request = request.clone();
        self.worker.call(move |database| database.delete(&request)).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let request = request.clone();
        self.worker.call(move |database| database.renew(&request)).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let older_than_us = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
        self.worker.call(move |database| database.purge(older_than_us)).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let id = id.clone();
        self.worker.call(move |database| database.find(&id)).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let include_free = filter.include_free;
        self.worker.call(move |database| database.list(include_free)).await
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Result<Vec<Inserted>, StoreError> {
        let requests = requests.to_vec();
        self.worker.call(move |database| database.in_one_transaction(&requests, Database::insert)).await
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Result<Vec<Deleted>, StoreError> {
        let requests = requests.to_vec();
        self.worker.call(move |database| database.in_one_transaction(&requests, Database::delete)).await
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Result<Vec<Renewed>, StoreError> {
        let requests = requests.to_vec();
        self.worker.call(move |database| database.in_one_transaction(&requests, Database::renew)).await
    }

    fn delete_soon(&self, delete: PendingDelete) -> Result<(), PendingDelete> {
        self.worker.delete_soon(delete)
    }
}

impl Database {
    /// First a look, which refuses without a write lock; then the upsert, which decides.
    fn insert(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let id = request.lock_id.as_str();
        let owner = request.owner.as_bytes();
        loop {
            if let Some(row) = self.read_one(&self.sql.find_blocker, (id, owner))? {
                return Ok(Inserted::Held(row.to_holder()));
            }
            let parameters = (id, owner, request.holder.as_str(), request.ttl.as_micros());
            // No row: somebody was faster, between the look and the upsert. The next look will show who.
            if let Some(lease) = self.write_lease(&self.sql.insert_or_take_over, parameters)? {
                return Ok(Inserted::Granted(lease));
            }
        }
    }

    fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let parameters = (request.lock_id.as_str(), request.owner.as_bytes(), request.ttl.as_micros());
        Ok(match self.write_lease(&self.sql.renew, parameters)? {
            Some(lease) => Renewed::Renewed(lease),
            None => Renewed::NotHeld,
        })
    }

    pub(crate) fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let id = request.lock_id.as_str();
        let changed = match &request.by {
            DeleteBy::Owner(owner) => {
                self.execute(&self.sql.delete_by_owner, (id, owner.as_bytes(), request.hold_at_least_us()))?
            }
            DeleteBy::Force => self.execute(&self.sql.delete_by_force, [id])?,
        };
        Ok(if changed > 0 { Deleted::Released } else { Deleted::NotHeld })
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

    /// Does `each` for all, and commits them together: one wait for the write lock and one commit.
    fn in_one_transaction<Q, A>(
        &mut self,
        requests: &[Q],
        each: impl Fn(&Self, &Q) -> Result<A, StoreError>,
    ) -> Result<Vec<A>, StoreError> {
        // Immediate: a transaction that reads first and writes then fails at once when another has written in between.
        // Unchecked only for the borrow: the connection has no other user than this thread.
        let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)
            .map_err(|e| self.error(e))?;
        let answers = requests.iter().map(|request| each(self, request)).collect::<Result<_, _>>()?;
        transaction.commit().map_err(|error| self.error(error))?;
        Ok(answers)
    }

    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize, StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute(parameters);
        run().map_err(|error| self.error(error))
    }

    /// Runs a write that returns at most one lease. `query_one` steps to the end of the statement, where the commit is
    /// that may still fail.
    fn write_lease(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Option<Lease>, StoreError> {
        let run = || {
            self.connection
                .prepare_cached(sql)?
                .query_one(parameters, |row| Ok(Lease::new(Fence::new(row.get(0)?), row.get(1)?, row.get(2)?)))
        };
        run().optional().map_err(|error| self.error(error))
    }

    fn read_one(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Option<LockRow>, StoreError> {
        let run = || self.connection.prepare_cached(sql)?.query_one(parameters, |row| Ok(read_row(row)));
        run().optional().map_err(|error| self.error(error))?.transpose().map_err(|error| self.error(error))
    }
}

/// A row of the statements that begin with `Sql`'s `SELECT lock_id, …`.
fn read_row(row: &Row<'_>) -> rusqlite::Result<LockRow> {
    let id: String = row.get(0)?;
    let id = LockId::new(&id)
        .map_err(|invalid| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, invalid.into()))?;
    let holder = HolderText::lossy(&row.get::<_, String>(3)?);
    let lease = Lease::new(Fence::new(row.get(2)?), row.get(4)?, row.get(6)?);
    let mut read = LockRow::new(id, holder, lease);
    read.owned = row.get(1)?;
    read.released_at_us = row.get(5)?;
    read.now_us = row.get(7)?;
    Ok(read)
}

impl SqliteStore {
    pub(crate) fn verify_owner(
        &self,
        transaction: &rusqlite::Transaction<'_>,
        id: &LockId,
        owner: &OwnerToken,
    ) -> Result<Option<Fence>, StoreError> {
        let failed = |error: rusqlite::Error| {
            let message = "the transaction could not verify the lock; is it on the store's database file?";
            StoreError::new(StoreErrorKind::Other, message).with_source(error)
        };
        let mut verify = transaction.prepare_cached(&self.verify_sql).map_err(failed)?;
        let fence = verify.query_one((id.as_str(), owner.as_bytes()), |row| row.get(0).map(Fence::new));
        fence.optional().map_err(failed)
    }
}
