//! Takes a lock with db-mutex and reads its row with sqlx, in one SQLite file and from one process.

use std::error::Error;
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("give the path of the file")?;

    let mutex = db_mutex::connect(&format!("sqlite:{file}")).await?;
    let guard = mutex.lock("beside").ttl(Duration::from_secs(60)).acquire().await?;

    let mut connection = SqliteConnection::connect(&format!("sqlite:{file}")).await?;
    let fence: i64 = sqlx::query_scalar("SELECT fence FROM db_mutex_locks WHERE lock_id = $1")
        .bind("beside")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(fence, guard.fence().get());

    // A write of the one between two of the other.
    sqlx::query("CREATE TABLE work (fence INTEGER NOT NULL)").execute(&mut connection).await?;
    sqlx::query("INSERT INTO work VALUES ($1)").bind(fence).execute(&mut connection).await?;
    guard.extend(Duration::from_secs(120)).await?;
    guard.release().await?;

    let again = mutex.lock("beside").acquire().await?;
    assert!(again.fence().get() > fence);
    again.release().await?;
    connection.close().await?;
    Ok(())
}
