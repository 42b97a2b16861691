//! Money in a table, with diesel on the same SQLite file: interest is paid only if the lock is still held when the transaction
//! commits.
//!
//! `PostgresStore` and `MySqlStore` have the same method. With diesel-async call `verify_with`.
//!
//! ```text
//! paid: alice 110, bob 220
//! not paid: lock `interest` was lost
//! still: alice 110, bob 220
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::sqlite::SqliteStore;
use db_mutex::store::VerifyQuery;
use db_mutex::{DbMutex, Guard};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};
use tokio::task::block_in_place;

type Failure = Box<dyn Error + Send + Sync>;

diesel::table! {
    accounts (name) {
        name -> Text,
        balance -> BigInt,
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let store = SqliteStore::open("bank.db").await?;
    let mutex = DbMutex::new(store.clone())?;
    let mut bank = SqliteConnection::establish("bank.db")?;
    bank.batch_execute(
        "PRAGMA busy_timeout = 10000;
         DROP TABLE IF EXISTS accounts;
         CREATE TABLE accounts (name TEXT PRIMARY KEY NOT NULL, balance BIGINT NOT NULL);
         INSERT INTO accounts VALUES ('alice', 100), ('bob', 200)",
    )?;

    let guard = mutex.lock("interest").acquire().await?;
    block_in_place(|| pay_interest(&store, &guard, &mut bank))?;
    println!("paid: {}", balances(&mut bank)?);

    // The lock is lost: its lease has ended, or an operator has released it. The guard does not know yet.
    mutex.force_release("interest").await?;
    match block_in_place(|| pay_interest(&store, &guard, &mut bank)) {
        Err(error) if error.downcast_ref().is_some_and(db_mutex::Error::is_lost) => {
            println!("not paid: lock `interest` was lost");
        }
        outcome => outcome?,
    }
    println!("still: {}", balances(&mut bank)?);

    drop(guard);
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn pay_interest(store: &SqliteStore, guard: &Guard, bank: &mut SqliteConnection) -> Result<(), Failure> {
    bank.immediate_transaction(|bank| {
        // From here to the commit no one else is granted the lock. An error rolls back.
        store.blocking_verify_with(bank, guard, send)?;
        diesel::update(accounts::table)
            .set(accounts::balance.eq(accounts::balance + accounts::balance / 10))
            .execute(bank)?;
        Ok(())
    })
}

fn send(bank: &mut SqliteConnection, query: VerifyQuery<'_>) -> QueryResult<Option<i64>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        verified: i64,
    }
    let statement = diesel::sql_query(query.sql).bind::<Text, _>(query.lock_id).bind::<Binary, _>(query.owner);
    Ok(statement.get_result::<Row>(bank).optional()?.map(|row| row.verified))
}

fn balances(bank: &mut SqliteConnection) -> QueryResult<String> {
    let rows: Vec<(String, i64)> = accounts::table.order(accounts::name).load(bank)?;
    Ok(rows.iter().map(|(name, balance)| format!("{name} {balance}")).collect::<Vec<_>>().join(", "))
}
