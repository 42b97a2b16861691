//! A row that another transaction has locked.

use std::time::Duration;

use crate::flaky::Flaky;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_row_that_is_locked_for_a_moment_is_waited_for() {
    let store = Flaky::new();
    let mutex = store.mutex();
    for _ in 0..3 {
        let unlocks_soon = || {
            let row = store.lock_row("job");
            tokio::spawn(async move {
                tokio::time::sleep(SECOND / 5).await;
                drop(row);
            })
        };
        drop(unlocks_soon());
        let guard = mutex.lock("job").acquire().await.unwrap();
        drop(unlocks_soon());
        guard.extend(100 * SECOND).await.unwrap();
        drop(unlocks_soon());
        guard.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_stays_locked_is_an_error_and_never_held() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let row = store.lock_row("absent");
    let error = mutex.lock("absent").acquire().await.unwrap_err();
    assert!(!error.is_held() && error.is_transient(), "{error:?}");
    drop(row);

    // A crashed holder, and a transaction that has nothing to do with it: no one holds the lock.
    let _crashed = mutex.lock("expired").acquire().await.unwrap().into_owner_token();
    store.clock.advance(61 * SECOND);
    let row = store.lock_row("expired");
    let error = mutex.lock("expired").acquire().await.unwrap_err();
    assert!(!error.is_held() && error.is_transient(), "{error:?}");
    drop(row);
    mutex.lock("expired").acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_release_that_meets_a_locked_row_goes_on_in_the_background() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    let row = store.lock_row("job");
    assert!(guard.release().await.unwrap_err().is_transient());
    drop(row);
    store.until_free("job").await;
}
