//! A database clock that was wrong for a while.

use std::time::Duration;

use crate::flaky::Flaky;

const SECOND: Duration = Duration::from_secs(1);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

#[tokio::test]
async fn a_lock_released_while_the_clock_was_ahead_is_free() {
    let store = Flaky::new();
    store.clock.advance(TEN_YEARS);
    store.mutex().lock("job").acquire().await.unwrap().release().await.unwrap();
    store.clock.step_back(TEN_YEARS);
    store.mutex().lock("job").acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_lock_forced_while_the_clock_was_ahead_is_free() {
    let store = Flaky::new();
    let mutex = store.mutex();
    store.clock.advance(TEN_YEARS);
    let guard = mutex.lock("job").acquire().await.unwrap();
    assert!(mutex.force_release("job").await.unwrap());
    store.clock.step_back(TEN_YEARS);
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
    drop(guard);
}

/// The holder crashed while the clock was ahead: it blocks others for its TTL from their first attempt on.
#[tokio::test]
async fn a_holder_from_the_future_blocks_for_its_ttl() {
    let store = Flaky::new();
    store.clock.advance(TEN_YEARS);
    let crashed = store.mutex().lock("job").acquire().await.unwrap().into_owner_token();
    store.clock.step_back(TEN_YEARS);

    let refused = store.mutex().lock("job").acquire().await.unwrap_err();
    let text = refused.to_string();
    assert!(refused.is_held() && text.contains("for at most 60s more"), "{text}");
    store.clock.advance(59 * SECOND);
    assert!(store.mutex().lock("job").acquire().await.unwrap_err().is_held());
    store.clock.advance(2 * SECOND);
    let _successor = store.mutex().lock("job").acquire().await.unwrap();
    assert!(store.mutex().lock("job").resume(crashed).await.is_err());
}

/// A rest that was promised while the clock was ahead lasts no longer than it was to last.
#[tokio::test]
async fn a_rest_from_the_future_ends() {
    let store = Flaky::new();
    let mutex = store.builder().hold_at_least(30 * SECOND).build().unwrap();
    store.clock.advance(TEN_YEARS);
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
    store.clock.step_back(TEN_YEARS);
    assert!(mutex.lock("job").acquire().await.unwrap_err().is_held());
    store.clock.advance(31 * SECOND);
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
}

/// The clock was ahead and left a fencing token ahead. It is set back a little just when a purge has taken the row.
#[tokio::test]
async fn a_fence_from_the_future_is_not_purged_too_early() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let minute = 60 * SECOND;
    store.clock.advance(2 * minute);
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
    store.clock.step_back(2 * minute);
    let guard = mutex.lock("job").acquire().await.unwrap();
    let last = guard.fence();
    guard.release().await.unwrap();

    store.clock.advance(2 * minute + SECOND);
    mutex.purge_expired(minute).await.unwrap();
    store.clock.step_back(2 * SECOND);
    assert!(mutex.lock("job").acquire().await.unwrap().fence() > last);
}
