//! Commits a transaction of sqlx only if the lock is still held at that moment.
//!
//! Needs a server: `DATABASE_URL=postgres://user:password@host/database`.
//!
//! ```text
//! held: verified and committed
//! lost: lock `report` was lost: the database no longer has it; work under it may have overlapped a successor's
//! lost in between: the first run still saw the lock, the second did not
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::postgres::PostgresStore;
use db_mutex::store::VerifyQuery;
use db_mutex::{DbMutex, Fence, Guard};
use sqlx::{PgConnection, PgPool};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to postgres://user:password@host/database")?;
    let pool = PgPool::connect(&url).await?;
    sqlx::query("DROP TABLE IF EXISTS verify_with_sqlx").execute(&pool).await?;
    sqlx::query("CREATE TABLE verify_with_sqlx (fence bigint NOT NULL)").execute(&pool).await?;
    let store = PostgresStore::connect(&url).await?;
    let mutex = DbMutex::new(store.clone())?;

    // The lock is held: the work is committed.
    let guard = acquire(&mutex).await?;
    let task = tokio::spawn({
        let (store, pool) = (store.clone(), pool.clone());
        async move { write_report(&store, &pool, &guard).await.map(|fence| (guard, fence)) }
    });
    let (guard, fence) = task.await??;
    assert_eq!(fence, guard.fence());
    assert_eq!(reports(&pool).await?, 1);
    println!("held: verified and committed");

    // An operator takes the lock away, and another holder gets it: the work is undone.
    mutex.force_release("report").await?;
    let successor = acquire(&mutex).await?;
    let error = write_report(&store, &pool, &guard).await.err().ok_or("a lock that was taken away was verified")?;
    assert!(error.downcast_ref().is_some_and(db_mutex::Error::is_lost), "{error}");
    assert_eq!(reports(&pool).await?, 1);
    println!("lost: {error}");
    successor.release().await?;

    lost_at_the_worst_moment(&store, &mutex, &pool).await?;

    sqlx::query("DROP TABLE verify_with_sqlx").execute(&pool).await?;
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn acquire(mutex: &DbMutex) -> Result<Guard, db_mutex::Error> {
    mutex.lock("report").ttl(Duration::from_secs(60)).wait(Duration::from_secs(5)).acquire().await
}

/// The work and the proof that the lock is held, in one transaction. Every error rolls it back.
async fn write_report(store: &PostgresStore, pool: &PgPool, guard: &Guard) -> Result<Fence, Failure> {
    let mut transaction = pool.begin().await?;
    // From here to the commit no one else is granted the lock.
    let fence = store.verify_with(&mut *transaction, guard, run).await?;
    sqlx::query("INSERT INTO verify_with_sqlx VALUES ($1)").bind(fence.get()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(fence)
}

async fn run(connection: &mut PgConnection, query: VerifyQuery<'_>) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(query.sql).bind(query.lock_id).bind(query.owner).fetch_optional(connection).await
}

/// Why the store decides how often the query runs: the lock is lost after the query has read its row and before it has
/// locked it. Here the query waits between the two for an advisory lock; usually the time is some microseconds, unless the
/// process is suspended.
async fn lost_at_the_worst_moment(store: &PostgresStore, mutex: &DbMutex, pool: &PgPool) -> Result<(), Failure> {
    let guard = acquire(mutex).await?;
    let mut gate = pool.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(GATE).execute(&mut *gate).await?;
    let mut transaction = pool.begin().await?;
    let mut answers = Vec::new();
    let verified = store.verify_with(&mut *transaction, &guard, async |connection, mut query| {
        let waits = format!("lock_id = $1 AND pg_advisory_xact_lock({GATE}) IS NOT NULL");
        let slow = query.sql.replacen("lock_id = $1", &waits, 1);
        if answers.is_empty() {
            query.sql = &slow;
        }
        let answer = run(connection, query).await?;
        answers.push(answer);
        Ok::<_, sqlx::Error>(answer)
    });
    let meanwhile = async {
        until_one_waits_at_the_gate(pool).await?;
        let forced = mutex.force_release("report").await?;
        gate.rollback().await?;
        Ok::<_, Failure>(forced)
    };
    let (verified, forced) = tokio::join!(verified, meanwhile);
    assert!(forced?);
    let error = verified.err().ok_or("a lock that was lost in between was verified")?;
    assert!(error.is_lost(), "{error}");
    assert_eq!(answers, [Some(guard.fence().get()), None], "one run alone would have verified it");
    transaction.rollback().await?;
    println!("lost in between: the first run still saw the lock, the second did not");
    Ok(())
}

/// The number of an advisory lock.
const GATE: i64 = 4711;

async fn until_one_waits_at_the_gate(pool: &PgPool) -> Result<(), Failure> {
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = $1 AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    for _ in 0..3_000 {
        if sqlx::query_scalar(waits).bind(GATE).fetch_one(pool).await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("the query does not wait".into())
}

async fn reports(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM verify_with_sqlx").fetch_one(pool).await
}
