use std::error::Error as StdError;

use db_mutex_core::store::{StoreTime, VerifyQuery};
use db_mutex_core::{Error, Fence, Guard, StoreError, StoreErrorKind};
use mysql_async::prelude::Queryable;
use mysql_async::{Transaction, Value};

use crate::{MySqlStore, error, row};

impl MySqlStore {
    /// Verifies inside your own transaction that the guard still holds its lock, and ensures that it does until the
    /// transaction ends.
    ///
    /// A lease alone cannot do this: your transaction is protected even if it outlives the lease. From this call until the
    /// transaction ends, no one else is granted the lock. (Their requests fail as busy; a mutex repeats them, and then
    /// reports the error.) Renewals still work. Commit only if this returns `Ok`; roll back otherwise. Release the guard
    /// after the commit, not before: a release changes the row that the transaction has locked, and is busy until then.
    ///
    /// On MariaDB, begin the transaction with [READ COMMITTED](mysql_async::IsolationLevel::ReadCommitted): at its default,
    /// REPEATABLE READ, a share lock also locks the gap before it, so that acquiring the lock whose id sorts just before
    /// this one waits for your commit.
    ///
    /// The transaction must be on the store's database.
    ///
    /// On Galera, another node may grant the lock to another owner once the lease has ended. Your commit then fails with
    /// error 1213. So on Galera `Ok` from this method is not enough: the commit must succeed, too. The user needs `SELECT`,
    /// `INSERT` and `UPDATE` on the table `…_verified`. If two transactions on different nodes verify the same lock at
    /// once, one of them fails in the same way.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lock is lost; [`Error::Store`] if the database fails.
    ///
    /// # Cancellation safety
    /// If the future is dropped, roll back.
    pub async fn verify_in(&self, transaction: &mut Transaction<'_>, guard: &Guard) -> Result<Fence, Error> {
        self.can_verify(guard)?;
        let sql = self.operations.sql.verify_owner(guard.lock_id(), guard.owner_token());
        let answer: Result<Option<Value>, _> = transaction.query_first(sql).await;
        verified(
            guard,
            match answer.map(|now| now.map(row::number)) {
                Ok(Some(None)) => Err(StoreError::new(StoreErrorKind::Other, "the server's clock could not be read")),
                Ok(now) => Ok(now.flatten()),
                Err(error) => Err(error::store_error(error)),
            },
        )
    }

    /// Same as [`verify_in`](Self::verify_in), with a transaction of another driver: sqlx, sea-orm, diesel-async, …
    ///
    /// `send` runs a [query](VerifyQuery) on `connection`, inside your transaction, and returns the integer of the row, or
    /// `None` if there is no row. It is called once. The integer is the server's clock, which is compared with the end of
    /// the guard's lease.
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
        self.can_verify(guard)?;
        let answer = send(connection, self.verify_query(guard)).await;
        verified(guard, answer.map_err(failed))
    }

    /// Same as [`verify_with`](Self::verify_with) with a driver that blocks, such as diesel or mysql.
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
        self.can_verify(guard)?;
        let answer = send(connection, self.verify_query(guard));
        verified(guard, answer.map_err(failed))
    }

    fn can_verify(&self, guard: &Guard) -> Result<(), Error> {
        if self.operations.sql.can_verify() {
            return Ok(());
        }
        let message = "verifying a lock in a transaction has been shown to hold on Galera with MariaDB only, not on this \
                       server; pass the fencing token to the resource instead";
        guard.verified(Err(StoreError::new(StoreErrorKind::Config, message))).map(drop)
    }

    fn verify_query<'a>(&'a self, guard: &'a Guard) -> VerifyQuery<'a> {
        VerifyQuery::new(&self.operations.sql.verify, guard.lock_id(), guard.owner_token())
    }
}

/// Judges the server's clock, which was read where the owner still owned the lock.
fn verified(guard: &Guard, now: Result<Option<i64>, StoreError>) -> Result<Fence, Error> {
    // The lease's end is the guard's: every renewal went through it. The row's own could be read only from the
    // transaction's snapshot, which may be older, or under a lock that holds renewals up.
    let lasts = |now| StoreTime::from_micros(now) < guard.lease().expires_at;
    guard.verified(now.map(|now| now.is_some_and(lasts).then(|| guard.fence())))
}

fn failed(error: impl Into<Box<dyn StdError + Send + Sync>>) -> StoreError {
    StoreError::new(StoreErrorKind::Other, "the query that verifies the lock failed").with_source(error)
}
