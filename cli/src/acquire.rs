//! Waiting for a lock on a server that is short of connections.

use std::time::Duration;

use db_mutex::{Error, Guard, Lock, WaitLimit};
use tokio::time::{Instant, sleep};

use crate::database::jittered;

/// How long the background of the mutex waits by itself.
///
/// It has its own connections. If the first connections of many processes use up all that the server allows, no process
/// gets a second one, and the lock stays free. So each process returns to its first connection from time to time.
const SLICE: Duration = Duration::from_secs(3);

/// Acquires the lock within the limit; a failure that may pass is no reason to stop before.
pub(crate) async fn acquire(lock: &Lock, limit: WaitLimit) -> Result<Guard, Error> {
    let begun = Instant::now();
    loop {
        let left = match limit {
            WaitLimit::AtMost(limit) => limit.saturating_sub(begun.elapsed()),
            WaitLimit::Forever => Duration::MAX,
            _ => return lock.acquire().await,
        };
        let slice = jittered(SLICE);
        let outcome = lock.clone().wait(slice.min(left)).acquire().await;
        match outcome {
            Err(error) if left > slice && (error.is_held() || error.is_transient()) => {
                if !error.is_held() {
                    // One that failed at once.
                    sleep(jittered(Duration::from_millis(100))).await;
                }
            }
            outcome => return outcome,
        }
    }
}
