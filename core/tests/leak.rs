//! What is left in memory. Alone in its process, whose memory it measures.
//!
//! `DB_MUTEX_ACQUISITIONS=400000` runs the longer form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::testing::MemoryStore;

/// What a lease has left in memory goes with its guard, and not with its end.
#[tokio::test]
async fn nothing_is_kept_of_a_lease_that_was_released() {
    let store = MemoryStore::new();
    let mutex = DbMutex::builder(store).ttl(Duration::from_secs(1_800)).keep_alive(true).build().unwrap();
    let acquisitions =
        std::env::var("DB_MUTEX_ACQUISITIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(40_000);
    let before = resident();
    for _ in 0..acquisitions {
        mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
    }
    let grown = resident().saturating_sub(before);
    println!("{acquisitions} acquisitions with keep_alive: {grown} KiB more");
    // Version 1 kept 366 bytes of each: 14 MiB of 40,000.
    assert!(grown < 4_096, "{grown} KiB");
}

/// The memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}
