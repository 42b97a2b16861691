use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::{DbMutex, Error, LostReason, Ttl};

use crate::flaky::{Fault, Flaky};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_guard_is_valid_until_a_margin_before_the_lease_ends() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    assert_eq!(guard.remaining(), Some(57 * SECOND));
    store.clock.advance(56 * SECOND);
    assert!(guard.is_valid());
    store.clock.advance(SECOND);
    assert!(!guard.is_valid());
    assert_eq!(guard.remaining(), Some(Duration::ZERO));
    assert!(store.is_taken("job").await, "the store still keeps the others away");
}

#[tokio::test]
async fn a_lease_that_never_expires_stays_valid() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").ttl(Ttl::NEVER).acquire().await.unwrap();
    store.clock.advance(Ttl::MAX);
    assert!(guard.is_valid());
    assert_eq!(guard.remaining(), None);
}

#[tokio::test]
async fn extending_counts_from_now() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    store.clock.advance(50 * SECOND);
    guard.extend(100 * SECOND).await.unwrap();
    assert_eq!(guard.remaining(), Some(95 * SECOND));
    store.clock.advance(90 * SECOND);
    assert!(store.is_taken("job").await);
    assert!(guard.is_valid());
}

#[tokio::test]
async fn an_extension_that_fails_loses_nothing() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    store.next([Fault::Fails]);
    assert!(guard.extend(100 * SECOND).await.unwrap_err().is_transient());
    assert_eq!(guard.remaining(), Some(57 * SECOND));
    guard.extend(100 * SECOND).await.unwrap();
    assert_eq!(guard.remaining(), Some(95 * SECOND));
}

/// Whether the lease was extended is not known, so the guard counts on the end that it knows of.
#[tokio::test]
async fn an_extension_whose_reply_is_lost_changes_nothing_for_the_guard() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    for ttl in [20 * SECOND, 200 * SECOND] {
        store.next([Fault::ReplyLost]);
        guard.extend(ttl).await.unwrap_err();
        assert_eq!(guard.remaining(), Some(57 * SECOND));
    }
}

/// The default TTL is for locks that are acquired here: a child of a job with a short lease must not keep it for half an
/// hour.
#[tokio::test]
async fn resuming_without_a_ttl_leaves_the_lease_as_it_is() {
    let store = Flaky::new();
    let token = store.mutex().lock("job").ttl(10 * SECOND).acquire().await.unwrap().into_owner_token();
    store.clock.advance(4 * SECOND);
    let mutex = DbMutex::builder(Arc::new(store.clone())).clock(store.clock.clone()).build().unwrap();
    assert_eq!(mutex.ttl(), Ttl::DEFAULT);

    let resumed = mutex.lock("job").resume(token).await.unwrap();
    assert_eq!(resumed.remaining(), Some(Duration::from_millis(5_700)));
    store.clock.advance(6 * SECOND);
    assert!(!store.is_taken("job").await, "the lease was extended by a default");
    assert!(resumed.release().await.unwrap_err().is_lost());
}

#[tokio::test]
async fn a_resumed_lease_that_never_expires_stays_so() {
    let store = Flaky::new();
    let token = store.mutex().lock("job").ttl(Ttl::NEVER).acquire().await.unwrap().into_owner_token();
    let mutex = DbMutex::builder(Arc::new(store.clone())).clock(store.clock.clone()).build().unwrap();
    assert_eq!(mutex.lock("job").resume(token).await.unwrap().remaining(), None);
}

#[tokio::test]
async fn extending_a_lost_lease_says_so_and_ends_the_guard() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    assert!(store.mutex().force_release("job").await.unwrap());
    assert!(guard.extend(60 * SECOND).await.unwrap_err().is_lost());
    assert!(!guard.is_valid());
    assert!(guard.release().await.unwrap_err().is_lost());
}

#[tokio::test]
async fn an_extension_tells_why_the_lock_was_lost() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    assert!(mutex.force_release("job").await.unwrap());
    let error = guard.extend(60 * SECOND).await.unwrap_err();
    assert!(matches!(error, Error::Lost { reason: LostReason::ReleasedByForce, .. }), "{error:?}");
    let guard = mutex.lock("other").acquire().await.unwrap();
    assert!(mutex.force_release("other").await.unwrap());
    let _successor = mutex.lock("other").acquire().await.unwrap();
    let error = guard.extend(60 * SECOND).await.unwrap_err();
    assert!(matches!(error, Error::Lost { reason: LostReason::TakenOver, .. }), "{error:?}");
    assert_eq!(guard.lost().await, LostReason::TakenOver);
}

#[tokio::test]
async fn a_release_after_a_failed_verification_tells_why_the_lock_was_lost() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    assert!(mutex.force_release("job").await.unwrap());
    let error = guard.verified(Ok(None)).unwrap_err();
    assert!(matches!(error, Error::Lost { reason: LostReason::Missing, .. }), "{error:?}");
    assert!(!guard.is_valid());
    let error = guard.release().await.unwrap_err();
    assert!(matches!(error, Error::Lost { reason: LostReason::ReleasedByForce, .. }), "{error:?}");
}

#[tokio::test]
async fn releasing_tells_whether_the_lock_was_kept() {
    let store = Flaky::new();
    let mutex = store.mutex();
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();

    let stale = mutex.lock("job").acquire().await.unwrap();
    store.clock.advance(61 * SECOND);
    let successor = mutex.lock("job").acquire().await.unwrap();
    assert!(successor.fence() > stale.fence());
    assert!(stale.release().await.unwrap_err().is_lost());
    assert!(store.is_taken("job").await, "the successor's lock was touched");
    successor.release().await.unwrap();
}

#[tokio::test]
async fn a_release_that_failed_is_done_in_the_background() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    store.next([Fault::Fails]);
    assert!(guard.release().await.unwrap_err().is_transient());
    store.until_free("job").await;
}

#[tokio::test]
async fn a_fast_job_leaves_its_lock_resting() {
    let store = Flaky::new();
    let mutex = store.builder().hold_at_least(30 * SECOND).build().unwrap();
    for dropped in [false, true] {
        let guard = mutex.lock("job").acquire().await.unwrap();
        if dropped {
            drop(guard);
            assert!(mutex.shutdown(60 * SECOND).await.is_empty());
        } else {
            guard.release().await.unwrap();
        }
        assert!(mutex.lock("job").acquire().await.unwrap_err().is_held());
        store.clock.advance(31 * SECOND);
    }
}

#[tokio::test]
async fn debug_shows_no_owner() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    assert!(!format!("{guard:?}").contains(&guard.owner_token().to_hex()));
    assert!(format!("{guard:?}").contains("job"));
}

#[tokio::test]
async fn a_guard_can_be_handed_over() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    let fence = guard.fence();
    store.clock.advance(50 * SECOND);
    let token = guard.into_owner_token();
    assert!(store.is_taken("job").await, "handing over released the lock");

    // Elsewhere, with another mutex.
    let there = store.mutex().lock("job").resume(token).await.unwrap();
    assert_eq!(there.fence(), fence);
    assert_eq!(there.remaining(), Some(57 * SECOND));
    there.release().await.unwrap();
    assert!(!store.is_taken("job").await);
    assert!(store.mutex().lock("job").resume(token).await.unwrap_err().is_lost());
}
