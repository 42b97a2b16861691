//! A guard holds a lock until it is released. With keep-alive its short lease is renewed while the work goes on.
//!
//! ```text
//! nightly-report: acquired
//! nightly-report: a second attempt is refused, web-1 has the lock
//! nightly-report: released, and free for the next
//! long-job: still valid after 6s, with a lease of 5s
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::Connector;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // `db_mutex::connect(url)` is the short form. The default name of a holder is the host's name and the process id.
    let mutex = Connector::new("sqlite:locks.db")?.builder().await?.holder("web-1").build()?;

    let guard = mutex.lock("nightly-report").ttl(Duration::from_secs(600)).acquire().await?;
    println!("nightly-report: acquired");
    match mutex.lock("nightly-report").acquire().await {
        Err(db_mutex::Error::Held { holder, .. }) => {
            println!("nightly-report: a second attempt is refused, {} has the lock", holder.name);
        }
        other => return Err(format!("the lock is held, but the attempt returned {other:?}").into()),
    }
    guard.release().await?;
    mutex.lock("nightly-report").acquire().await?.release().await?;
    println!("nightly-report: released, and free for the next");

    // If this process dies, others wait for 5 seconds at most. As long as it lives, the job may take any time.
    let (lease, work) = (Duration::from_secs(5), Duration::from_secs(6));
    let guard = mutex.lock("long-job").ttl(lease).keep_alive(true).acquire().await?;
    tokio::time::sleep(work).await;
    if guard.is_valid() {
        println!("long-job: still valid after {work:?}, with a lease of {lease:?}");
    }
    // An error here means that the lock was not held to the end.
    guard.release().await?;

    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
