//! Commits a transaction of sqlx only if the lock is still held at that moment.

use std::error::Error;
use std::time::Duration;

use db_mutex_core::{DbMutex, Fence, Guard};
use db_mutex_postgres::PostgresStore;
use sqlx::{Connection, PgConnection, Postgres, Transaction};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to postgres://user:password@host/database")?;
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::query("CREATE TEMPORARY TABLE reports (fence bigint NOT NULL)").execute(&mut connection).await?;

    let store = PostgresStore::connect(&url).await?;
    let mutex = DbMutex::new(store.clone())?;
    let guard = mutex.lock("report").ttl(Duration::from_secs(60)).acquire().await?;

    // The lock is held: the work is committed.
    let mut transaction = connection.begin().await?;
    let fence = verified(&store, &mut transaction, &guard).await?.ok_or("the lock is lost, though nobody took it")?;
    write(&mut transaction, fence).await?;
    transaction.commit().await?;
    assert_eq!(fence, guard.fence());
    assert_eq!(reports(&mut connection).await?, 1);
    println!("held: verified and committed under the fence {fence}");

    // An operator takes the lock away, and somebody else gets it: the work is undone.
    mutex.force_release("report").await?;
    let successor = mutex.lock("report").acquire().await?;
    let mut transaction = connection.begin().await?;
    write(&mut transaction, guard.fence()).await?;
    match verified(&store, &mut transaction, &guard).await? {
        Some(_) => return Err("a lock that was taken away must not be verified".into()),
        None => transaction.rollback().await?,
    }
    assert_eq!(reports(&mut connection).await?, 1);
    println!("lost: verification found no row, rolled back");

    successor.release().await?;
    Ok(())
}

/// The fencing token if the guard still holds its lock, which it then does until the transaction ends; `None` if it has
/// lost it: roll back.
async fn verified(
    store: &PostgresStore,
    transaction: &mut Transaction<'_, Postgres>,
    guard: &Guard,
) -> Result<Option<Fence>, sqlx::Error> {
    let mut fence = None;
    // The first run takes the lock on the row, the second sees what it was taken on. Both have to find it.
    for _ in 0..2 {
        fence = sqlx::query_scalar(store.verify_sql())
            .bind(guard.lock_id().as_str())
            .bind(guard.owner_token().as_bytes().as_slice())
            .fetch_optional(&mut **transaction)
            .await?;
        if fence.is_none() {
            break;
        }
    }
    Ok(fence.map(Fence::new))
}

async fn write(transaction: &mut Transaction<'_, Postgres>, fence: Fence) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO reports VALUES ($1)").bind(fence.get()).execute(&mut **transaction).await?;
    Ok(())
}

async fn reports(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM reports").fetch_one(connection).await
}
