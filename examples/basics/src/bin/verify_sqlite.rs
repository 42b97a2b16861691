//! Money in a table of the same SQLite file: interest is paid only if the lock is still held when the transaction commits.
//!
//! ```text
//! paid: alice 110, bob 220
//! not paid: lock `interest` was lost
//! still: alice 110, bob 220
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::sqlite::SqliteStore;
use db_mutex::sqlite::rusqlite::{self, Connection, TransactionBehavior};
use db_mutex::{DbMutex, Guard};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = SqliteStore::open("bank.db").await?;
    let mutex = DbMutex::new(store.clone())?;
    let mut bank = Connection::open("bank.db")?;
    bank.busy_timeout(Duration::from_secs(10))?;
    bank.execute_batch(
        "DROP TABLE IF EXISTS accounts;
         CREATE TABLE accounts (name TEXT PRIMARY KEY, balance INTEGER NOT NULL);
         INSERT INTO accounts VALUES ('alice', 100), ('bob', 200)",
    )?;

    let guard = mutex.lock("interest").acquire().await?;
    pay_interest(&store, &guard, &mut bank)?;
    println!("paid: {}", balances(&bank)?);

    // The lock is lost: its lease has ended, or an operator has released it. The guard does not know yet.
    mutex.force_release("interest").await?;
    match pay_interest(&store, &guard, &mut bank) {
        Err(error) if error.downcast_ref().is_some_and(db_mutex::Error::is_lost) => {
            println!("not paid: lock `interest` was lost");
        }
        outcome => outcome?,
    }
    println!("still: {}", balances(&bank)?);

    drop(guard);
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn pay_interest(store: &SqliteStore, guard: &Guard, bank: &mut Connection) -> Result<(), Box<dyn Error>> {
    let transaction = bank.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // From here to the commit no one else is granted the lock. An error rolls back.
    store.verify_in(&transaction, guard)?;
    transaction.execute("UPDATE accounts SET balance = balance + balance / 10", ())?;
    Ok(transaction.commit()?)
}

fn balances(bank: &Connection) -> Result<String, rusqlite::Error> {
    let sql = "SELECT group_concat(name || ' ' || balance, ', ') FROM (SELECT * FROM accounts ORDER BY name)";
    bank.query_row(sql, (), |row| row.get(0))
}
