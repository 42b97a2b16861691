//! The tests that django-db-mutex has for its decorator, by its names.

use db_mutex::{DbMutex, Error, db_mutex, testing};

use crate::{held, is_held, secs};

#[db_mutex("lock_id", store = mutex)]
async fn run_get_lock(mutex: &DbMutex) -> Result<bool, Error> {
    Ok(is_held(mutex, "lock_id").await)
}

#[tokio::test(start_paused = true)]
async fn no_lock_before() {
    let (mutex, _clock) = testing::mutex();
    assert!(run_get_lock(&mutex).await.unwrap(), "the lock is held while the function runs");
    assert!(!is_held(&mutex, "lock_id").await, "and released after it");
}

#[tokio::test(start_paused = true)]
async fn lock_before() {
    let (mutex, _clock) = testing::mutex();
    let other = held(&mutex, "lock_id").await;
    let error = run_get_lock(&mutex).await.unwrap_err();
    assert!(error.is_held(), "{error}");
    assert!(other.is_valid() && is_held(&mutex, "lock_id").await, "the other one still has it");
}

#[db_mutex("lock_id", store = mutex, on_held = "skip")]
async fn run_get_lock_suppressed(mutex: &DbMutex) -> Option<bool> {
    Some(is_held(mutex, "lock_id").await)
}

#[tokio::test(start_paused = true)]
async fn lock_before_suppress_acquisition_errors() {
    let (mutex, _clock) = testing::mutex();
    let other = held(&mutex, "lock_id").await;
    assert_eq!(run_get_lock_suppressed(&mutex).await, None);
    other.release().await.unwrap();
    assert_eq!(run_get_lock_suppressed(&mutex).await, Some(true));
}

#[tokio::test(start_paused = true)]
async fn lock_different_id() {
    let (mutex, _clock) = testing::mutex();
    let _other = held(&mutex, "another_lock_id").await;
    assert!(run_get_lock(&mutex).await.unwrap());
}

/// Lets a function begin, and its process crash.
async fn crash(running: impl Future) {
    let mut running = Box::pin(running);
    assert!(tokio::time::timeout(secs(1), &mut running).await.is_err(), "it runs forever");
    std::mem::forget(running);
}

#[tokio::test(start_paused = true)]
async fn lock_timeout_default() {
    #[db_mutex("lock_id", store = mutex)]
    async fn run_forever(mutex: &DbMutex) -> Result<(), Error> {
        std::future::pending().await
    }
    let (mutex, clock) = testing::mutex();
    crash(run_forever(&mutex)).await;
    clock.advance(secs(29 * 60));
    assert!(run_get_lock(&mutex).await.unwrap_err().is_held());
    clock.advance(secs(2 * 60));
    assert!(run_get_lock(&mutex).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn lock_timeout_never() {
    #[db_mutex("lock_id", store = mutex, ttl = "none")]
    async fn run_forever(mutex: &DbMutex) -> Result<(), Error> {
        std::future::pending().await
    }
    let (mutex, clock) = testing::mutex();
    crash(run_forever(&mutex)).await;
    clock.advance(secs(10 * 365 * 24 * 60 * 60));
    assert!(run_get_lock(&mutex).await.unwrap_err().is_held());
}

#[tokio::test(start_paused = true)]
async fn lock_timeout_custom() {
    #[db_mutex("lock_id", store = mutex, ttl = "3m")]
    async fn run_forever(mutex: &DbMutex) -> Result<(), Error> {
        std::future::pending().await
    }
    let (mutex, clock) = testing::mutex();
    crash(run_forever(&mutex)).await;
    clock.advance(secs(2 * 60));
    assert!(run_get_lock(&mutex).await.unwrap_err().is_held());
    clock.advance(secs(2 * 60));
    assert!(run_get_lock(&mutex).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn lock_timeout_error() {
    #[db_mutex("lock_id", store = mutex, ttl = "1m")]
    async fn too_long(mutex: &DbMutex, clock: &testing::ManualClock) -> Result<(), Error> {
        clock.advance(secs(61));
        // Another one takes the lock over.
        held(mutex, "lock_id").await.release().await
    }
    let (mutex, clock) = testing::mutex();
    let error = too_long(&mutex, &clock).await.unwrap_err();
    assert!(error.is_lost(), "{error}");
}
