//! Several replicas start at once, and each migrates the database. Under one lock they do it one after the other, so all but
//! the first find nothing to do.
//!
//! ```text
//! 4 replicas are up
//! 1 has migrated
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::sqlite::rusqlite::{self, Connection};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // To see the first start each time.
    let _ = std::fs::remove_file("app.db");
    // Usually processes.
    let replicas: Vec<_> = (0..4).map(|_| tokio::spawn(start())).collect();
    let (mut up, mut migrated) = (0, 0);
    for replica in replicas {
        migrated += u32::from(replica.await??);
        up += 1;
    }
    println!("{up} replicas are up");
    println!("{migrated} has migrated");
    Ok(())
}

/// Returns whether this replica has migrated.
async fn start() -> Result<bool, Failure> {
    let mutex = db_mutex::connect("sqlite:locks.db").await?;
    // Renewed, because it is not known how long a migration takes. Those that wait have to wait for longer than that.
    let lock = mutex.lock("migrations").ttl(Duration::from_secs(30)).keep_alive(true).wait(Duration::from_secs(600));
    let migrated = lock.run(async |_guard| tokio::task::block_in_place(migrate)).await??;
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(migrated)
}

fn migrate() -> Result<bool, rusqlite::Error> {
    let data = Connection::open("app.db")?;
    let version: u32 = data.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    if version >= 1 {
        return Ok(false);
    }
    // Not one transaction on purpose: without the lock, a second replica would fail here or do it twice.
    data.execute_batch("CREATE TABLE accounts (name TEXT, balance INTEGER)")?;
    data.execute_batch("INSERT INTO accounts VALUES ('alice', 100)")?;
    data.execute_batch("PRAGMA user_version = 1")?;
    Ok(true)
}
