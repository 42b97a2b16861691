//! Requests that arrive late, twice or in another order, or that ask for less than the lock has.

use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, LockStore};

use crate::flaky::{Fault, Flaky};

const SECOND: Duration = Duration::from_secs(1);

/// A parent with a long lease hands its owner token to a child, which resumes the lock with a short TTL and leaves it to
/// the parent.
#[tokio::test]
async fn resuming_with_a_short_ttl_leaves_the_lease_long() {
    let store = Flaky::new();
    let parent = store.mutex().lock("job").ttl(1800 * SECOND).acquire().await.unwrap();
    let child = store.mutex().lock("job").ttl(SECOND).resume(*parent.owner_token()).await.unwrap();
    let _ = child.into_owner_token();

    store.clock.advance(2 * SECOND);
    assert!(parent.is_valid());
    let other = store.mutex().lock("job").acquire().await;
    assert!(other.unwrap_err().is_held(), "two holders: the parent's guard is valid, and another was granted the lock");
}

/// The parent renews for its own short TTL what the child has extended.
#[tokio::test]
async fn a_shorter_renewal_leaves_the_extension_of_another_guard() {
    let store = Flaky::new();
    let parent = store.mutex().lock("job").ttl(2 * SECOND).acquire().await.unwrap();
    let child = store.mutex().lock("job").ttl(60 * SECOND).resume(*parent.owner_token()).await.unwrap();
    parent.extend(2 * SECOND).await.unwrap();

    store.clock.advance(10 * SECOND);
    assert!(child.is_valid());
    assert!(store.mutex().lock("job").acquire().await.unwrap_err().is_held());
}

#[tokio::test]
async fn extending_by_less_than_is_left_changes_nothing() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").acquire().await.unwrap();
    let before = guard.remaining();
    guard.extend(5 * SECOND).await.unwrap();
    assert_eq!(guard.remaining(), before);
    store.clock.advance(30 * SECOND);
    assert!(guard.is_valid());
    assert!(store.is_taken("job").await);
}

/// An attempt is granted and its reply lost; an operator releases the lock by force before the attempt is repeated.
#[tokio::test]
async fn an_attempt_whose_token_is_spent_goes_on_with_a_new_one() {
    let store = Flaky::new();
    let mutex = store.mutex();
    store.next([Fault::ReplyLost]);
    let waiter = tokio::spawn({
        let lock = mutex.lock("job").wait(60 * SECOND);
        async move { lock.acquire().await }
    });
    while !store.is_taken("job").await {
        tokio::task::yield_now().await;
    }
    let first = store.row("job").await.fence;
    assert!(mutex.force_release("job").await.unwrap());
    let guard = waiter.await.unwrap().unwrap();
    assert!(guard.fence() > first);
    guard.release().await.unwrap();
}

/// The forced release names the acquisition that the operator saw. A request that arrives late spares the successor's.
#[tokio::test]
async fn a_late_forced_release_spares_the_successor() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let seen = mutex.lock("job").acquire().await.unwrap();
    let request = DeleteRequest::by_fence(seen.lock_id().clone(), seen.fence());
    assert!(mutex.force_release("job").await.unwrap());
    let successor = mutex.lock("job").acquire().await.unwrap();

    assert_eq!(store.delete(&request).await.unwrap(), Deleted::NotHeld);
    assert!(store.is_taken("job").await);
    successor.release().await.unwrap();
    assert!(seen.release().await.unwrap_err().is_lost());
}
