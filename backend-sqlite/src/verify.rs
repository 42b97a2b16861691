use std::error::Error as StdError;

use db_mutex_core::store::VerifyQuery;
use db_mutex_core::{Error, Fence, Guard, StoreError, StoreErrorKind};

use crate::SqliteStore;
use crate::row::one_row;

impl SqliteStore {
    /// Verifies inside your own transaction that the guard still holds its lock, and ensures that it does until the commit.
    ///
    /// A lease alone cannot do this: your transaction is protected even if it outlives the lease. From this call until its
    /// end, the transaction has the database's only write lock, which a takeover needs too. Meanwhile the requests of
    /// others, including renewals, wait up to their busy timeout, so keep the transaction short. Commit only if this
    /// returns `Ok`; roll back otherwise.
    ///
    /// Use a transaction on the same file, begun with
    /// [`TransactionBehavior::Immediate`](rusqlite::TransactionBehavior::Immediate): a deferred one that has already read
    /// fails here if another connection has written since.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lock is lost, or the transaction is on another file; [`Error::Store`] if the
    /// database fails.
    pub fn verify_in(&self, transaction: &rusqlite::Transaction<'_>, guard: &Guard) -> Result<Fence, Error> {
        let failed = |error: rusqlite::Error| {
            let message = "the transaction could not verify the lock; is it on the store's database file?";
            StoreError::new(StoreErrorKind::Other, message).with_source(error)
        };
        let answer = transaction.prepare_cached(&self.verify_sql).and_then(|mut verify| {
            let parameters = (guard.lock_id().as_str(), guard.owner_token().as_bytes());
            one_row(&mut verify, parameters, |row| row.get(0).map(Fence::new))
        });
        guard.verified(answer.map_err(failed))
    }

    /// Same as [`verify_in`](Self::verify_in), with a transaction of another driver: sqlx, sea-orm, tokio-rusqlite, …
    ///
    /// `send` runs a [query](VerifyQuery) on `connection`, inside your transaction, and returns the integer of the row, or
    /// `None` if there is no row. It is called once.
    ///
    /// ```ignore
    /// let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
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
    /// If the future is dropped, roll back: the transaction may have the write lock.
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
        let answer = send(connection, self.verify_query(guard)).await;
        verified(guard, answer)
    }

    /// Same as [`verify_with`](Self::verify_with) with a driver that blocks, such as diesel or another rusqlite.
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
        let answer = send(connection, self.verify_query(guard));
        verified(guard, answer)
    }

    fn verify_query<'a>(&'a self, guard: &'a Guard) -> VerifyQuery<'a> {
        VerifyQuery::new(&self.verify_sql, guard.lock_id(), guard.owner_token())
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
