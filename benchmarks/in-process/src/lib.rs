//! What the benchmarks of time and of instructions both do.

use db_mutex_core::store::MemoryStore;
use db_mutex_core::{DbMutex, Lock};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// A mutex on a store that keeps its rows in memory, and a runtime for it.
#[derive(Debug)]
pub struct Memory {
    pub runtime: Runtime,
    pub mutex: DbMutex,
}

impl Memory {
    /// On a runtime of one thread, the current one, so that what is counted does not depend on how threads take turns.
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime can be built");
        let mutex = DbMutex::builder(MemoryStore::new()).build().expect("a mutex can be built");
        Self { runtime, mutex }
    }

    /// One that has acquired and released the lock before, so that what is done once is done.
    pub fn warm() -> Self {
        let memory = Self::new();
        memory.runtime.block_on(pairs(&memory.mutex.lock("warm"), 20));
        memory
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Acquires and releases a lock that is free.
pub async fn pairs(lock: &Lock, count: usize) {
    for _ in 0..count {
        lock.acquire().await.expect("free").release().await.expect("held");
    }
}

/// Asks for a lock that another owner holds.
pub async fn refusals(lock: &Lock, count: usize) {
    for _ in 0..count {
        assert!(lock.acquire().await.is_err(), "another owner holds it");
    }
}

/// The same as [`pairs`], in tasks that each have a lock of their own.
pub async fn side_by_side(mutex: &DbMutex, tasks: usize, count: usize) {
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let lock = mutex.lock(format!("side by side {task}"));
        set.spawn(async move { pairs(&lock, count).await });
    }
    while let Some(ended) = set.join_next().await {
        ended.expect("no task panics");
    }
}
