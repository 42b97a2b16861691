//! Takes a lock with db-mutex and commits a transaction of tokio-rusqlite that proves it, in one SQLite file.

use std::error::Error;
use std::time::Duration;

use db_mutex::DbMutex;
use db_mutex::sqlite::SqliteStore;
use tokio_rusqlite::Connection;
use tokio_rusqlite::rusqlite::TransactionBehavior;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("give the path of the file")?;

    let store = SqliteStore::open(&file).await?;
    let mutex = DbMutex::new(store.clone())?;
    let guard = mutex.lock("beside").ttl(Duration::from_secs(60)).acquire().await?;

    // Compiles only if both use the same rusqlite.
    let connection = Connection::open(&file).await?;
    let (fence, guard) = connection
        .call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let fence = store.verify_in(&transaction, &guard)?;
            transaction.execute("CREATE TABLE work (fence INTEGER NOT NULL)", ())?;
            transaction.execute("INSERT INTO work VALUES (?1)", [fence.get()])?;
            transaction.commit()?;
            Ok::<_, Box<dyn Error + Send + Sync>>((fence, guard))
        })
        .await
        .map_err(|error| error.to_string())?;
    assert_eq!(fence, guard.fence());

    guard.release().await?;
    connection.close().await?;
    Ok(())
}
