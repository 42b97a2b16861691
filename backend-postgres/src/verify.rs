use db_mutex_core::{Error, Fence, Guard, StoreError};
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use crate::PostgresStore;
use crate::error::store_error;

impl PostgresStore {
    /// Proves inside your own transaction that the guard still holds its lock, and keeps it so until the commit.
    ///
    /// What a lease alone cannot do: your transaction's work is protected even if it outlives the lease. From this call
    /// until the transaction ends nobody else is granted the lock; renewals go on meanwhile. Commit only if the answer was
    /// `Ok`; roll back otherwise. Another's attempt is refused at once, it does not wait for you.
    ///
    /// The transaction is of the same database. Any isolation level will do.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the lock is lost; [`Error::Store`] when the database fails, and with it the transaction.
    ///
    /// # Cancellation safety
    /// When the future is dropped the row may be locked until the transaction ends.
    pub async fn verify_in(&self, transaction: &Transaction<'_>, guard: &Guard) -> Result<Fence, Error> {
        let lock_id = guard.lock_id();
        let failed = |source: StoreError| Error::Store { lock_id: lock_id.clone(), action: "verify", source };
        let owner = guard.owner().as_bytes().to_vec();
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&lock_id.as_str(), Type::TEXT), (&owner, Type::BYTEA)];
        let rows = transaction
            .query_typed(&self.shared.sql.verify, &parameters)
            .await
            .map_err(|error| failed(store_error(error)))?;
        match rows.first() {
            Some(row) => Ok(Fence::new(row.try_get(0).map_err(|error| failed(store_error(error)))?)),
            None => Err(Error::TimedOut { lock_id: lock_id.clone(), output: () }),
        }
    }

    /// The SQL that [`verify_in`](Self::verify_in) runs, for users of other drivers.
    ///
    /// Run it inside your transaction with two parameters: `$1`, the lock id as text, and `$2`, the 16 bytes of
    /// [`Guard::owner`] as `bytea`. One row, with the fencing token, means that the lock is yours until the transaction
    /// ends; no row means that it is lost: roll back.
    ///
    /// ```text
    /// SELECT fence FROM "db_mutex_locks" WHERE lock_id = $1 AND owner = $2 AND expires_at > … FOR KEY SHARE
    /// ```
    pub fn verify_sql(&self) -> &str {
        &self.shared.sql.verify
    }
}
