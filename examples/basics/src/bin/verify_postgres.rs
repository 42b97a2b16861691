//! Money in a table of the same PostgreSQL database: interest is paid only if the lock is still held when the transaction
//! commits.
//!
//! Needs a server: `DATABASE_URL=postgres://user:password@host/database`.
//!
//! ```text
//! paid: alice 110, bob 220
//! not paid: lock `interest` was lost
//! still: alice 110, bob 220
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::postgres::PostgresStore;
use db_mutex::postgres::tokio_postgres::{self, Client, NoTls};
use db_mutex::{DbMutex, Guard};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to postgres://user:password@host/database")?;
    let store = PostgresStore::connect(&url).await?;
    let mutex = DbMutex::new(store.clone())?;
    let (mut bank, connection) = tokio_postgres::connect(&url, NoTls).await?;
    let connection = tokio::spawn(connection);
    bank.batch_execute(
        "CREATE TEMPORARY TABLE accounts (name text PRIMARY KEY, balance bigint NOT NULL);
         INSERT INTO accounts VALUES ('alice', 100), ('bob', 200)",
    )
    .await?;

    let guard = mutex.lock("interest").acquire().await?;
    pay_interest(&store, &guard, &mut bank).await?;
    println!("paid: {}", balances(&bank).await?);

    // The lock is lost: its lease has ended, or an operator has released it. The guard does not know yet.
    mutex.force_release("interest").await?;
    match pay_interest(&store, &guard, &mut bank).await {
        Err(error) if error.downcast_ref().is_some_and(db_mutex::Error::is_lost) => {
            println!("not paid: lock `interest` was lost");
        }
        outcome => outcome?,
    }
    println!("still: {}", balances(&bank).await?);

    drop((guard, bank));
    connection.await??;
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn pay_interest(store: &PostgresStore, guard: &Guard, bank: &mut Client) -> Result<(), Box<dyn Error>> {
    let transaction = bank.transaction().await?;
    // From here to the commit no one else is granted the lock. An error rolls back.
    store.verify_in(&transaction, guard).await?;
    transaction.execute("UPDATE accounts SET balance = balance + balance / 10", &[]).await?;
    Ok(transaction.commit().await?)
}

async fn balances(bank: &Client) -> Result<String, tokio_postgres::Error> {
    let sql = "SELECT string_agg(name || ' ' || balance, ', ' ORDER BY name) FROM accounts";
    Ok(bank.query_one(sql, &[]).await?.get(0))
}
