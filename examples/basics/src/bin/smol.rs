//! Under smol, or another executor that is not tokio's: SQLite works as it is. The drivers of the servers need a tokio runtime,
//! and say so. One that runs beside smol is enough.
//!
//! Needs a server: `DATABASE_URL=postgres://user:password@host/database`.
//!
//! ```text
//! SQLite: a second attempt is refused, web-1 has the lock
//! SQLite: still valid after 3s, with a lease of 2s
//! SQLite: released, and the waiter has had its turn
//! PostgreSQL: could not open the database
//!   because the store was called outside of a tokio runtime; call it inside of one
//! PostgreSQL, with a tokio runtime beside smol: acquired and released
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::{Connector, DbMutex};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to postgres://user:password@host/database")?;
    smol::block_on(async {
        let mutex = Connector::new("sqlite:locks.db")?.builder().await?.holder("web-1").build()?;
        on_sqlite(&mutex).await?;

        let Err(error) = db_mutex::connect(&url).await else { return Err("it needs a runtime".into()) };
        println!("PostgreSQL: {error}");
        let reason = error.source().ok_or("an error of the store has a reason")?;
        println!("  because {reason}");

        // While it is entered, timers and sockets of tokio are its own.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let _entered = runtime.enter();
        let mutex = db_mutex::connect(&url).await?;
        mutex.lock("nightly-report").acquire().await?.release().await?;
        println!("PostgreSQL, with a tokio runtime beside smol: acquired and released");
        mutex.shutdown(5 * SECOND).await;
        Ok(())
    })
}

async fn on_sqlite(mutex: &DbMutex) -> Result<(), Box<dyn Error>> {
    let guard = mutex.lock("nightly-report").ttl(2 * SECOND).keep_alive(true).acquire().await?;
    match mutex.lock("nightly-report").wait(SECOND / 10).acquire().await {
        Err(db_mutex::Error::Held { holder, .. }) => {
            println!("SQLite: a second attempt is refused, {} has the lock", holder.name);
        }
        other => return Err(format!("the lock is held, but the attempt returned {other:?}").into()),
    }
    smol::Timer::after(3 * SECOND).await;
    if guard.is_valid() {
        println!("SQLite: still valid after 3s, with a lease of 2s");
    }
    let waiting = mutex.lock("nightly-report").wait(30 * SECOND);
    let waiter = smol::spawn(async move { waiting.acquire().await?.release().await });
    smol::Timer::after(SECOND / 2).await;
    guard.release().await?;
    waiter.await?;
    println!("SQLite: released, and the waiter has had its turn");
    mutex.shutdown(5 * SECOND).await;
    Ok(())
}
