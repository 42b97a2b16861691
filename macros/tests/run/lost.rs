//! A lock that is lost while the function runs.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use db_mutex::testing::ManualClock;
use db_mutex::{DbMutex, Error, db_mutex, testing};

use crate::secs;

/// Every error there is here.
#[derive(Debug)]
enum Problem {
    Lock(Error),
    Own,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Lock(error)
    }
}

#[db_mutex("job", store = mutex, ttl = "10s", on_lost = "finish")]
async fn finishes(mutex: &DbMutex, clock: &ManualClock, done: &AtomicBool, ok: bool) -> Result<(), Problem> {
    clock.advance(secs(11));
    tokio::time::sleep(secs(2)).await;
    done.store(true, Relaxed);
    if ok { Ok(()) } else { Err(Problem::Own) }
}

#[tokio::test(start_paused = true)]
async fn finished_work_ends_with_the_loss() {
    let ((mutex, clock), done) = (testing::mutex(), AtomicBool::new(false));
    let error = finishes(&mutex, &clock, &done, true).await.unwrap_err();
    assert!(matches!(&error, Problem::Lock(error) if error.is_lost()), "{error:?}");
    assert!(done.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_function_is_not_hidden_by_the_loss() {
    let ((mutex, clock), done) = (testing::mutex(), AtomicBool::new(false));
    assert!(matches!(finishes(&mutex, &clock, &done, false).await, Err(Problem::Own)));
}

#[tokio::test(start_paused = true)]
async fn dropped_work_ends_at_its_await() {
    #[db_mutex("job", store = mutex, ttl = "10s", on_lost = "drop")]
    async fn dropped(mutex: &DbMutex, clock: &ManualClock, done: &AtomicBool) -> Result<(), Error> {
        clock.advance(secs(11));
        tokio::time::sleep(secs(60)).await;
        done.store(true, Relaxed);
        Ok(())
    }
    let ((mutex, clock), done) = (testing::mutex(), AtomicBool::new(false));
    assert!(dropped(&mutex, &clock, &done).await.unwrap_err().is_lost());
    assert!(!done.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn without_a_result_finished_work_is_returned_and_dropped_work_is_none() {
    #[db_mutex("job", store = mutex, ttl = "10s", on_held = "skip")]
    async fn finishes(mutex: &DbMutex, clock: &ManualClock) -> Option<u8> {
        clock.advance(secs(11));
        Some(1)
    }
    #[db_mutex("job", store = mutex, ttl = "10s", on_held = "skip", on_lost = "drop")]
    async fn dropped(mutex: &DbMutex, clock: &ManualClock) -> Option<u8> {
        clock.advance(secs(11));
        tokio::time::sleep(secs(60)).await;
        Some(1)
    }
    let (mutex, clock) = testing::mutex();
    assert_eq!(finishes(&mutex, &clock).await, Some(1));
    assert_eq!(dropped(&mutex, &clock).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_and_a_panic_release_the_lock() {
    #[db_mutex("job", store = mutex)]
    async fn pending(mutex: &DbMutex) -> Result<(), Error> {
        std::future::pending().await
    }
    #[db_mutex("job", store = mutex)]
    async fn panics(mutex: DbMutex) -> Result<(), Error> {
        panic!("on purpose")
    }
    let (mutex, _clock) = testing::mutex();
    assert!(tokio::time::timeout(secs(1), pending(&mutex)).await.is_err());
    assert_eq!(mutex.shutdown(secs(5)).await, []);
    tokio::spawn(panics(mutex.clone())).await.unwrap_err();
    assert_eq!(mutex.shutdown(secs(5)).await, []);
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
}
