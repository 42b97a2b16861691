//! The options of the lease.

use std::time::Duration;

use db_mutex::admin::LockState;
use db_mutex::testing::ManualClock;
use db_mutex::{DbMutex, Error, db_mutex, testing};

use crate::secs;

#[tokio::test(start_paused = true)]
async fn keep_alive_renews() {
    #[db_mutex("job", store = mutex, ttl = "10s", keep_alive)]
    async fn job(mutex: &DbMutex, clock: &ManualClock) -> Result<(), Error> {
        for _ in 0..30 {
            clock.advance(secs(1));
            tokio::time::sleep(secs(1)).await;
        }
        Ok(())
    }
    let (mutex, clock) = testing::mutex();
    job(&mutex, &clock).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keep_alive_false_overrides_the_mutex() {
    #[db_mutex("job", store = mutex, ttl = "10s", keep_alive = false)]
    async fn job(mutex: &DbMutex, clock: &ManualClock) -> Result<(), Error> {
        for _ in 0..30 {
            clock.advance(secs(1));
            tokio::time::sleep(secs(1)).await;
        }
        Ok(())
    }
    let clock = ManualClock::new();
    let store = testing::MemoryStore::with_clock(clock.clone());
    let mutex = DbMutex::builder(store).clock(clock.clone()).keep_alive(true).build().unwrap();
    assert!(job(&mutex, &clock).await.unwrap_err().is_lost());
}

#[tokio::test(start_paused = true)]
async fn hold_at_most_ends_renewals() {
    #[db_mutex("job", store = mutex, ttl = "10s", keep_alive, hold_at_most = "15s", on_lost = "drop")]
    async fn job(mutex: &DbMutex, clock: &ManualClock) -> Result<(), Error> {
        for _ in 0..60 {
            clock.advance(secs(1));
            tokio::time::sleep(secs(1)).await;
        }
        Ok(())
    }
    let (mutex, clock) = testing::mutex();
    assert!(job(&mutex, &clock).await.unwrap_err().is_lost());
}

#[tokio::test(start_paused = true)]
async fn hold_at_least_outlives_the_function() {
    #[db_mutex("job", store = mutex, ttl = "1m", hold_at_least = "5s")]
    async fn job(mutex: &DbMutex) -> Result<(), Error> {
        Ok(())
    }
    let (mutex, clock) = testing::mutex();
    job(&mutex).await.unwrap();
    assert_eq!(mutex.find("job").await.unwrap().unwrap().state(), LockState::Resting);
    assert!(job(&mutex).await.unwrap_err().is_held());
    clock.advance(secs(6));
    job(&mutex).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_known_only_later_is_checked_later() {
    // Half an hour is the mutex's TTL.
    #[db_mutex("job", store = mutex, hold_at_least = "1h")]
    async fn job(mutex: &DbMutex) -> Result<(), Error> {
        Ok(())
    }
    let (mutex, _clock) = testing::mutex();
    assert!(job(&mutex).await.unwrap_err().is_invalid());
}

#[tokio::test(start_paused = true)]
async fn durations_are_exact_to_the_millisecond() {
    #[db_mutex("job", store = mutex, ttl = "2s500ms", guard)]
    async fn job(mutex: &DbMutex) -> Result<db_mutex::admin::Lease, Error> {
        Ok(guard.lease())
    }
    let (mutex, _clock) = testing::mutex();
    let lease = job(&mutex).await.unwrap();
    assert_eq!(lease.expires_at.since(lease.acquired_at), Duration::from_millis(2500));
}
