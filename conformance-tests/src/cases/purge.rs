//! What housekeeping removes, and what it has to spare.

use std::time::{Duration, Instant};

use db_mutex_core::store::{LockState, Ttl};

use crate::answer::{refused, released};
use crate::subject::{Subject, minute, moment};

pub(crate) async fn a_purge_spares_the_living(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.until_acquired(&id, Duration::from_millis(20)).await;
    assert_eq!(store.purge(Duration::ZERO).await, 0, "a purge must not remove, nor count, a lock that is held");
    refused(store.ask(&id).await, "a lock that is held must stay held through a purge");
    released(store.release(owner, &id).await, "after a purge a lock must still be its owner's");
}

pub(crate) async fn a_purge_spares_the_resting(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.release_to_rest(owner, &id, Duration::from_secs(60)).await;
    store.until_acquired(&id, Duration::from_millis(20)).await;
    assert_eq!(store.purge(Duration::ZERO).await, 0, "a purge must not remove, nor count, an id that rests");
    refused(store.ask(&id).await, "a resting id must go on resting through a purge");
}

pub(crate) async fn a_purge_spares_what_never_expires(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, Ttl::NEVER).await;
    store.until_acquired(&id, Duration::from_millis(20)).await;
    assert_eq!(store.purge(Duration::ZERO).await, 0, "a purge must not remove, nor count, a lease that never expires");
    refused(store.ask(&id).await, "a lease that never expires must stay through a purge");
}

pub(crate) async fn a_purge_spares_the_recent(store: &Subject) {
    let (given_back, ended) = (store.id("released"), store.id("ended"));
    let (owner, _) = store.grant(&given_back, minute()).await;
    store.release(owner, &given_back).await;
    store.grant(&ended, moment()).await;
    store.until_purgeable(&given_back).await;
    store.until_purgeable(&ended).await;

    for older_than in [Duration::from_secs(3_600), Duration::MAX] {
        let removed = store.purge(older_than).await;
        assert_eq!(removed, 0, "a purge must spare what became free later than {older_than:?} ago");
    }
    assert_eq!(store.row(&given_back).await.state(), LockState::Free, "a purge must leave what it spares as it was");
    assert_eq!(store.row(&ended).await.state(), LockState::Expired, "a purge must leave what it spares as it was");
}

pub(crate) async fn a_purge_spares_the_recently_released(store: &Subject) {
    // What was released has no end in the future or the past: it became free when it was released. It is held for a while
    // first, so that its fencing token alone would not spare it.
    let (id, older_than) = (store.id("job"), Duration::from_secs(1));
    let (owner, _) = store.grant(&id, minute()).await;
    store.until_acquired(&id, older_than + Duration::from_millis(100)).await;
    let before = Instant::now();
    store.release(owner, &id).await;
    let removed = store.purge(older_than).await;
    let spared = removed == 0 && store.has_row(&id).await;
    assert!(spared || before.elapsed() >= older_than, "a purge must spare a lock released later than `older_than` ago");
}

pub(crate) async fn a_purge_removes_what_is_over(store: &Subject) {
    let (given_back, ended) = (store.id("released"), store.id("ended"));
    let (owner, _) = store.grant(&given_back, minute()).await;
    store.release(owner, &given_back).await;
    store.grant(&ended, moment()).await;
    store.until_purgeable(&given_back).await;
    store.until_purgeable(&ended).await;

    store.purge(Duration::ZERO).await;
    assert!(!store.has_row(&given_back).await, "a purge must remove the row of a lock that was released");
    assert!(!store.has_row(&ended).await, "a purge must remove the row of a lease that has ended");
}

pub(crate) async fn a_purge_counts_what_it_removed(store: &Subject) {
    store.grant(&store.id("held"), minute()).await;
    for number in 1..=3 {
        let id = store.id(&format!("released {number}"));
        let (owner, _) = store.grant(&id, minute()).await;
        store.release(owner, &id).await;
        store.until_purgeable(&id).await;
    }
    assert_eq!(store.purge(Duration::ZERO).await, 3, "a purge must answer how many rows it removed");
    assert_eq!(store.purge(Duration::ZERO).await, 0, "a purge that finds nothing must answer 0");
}
