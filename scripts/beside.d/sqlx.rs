//! Takes a lock with db-mutex, and commits a transaction of sqlx that proves it, in one SQLite file and from one process.

use std::error::Error;
use std::time::Duration;

use db_mutex::DbMutex;
use db_mutex::sqlite::SqliteStore;
use db_mutex::store::VerifyQuery;
use sqlx::{Connection, SqliteConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("give the path of the file")?;

    let store = SqliteStore::open(&file).await?;
    let mutex = DbMutex::new(store.clone())?;
    let guard = mutex.lock("beside").ttl(Duration::from_secs(60)).acquire().await?;

    let mut connection = SqliteConnection::connect(&format!("sqlite:{file}")).await?;
    sqlx::query("CREATE TABLE work (fence INTEGER NOT NULL)").execute(&mut connection).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let fence = store.verify_with(&mut *transaction, &guard, send).await?;
    sqlx::query("INSERT INTO work VALUES ($1)").bind(fence.get()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    assert_eq!(fence, guard.fence());

    // A write of the one between two of the other.
    guard.extend(Duration::from_secs(120)).await?;
    assert!(mutex.force_release("beside").await?);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let error = store.verify_with(&mut *transaction, &guard, send).await.err().ok_or("a lost lock was verified")?;
    assert!(error.is_lost(), "{error}");
    transaction.rollback().await?;

    let again = mutex.lock("beside").acquire().await?;
    assert!(again.fence() > fence);
    again.release().await?;
    connection.close().await?;
    Ok(())
}

async fn send(connection: &mut SqliteConnection, query: VerifyQuery<'_>) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(query.sql).bind(query.lock_id).bind(query.owner).fetch_optional(connection).await
}
