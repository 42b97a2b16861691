//! Of two candidates one leads until its lock is lost; then the other does.
//!
//! ```text
//! web-1 leads
//! web-1 has lost its lock, and stops
//! web-2 leads, with a greater fencing token
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::{Connector, DbMutex, Fence, LostReason, WaitLimit};
use tokio::sync::oneshot;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Usually two processes on two machines.
    let first = candidate("web-1").await?;
    let second = candidate("web-2").await?;

    let (leads, first_leads) = oneshot::channel();
    let first_term = tokio::spawn(lead_once(first.clone(), leads));
    let first_fence = first_leads.await?;
    println!("web-1 leads");

    let (leads, second_leads) = oneshot::channel();
    let second_term = tokio::spawn(lead_once(second.clone(), leads));

    // An operator takes the lock away: `db-mutex release leader --force`. The same happens when the database is away for
    // longer than the lease; then `lost` returns before another candidate can be granted the lock.
    second.force_release("leader").await?;
    let reason = first_term.await??;
    println!("web-1 has lost its lock, and stops");
    eprintln!("the reason: {reason}"); // "released by force", or "taken over" if web-2 was quicker than the next renewal.
    if second_leads.await? > first_fence {
        println!("web-2 leads, with a greater fencing token");
    }
    second_term.abort(); // Its guard is dropped, and `shutdown` waits for the release.
    let _ = second_term.await;

    first.shutdown(Duration::from_secs(5)).await;
    second.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn candidate(name: &str) -> Result<DbMutex, db_mutex::Error> {
    Connector::new("sqlite:locks.db")?.builder().await?.holder(name).build()
}

/// Waits until this candidate is the leader, and leads until the lock is lost. A real candidate would loop.
async fn lead_once(mutex: DbMutex, leads: oneshot::Sender<Fence>) -> Result<LostReason, Failure> {
    let guard =
        mutex.lock("leader").ttl(Duration::from_secs(6)).keep_alive(true).wait(WaitLimit::Forever).acquire().await?;
    let _ = leads.send(guard.fence());
    tokio::select! {
        () = work() => Err("the work of a leader does not end".into()),
        // The work is dropped at its current `.await`.
        reason = guard.lost() => Ok(reason),
    }
}

async fn work() {
    std::future::pending().await
}
