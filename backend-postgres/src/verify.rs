use db_mutex_core::{Error, Fence, Guard};
use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use crate::PostgresStore;
use crate::error::store_error;

impl PostgresStore {
    /// Proves inside your own transaction that the guard still holds its lock, and keeps it so until the commit.
    ///
    /// What a lease alone cannot do: your transaction's work is protected even if it outlives the lease. From this call
    /// until the transaction ends nobody else is granted the lock. Another's attempt is refused at once, it does not wait
    /// for you. Commit only if the answer was `Ok`; roll back otherwise.
    ///
    /// The transaction is of the same database. Under READ COMMITTED, PostgreSQL's default, renewals go on meanwhile.
    /// Under REPEATABLE READ and SERIALIZABLE they wait for your transaction, and a lock that was renewed, or that somebody
    /// began to wait for, since your transaction began makes this fail with a serialization failure: verify first, and be
    /// brief.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the lock is lost; [`Error::Store`] when the database fails, and with it the transaction.
    ///
    /// # Cancellation safety
    /// When the future is dropped the row may be locked until the transaction ends.
    pub async fn verify_in(&self, transaction: &Transaction<'_>, guard: &Guard) -> Result<Fence, Error> {
        let lock_id = guard.lock_id();
        let failed = |error| Error::Store { lock_id: lock_id.clone(), action: "verify", source: store_error(error) };
        let (id, owner) = (lock_id.as_str(), guard.owner().as_bytes().as_slice());
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&id, Type::TEXT), (&owner, Type::BYTEA)];
        let sql = &self.shared.sql.verify;
        // The first takes the lock, the second sees what it is on; see `Sql::verify`. Both go out in one round trip.
        let (locked, seen) =
            tokio::try_join!(transaction.query_typed(sql, &parameters), transaction.query_typed(sql, &parameters))
                .map_err(failed)?;
        match (locked.first(), seen.first()) {
            (Some(_), Some(row)) => Ok(Fence::new(row.try_get(0).map_err(failed)?)),
            _ => Err(Error::TimedOut { lock_id: lock_id.clone(), output: () }),
        }
    }

    /// The SQL that [`verify_in`](Self::verify_in) runs, for users of other drivers.
    ///
    /// Run it **twice** inside your transaction, with the parameters `$1`, the lock id as text, and `$2`, the 16 bytes of
    /// [`Guard::owner`] as `bytea`. The first run takes the lock on the row, the second sees what it was taken on: if it
    /// answers a row, with the fencing token, the lock is yours until the transaction ends. If either answers none, it is
    /// lost: roll back.
    pub fn verify_sql(&self) -> &str {
        &self.shared.sql.verify
    }
}
