//! Each replica of a service has the same interval of tokio; the work is done once an hour, by one of them.
//!
//! `hold_at_least` keeps the lock taken until the hour is nearly over, although the work takes a moment. So the replicas need
//! not tick at the same time. (Run within an hour of the last run, this example imports nothing: remove `locks.db`.)
//!
//! ```text
//! 10 ticks of 2 replicas: 1 import
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::DbMutex;
use tokio::time::MissedTickBehavior;

const HOUR: Duration = Duration::from_secs(3600);
/// A replica tries more often than once an hour, because the one that would have imported may have died.
const INTERVAL: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Two replicas: usually two processes on two machines.
    let (one, two) = (db_mutex::connect("sqlite:locks.db").await?, db_mutex::connect("sqlite:locks.db").await?);
    let (first, second) = tokio::join!(replica(&one), replica(&two));
    println!("10 ticks of 2 replicas: {} import", first + second);

    one.shutdown(Duration::from_secs(5)).await;
    two.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Returns how often this replica has imported in its 5 ticks. A real one would loop forever.
async fn replica(mutex: &DbMutex) -> u32 {
    let hourly = mutex.lock("hourly-import").ttl(HOUR).hold_at_least(HOUR - INTERVAL);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut imports = 0;
    for _ in 0..5 {
        ticks.tick().await;
        match hourly.run_or_skip(async |_guard| import().await).await {
            Ok(Some(())) => imports += 1,
            Ok(None) => {} // Another replica has imported within this hour.
            // A database that is away is no reason to end: the next tick tries again.
            Err(error) => eprintln!("this tick: {error}"),
        }
    }
    imports
}

async fn import() {}
