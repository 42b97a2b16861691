//! What a function does under the attribute, on a mutex in memory.

mod blocking;
mod forms;
mod global;
mod guard;
mod held;
mod ids;
mod logs;
mod lost;
mod options;
mod positions;
mod predecessor;

use std::time::Duration;

use db_mutex::admin::LockState;
use db_mutex::{DbMutex, Guard};

/// The lock as another process would hold it.
async fn held(mutex: &DbMutex, lock_id: &str) -> Guard {
    mutex.lock(lock_id).acquire().await.expect("the lock is free")
}

/// Whether a lock is held at this moment.
async fn is_held(mutex: &DbMutex, lock_id: &str) -> bool {
    let row = mutex.find(lock_id).await.expect("the store in memory does not fail");
    row.is_some_and(|row| row.state() == LockState::Held)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
