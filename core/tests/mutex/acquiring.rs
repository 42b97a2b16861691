use std::time::Duration;

use db_mutex_core::{Error, LockId, Ttl, WaitLimit};

use crate::flaky::{Fault, Flaky};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn held_tells_by_whom_and_for_how_long() {
    let store = Flaky::new();
    let _guard = store.mutex().lock("job").label("May").acquire().await.unwrap();
    store.clock.advance(10 * SECOND);
    let error = store.mutex().lock("job").acquire().await.unwrap_err();
    let text = error.to_string();
    let Error::Held { lock_id, holder } = error else { panic!("{text}") };
    assert_eq!(lock_id, LockId::new("job").unwrap());
    assert!(holder.name.as_str().ends_with(": May"), "{holder}");
    assert_eq!(holder.held_for, 10 * SECOND);
    assert_eq!(holder.expires_in, Some(50 * SECOND));
    assert!(text.contains("`job`") && text.contains("50s"), "{text}");
}

#[tokio::test]
async fn what_is_not_valid_is_told_before_the_store_is_asked() {
    let store = Flaky::new();
    let mutex = store.mutex();
    store.next([Fault::ReplyNever]);
    let too_long = "x".repeat(257);
    for lock in [
        mutex.lock(""),
        mutex.lock(&too_long),
        mutex.lock("a\nb"),
        mutex.lock("job").ttl(Duration::ZERO),
        mutex.lock("job").ttl(Duration::MAX),
        mutex.lock("job").hold_at_least(61 * SECOND),
        mutex.lock("job").ttl(Ttl::NEVER).hold_at_least(Duration::MAX),
        mutex.lock("job").label("a\tb"),
    ] {
        assert!(lock.acquire().await.unwrap_err().is_invalid(), "{lock:?}");
    }
    assert!(store.builder().ttl(Duration::from_millis(99)).build().is_err());
    assert!(store.builder().hold_at_least(61 * SECOND).build().is_err());
}

#[tokio::test]
async fn an_error_of_the_store_is_never_held() {
    let store = Flaky::new();
    let _guard = store.mutex().lock("job").acquire().await.unwrap();
    store.next([Fault::Fails]);
    let error = store.mutex().lock("job").acquire().await.unwrap_err();
    assert!(!error.is_held() && error.is_transient(), "{error}");
    assert!(error.to_string().contains("`job`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gets_what_is_released() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    let waiter = tokio::spawn({
        let lock = store.mutex().lock("job").wait(WaitLimit::Forever);
        async move { lock.acquire().await }
    });
    tokio::time::sleep(60 * SECOND).await;
    assert!(!waiter.is_finished());
    guard.release().await.unwrap();
    drop(waiter.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gives_up_at_its_limit_and_says_who_holds() {
    let store = Flaky::new();
    let _guard = store.mutex().lock("job").acquire().await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = store.mutex().lock("job").wait(5 * SECOND).acquire().await.unwrap_err();
    assert!(error.is_held());
    assert!(begun.elapsed() >= 5 * SECOND && begun.elapsed() < 6 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn try_acquire_never_waits() {
    let store = Flaky::new();
    let mutex = store.builder().wait(WaitLimit::Forever).build().unwrap();
    let _guard = mutex.lock("job").acquire().await.unwrap();
    assert!(mutex.lock("job").try_acquire().await.unwrap_err().is_held());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_outlives_a_store_that_is_away_for_a_while() {
    let store = Flaky::new();
    store.next([Fault::Fails; 5]);
    drop(store.mutex().lock("job").wait(60 * SECOND).acquire().await.unwrap());

    store.next([Fault::Fails; 500]);
    let error = store.mutex().lock("other").wait(SECOND).acquire().await.unwrap_err();
    assert!(!error.is_held(), "a store that was away all the time says nothing about the lock: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_repeated_and_gets_its_own_lock() {
    let store = Flaky::new();
    store.next([Fault::ReplyLost]);
    let guard = store.mutex().lock("job").wait(60 * SECOND).acquire().await.unwrap();
    assert!(guard.is_valid());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_lost_reply_leaves_no_ghost() {
    let store = Flaky::new();
    store.next([Fault::ReplyLost]);
    let mutex = store.mutex();
    assert!(mutex.lock("job").acquire().await.unwrap_err().is_transient());
    store.until_free("job").await;
}

/// The deadline counts from before the request was sent: a grant that was on its way for the whole TTL is none.
#[tokio::test]
async fn a_reply_after_the_lease_is_not_a_lock() {
    let store = Flaky::new();
    store.next([Fault::ReplyLate(58 * SECOND)]);
    let mutex = store.mutex();
    let error = mutex.lock("job").acquire().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    store.until_free("job").await;
}

#[tokio::test]
async fn the_time_of_the_request_is_taken_off_the_lease() {
    let store = Flaky::new();
    store.next([Fault::ReplyLate(20 * SECOND)]);
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    assert_eq!(guard.remaining(), Some(37 * SECOND));
}
