use std::error::Error as StdError;

use db_mutex_core::store::VerifyQuery;
use db_mutex_core::{Error, Fence, Guard, StoreError, StoreErrorKind};
use tokio_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};

use crate::PostgresStore;
use crate::error::store_error;

impl PostgresStore {
    /// Verifies inside your own transaction that the guard still holds its lock, and ensures that it does until the commit.
    ///
    /// A lease alone cannot do this: your transaction is protected even if it outlives the lease. From this call until the
    /// transaction ends, no one else is granted the lock. The attempts of others do not wait for the transaction: they find
    /// the lock held or, once its lease has ended, busy. Commit only if this returns `Ok`; roll back otherwise.
    ///
    /// The transaction must be on the store's database. Under READ COMMITTED, PostgreSQL's default, renewals still work
    /// meanwhile. Under REPEATABLE READ and SERIALIZABLE they wait for your transaction. There this method fails with a
    /// serialization failure if, since the transaction began, the lock was renewed or another process began to wait for it.
    /// So verify first, and keep the transaction short.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lock is lost; [`Error::Store`] if the database fails, and with it the transaction.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the row may be locked until the transaction ends.
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

    /// Same as [`verify_in`](Self::verify_in), with a transaction of another driver: sqlx, sea-orm, diesel-async, …
    ///
    /// `send` runs a [query](VerifyQuery) on `connection`, inside your transaction, and returns the integer of the row, or
    /// `None` if there is no row. It is called twice: the first run locks the row, the second reads the locked row.
    ///
    /// ```ignore
    /// let mut transaction = pool.begin().await?;
    /// store
    ///     .verify_with(&mut *transaction, &guard, async |connection, query| {
    ///         let statement = sqlx::query_scalar(query.sql).bind(query.lock_id).bind(query.owner);
    ///         statement.fetch_optional(connection).await
    ///     })
    ///     .await?;
    /// // … the work …
    /// transaction.commit().await?;
    /// ```
    ///
    /// Pass everything that `send` needs as `connection`. In a spawned task, the compiler rejects a closure that borrows
    /// anything else (“`Send` is not general enough”).
    ///
    /// # Errors
    /// Same as [`verify_in`](Self::verify_in); an error of `send` is the source of [`Error::Store`]. Roll back.
    ///
    /// # Cancellation safety
    /// Same as [`verify_in`](Self::verify_in).
    pub async fn verify_with<C, E>(
        &self,
        connection: &mut C,
        guard: &Guard,
        mut send: impl AsyncFnMut(&mut C, VerifyQuery<'_>) -> Result<Option<i64>, E>,
    ) -> Result<Fence, Error>
    where
        C: ?Sized,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let query = self.verify_query(guard);
        let answer = match send(connection, query).await {
            Ok(Some(_)) => send(connection, query).await,
            lost_or_failed => lost_or_failed,
        };
        verified(guard, answer)
    }

    /// Same as [`verify_with`](Self::verify_with) with a driver that blocks, such as diesel.
    ///
    /// # Errors
    /// Same as [`verify_with`](Self::verify_with).
    pub fn blocking_verify_with<C, E>(
        &self,
        connection: &mut C,
        guard: &Guard,
        mut send: impl FnMut(&mut C, VerifyQuery<'_>) -> Result<Option<i64>, E>,
    ) -> Result<Fence, Error>
    where
        C: ?Sized,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let query = self.verify_query(guard);
        let answer = match send(connection, query) {
            Ok(Some(_)) => send(connection, query),
            lost_or_failed => lost_or_failed,
        };
        verified(guard, answer)
    }

    fn verify_query<'a>(&'a self, guard: &'a Guard) -> VerifyQuery<'a> {
        VerifyQuery::new(&self.shared.sql.verify, guard.lock_id(), guard.owner_token())
    }
}

fn verified<E>(guard: &Guard, answer: Result<Option<i64>, E>) -> Result<Fence, Error>
where
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    guard.verified(answer.map(|fence| fence.map(Fence::new)).map_err(|error| {
        StoreError::new(StoreErrorKind::Other, "the query that verifies the lock failed").with_source(error)
    }))
}
