//! A program without a runtime: money in a table, with diesel on the same SQLite file. Interest is paid only if the lock is still
//! held when the transaction commits.
//!
//! In an async program call the same functions in `spawn_blocking`. `PostgresStore` and `MySqlStore` have them, too. With
//! diesel-async call `verify_with`.
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
use db_mutex::{DbMutex, Guard, blocking};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};

type Failure = Box<dyn Error + Send + Sync>;

diesel::table! {
    accounts (name) {
        name -> Text,
        balance -> BigInt,
    }
}

fn main() -> Result<(), Failure> {
    // `blocking::connect(url)` is the short form, if the store is not needed to verify.
    let store = blocking::open(async { SqliteStore::open("bank.db").await })?;
    let mutex = DbMutex::new(store.clone())?.blocking();
    let mut bank = SqliteConnection::establish("bank.db")?;
    bank.batch_execute(
        "PRAGMA busy_timeout = 10000;
         DROP TABLE IF EXISTS accounts;
         CREATE TABLE accounts (name TEXT PRIMARY KEY NOT NULL, balance BIGINT NOT NULL);
         INSERT INTO accounts VALUES ('alice', 100), ('bob', 200)",
    )?;

    // Renewed by a thread of the mutex, while this one blocks.
    let lock = mutex.lock("interest").ttl(Duration::from_secs(30)).keep_alive(true).wait(Duration::from_secs(10));
    lock.run(|guard| pay_interest(&store, guard, &mut bank))??;
    println!("paid: {}", balances(&mut bank)?);

    // The lock is lost: its lease has ended, or an operator has released it. The guard does not know yet.
    let guard = lock.acquire()?;
    mutex.force_release("interest")?;
    match pay_interest(&store, &guard, &mut bank) {
        Err(error) if error.downcast_ref().is_some_and(db_mutex::Error::is_lost) => {
            println!("not paid: lock `interest` was lost");
        }
        outcome => outcome?,
    }
    println!("still: {}", balances(&mut bank)?);

    drop(guard);
    mutex.shutdown(Duration::from_secs(5))?;
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
