//! A lock that another holds: an error, or a skip.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use db_mutex::{DbMutex, Error, db_mutex, testing};

use crate::held;

#[tokio::test(start_paused = true)]
async fn the_body_is_not_run() {
    #[db_mutex("job", store = mutex)]
    async fn job(mutex: &DbMutex, runs: &AtomicU32) -> Result<(), Error> {
        runs.fetch_add(1, Relaxed);
        Ok(())
    }
    let ((mutex, _clock), runs) = (testing::mutex(), AtomicU32::new(0));
    let other = held(&mutex, "job").await;
    assert!(job(&mutex, &runs).await.unwrap_err().is_held());
    assert_eq!(runs.load(Relaxed), 0);
    other.release().await.unwrap();
    job(&mutex, &runs).await.unwrap();
    assert_eq!(runs.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn any_error_that_is_made_of_ours_is_returned() {
    #[db_mutex("job", store = mutex)]
    async fn boxed(mutex: &DbMutex) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err("its own")?
    }
    type Outcome<T> = Result<T, Error>;
    #[db_mutex("job", store = mutex)]
    async fn by_another_name(mutex: &DbMutex) -> Outcome<u8> {
        Ok(1)
    }
    let (mutex, _clock) = testing::mutex();
    assert_eq!(boxed(&mutex).await.unwrap_err().to_string(), "its own");
    assert_eq!(by_another_name(&mutex).await.unwrap(), 1);
    let _other = held(&mutex, "job").await;
    let error = boxed(&mutex).await.unwrap_err();
    assert!(error.downcast_ref().is_some_and(Error::is_held), "{error}");
    assert!(by_another_name(&mutex).await.unwrap_err().is_held());
}

#[tokio::test(start_paused = true)]
async fn a_skip_is_nothing_or_none() {
    #[db_mutex("job", store = mutex, on_held = "skip")]
    async fn nothing(mutex: &DbMutex, runs: &AtomicU32) {
        runs.fetch_add(1, Relaxed);
    }
    #[db_mutex("job", store = mutex, on_held = "skip")]
    async fn option(mutex: &DbMutex) -> Option<u8> {
        Some(1)
    }
    #[db_mutex("job", store = mutex, on_held = "skip")]
    async fn fallible(mutex: &DbMutex, runs: &AtomicU32) -> Result<(), Error> {
        runs.fetch_add(1, Relaxed);
        Ok(())
    }
    #[db_mutex("job", store = mutex, on_held = "skip")]
    async fn fallible_option(mutex: &DbMutex) -> Result<Option<u8>, Error> {
        Ok(Some(2))
    }
    let ((mutex, _clock), runs) = (testing::mutex(), AtomicU32::new(0));
    let other = held(&mutex, "job").await;
    nothing(&mutex, &runs).await;
    fallible(&mutex, &runs).await.unwrap();
    assert_eq!(runs.load(Relaxed), 0);
    assert_eq!(option(&mutex).await, None);
    assert_eq!(fallible_option(&mutex).await.unwrap(), None);
    other.release().await.unwrap();
    nothing(&mutex, &runs).await;
    fallible(&mutex, &runs).await.unwrap();
    assert_eq!(runs.load(Relaxed), 2);
    assert_eq!(option(&mutex).await, Some(1));
    assert_eq!(fallible_option(&mutex).await.unwrap(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_wait_limit_is_waited_out() {
    #[db_mutex("job", store = mutex, wait = "5s")]
    async fn job(mutex: &DbMutex) -> Result<(), Error> {
        Ok(())
    }
    let (mutex, _clock) = testing::mutex();
    let other = held(&mutex, "job").await;
    let begun = tokio::time::Instant::now();
    assert!(job(&mutex).await.unwrap_err().is_held());
    assert!(begun.elapsed() >= Duration::from_secs(5));
    let releases = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        other.release().await
    };
    let (done, released) = tokio::join!(job(&mutex), releases);
    done.and(released).unwrap();
}

#[tokio::test(start_paused = true)]
async fn forever_has_no_limit() {
    #[db_mutex("job", store = mutex, wait = "forever")]
    async fn job(mutex: &DbMutex) -> Result<(), Error> {
        Ok(())
    }
    let (mutex, _clock) = testing::mutex();
    let other = held(&mutex, "job").await;
    let releases = async {
        tokio::time::sleep(Duration::from_secs(3 * 60)).await;
        other.release().await
    };
    let (done, released) = tokio::join!(job(&mutex), releases);
    done.and(released).unwrap();
}
