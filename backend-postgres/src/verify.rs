use db_mutex_core::{Error, Fence, Guard};
use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use crate::PostgresStore;
use crate::error::store_error;

impl PostgresStore {
    /// Proves inside your own transaction that the guard still holds its lock, and keeps it so until the commit.
    ///
    /// What a lease alone cannot do: your transaction's work is protected even if it outlives the lease. From this call
    /// until the transaction ends nobody else is granted the lock. Another's attempt does not wait for you: the
    /// lock is held, or, once its lease has ended, busy. Commit only if the answer was `Ok`; roll back otherwise.
    ///
    /// The transaction is of the same database. Under READ COMMITTED, PostgreSQL's default, renewals go on meanwhile.
    /// Under REPEATABLE READ and SERIALIZABLE they wait for your transaction, and a lock that was renewed, or that somebody
    /// began to wait for, since your transaction began makes this fail with a serialization failure: verify first, and be
    /// brief.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lock is lost; [`Error::Store`] when the database fails, and with it the transaction.
    ///
    /// # Cancellation safety
    /// When the future is dropped the row may be locked until the transaction ends.
    pub async fn verify_in(&self, transaction: &Transaction<'_>, guard: &Guard) -> Result<Fence, Error> {
        let (id, owner) = (guard.lock_id().as_str(), guard.owner_token().as_bytes().as_slice());
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&id, Type::TEXT), (&owner, Type::BYTEA)];
        let sql = &self.shared.sql.verify;
        // The first takes the lock, the second sees what it is on; see `Sql::verify`. Both go out in one round trip.
        let answer =
            tokio::try_join!(transaction.query_typed(sql, &parameters), transaction.query_typed(sql, &parameters))
                .and_then(|(locked, seen)| {
                    let row = locked.first().and(seen.first());
                    row.map(|row| row.try_get(0).map(Fence::new)).transpose()
                });
        guard.verified(answer.map_err(store_error))
    }

    /// The SQL that [`verify_in`](Self::verify_in) runs, for users of other drivers.
    ///
    /// Run it **twice** inside your transaction, with the parameters `$1`, the lock id as text, and `$2`, the 16 bytes of
    /// [`Guard::owner_token`] as `bytea`. The first run takes the lock on the row, the second sees what it was taken on: if it
    /// answers a row, with the fencing token, the lock is yours until the transaction ends. If either answers none, it is
    /// lost: roll back.
    pub fn verify_sql(&self) -> &str {
        &self.shared.sql.verify
    }
}
