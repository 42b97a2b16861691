//! Money in a table, with sqlx on the same SQLite file: interest is paid only if the lock is still held when the transaction
//! commits.
//!
//! ```text
//! paid: alice 110, bob 220
//! not paid: lock `interest` was lost
//! still: alice 110, bob 220
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::sqlite::SqliteStore;
use db_mutex::{DbMutex, Guard};
use sqlx::SqlitePool;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let store = SqliteStore::open("bank.db").await?;
    let mutex = DbMutex::new(store.clone())?;
    let bank = SqlitePool::connect("sqlite:bank.db").await?;
    for sql in [
        "DROP TABLE IF EXISTS accounts",
        "CREATE TABLE accounts (name TEXT PRIMARY KEY, balance INTEGER NOT NULL)",
        "INSERT INTO accounts VALUES ('alice', 100), ('bob', 200)",
    ] {
        sqlx::query(sql).execute(&bank).await?;
    }

    let guard = mutex.lock("interest").acquire().await?;
    pay_interest(&store, &guard, &bank).await?;
    println!("paid: {}", balances(&bank).await?);

    // The lock is lost: its lease has ended, or an operator has released it. The guard does not know yet.
    mutex.force_release("interest").await?;
    match pay_interest(&store, &guard, &bank).await {
        Err(error) if error.downcast_ref().is_some_and(db_mutex::Error::is_lost) => {
            println!("not paid: lock `interest` was lost");
        }
        outcome => outcome?,
    }
    println!("still: {}", balances(&bank).await?);

    drop(guard);
    bank.close().await;
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn pay_interest(store: &SqliteStore, guard: &Guard, bank: &SqlitePool) -> Result<(), Failure> {
    let mut transaction = bank.begin_with("BEGIN IMMEDIATE").await?;
    // From here to the commit no one else is granted the lock. An error rolls back.
    store
        .verify_with(&mut *transaction, guard, async |connection, query| {
            let statement = sqlx::query_scalar(query.sql).bind(query.lock_id).bind(query.owner);
            statement.fetch_optional(connection).await
        })
        .await?;
    sqlx::query("UPDATE accounts SET balance = balance + balance / 10").execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

async fn balances(bank: &SqlitePool) -> Result<String, sqlx::Error> {
    let sql = "SELECT group_concat(name || ' ' || balance, ', ') FROM (SELECT * FROM accounts ORDER BY name)";
    sqlx::query_scalar(sql).fetch_one(bank).await
}
