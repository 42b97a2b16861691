//! What find and list show.

use std::time::{Duration, Instant};

use db_mutex_core::store::{InsertRequest, ListFilter, LockState};

use crate::answer::{answered, granted};
use crate::subject::{Subject, holder_text, minute, moment, new_owner};

pub(crate) async fn finding_an_absent_id_is_none(store: &Subject) {
    store.grant(&store.id("job"), minute()).await;
    assert!(!store.has_row(&store.id("another")).await, "an id that was never acquired must have no row");
}

pub(crate) async fn a_held_lock_is_found_with_its_holder(store: &Subject) {
    let id = store.id("job");
    let request = InsertRequest::new(id.clone(), new_owner(), minute(), holder_text("web-1 pid 4711"));
    let answer = answered(store.insert_if_absent(&request).await, "insert_if_absent");
    let lease = granted(answer, "a free id must be granted");

    let row = store.row(&id).await;
    assert_eq!(row.lock_id, id, "find must show the id that it was asked for");
    assert_eq!(row.state(), LockState::Held, "a lock whose lease lasts must read as held");
    assert_eq!(row.holder, request.holder, "find must show who holds the lock");
    assert_eq!(row.fence, lease.fence, "find must show the fencing token of the lease");
    assert_eq!(row.acquired_at, lease.acquired_at, "find must show when the lock was acquired");
    assert_eq!(row.expires_at, lease.expires_at, "find must show when the lease ends");
    assert_eq!(row.released_at, None, "a lock that is held must not read as released");
    assert!(row.now >= lease.acquired_at, "find must show the store's clock, which does not go backwards");
}

pub(crate) async fn an_ended_lease_reads_as_expired(store: &Subject) {
    let id = store.id("job");
    let (_, lease) = store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let row = store.row(&id).await;
    assert_eq!(row.state(), LockState::Expired, "a lease that ended without a release must read as expired");
    assert_eq!(row.released_at, None, "a lease that ended without a release must not read as released");
    assert_eq!(row.expires_at, lease.expires_at, "an ended lease must show when it ended");
    assert_eq!(row.expires_in(), Some(Duration::ZERO), "an ended lease must have no time left");
}

pub(crate) async fn a_released_lock_tells_who_ran_and_how_long(store: &Subject) {
    let id = store.id("job");
    let owner = new_owner();
    let request = InsertRequest::new(id.clone(), owner, minute(), holder_text("web-1 pid 4711"));
    let started = Instant::now();
    let answer = answered(store.insert_if_absent(&request).await, "insert_if_absent");
    let lease = granted(answer, "a free id must be granted");
    let ran = Duration::from_millis(50);
    store.until_acquired(&id, ran).await;
    store.release(owner, &id).await;
    // A second of slack: the store's clock and this machine's may be set while the case runs.
    let passed = started.elapsed() + Duration::from_secs(1);

    let row = store.row(&id).await;
    assert_eq!(row.state(), LockState::Free, "a lock that was released must read as free");
    assert_eq!(row.holder, request.holder, "a released lock must still show who held it last");
    assert_eq!(row.fence, lease.fence, "a released lock must keep the fencing token of its last acquisition");
    assert_eq!(row.acquired_at, lease.acquired_at, "a released lock must keep the time of its last acquisition");
    assert!(row.released_at.is_some(), "a released lock must show when it was released");
    let held = row.held_for();
    assert!(held >= ran && held <= passed, "a lock held for {ran:?} to {passed:?} must not show that it was {held:?}");
}

/// Makes an id of each state, named after it.
async fn one_of_each_state(store: &Subject) {
    for id in ["held", "resting", "free"] {
        let (owner, _) = store.grant(&store.id(id), minute()).await;
        match id {
            "resting" => _ = store.release_to_rest(owner, &store.id(id), Duration::from_secs(60)).await,
            "free" => _ = store.release(owner, &store.id(id)).await,
            _ => {}
        }
    }
    store.grant(&store.id("expired"), moment()).await;
    store.until_free(&store.id("expired")).await;
}

pub(crate) async fn a_list_shows_what_is_taken(store: &Subject) {
    assert!(store.rows(ListFilter::taken()).await.is_empty(), "a new database must have no locks");
    one_of_each_state(store).await;
    let taken = store.rows(ListFilter::taken()).await;
    let states: Vec<_> = taken.iter().map(|row| (row.lock_id.as_str(), row.state().as_str())).collect();
    let expected = [("held", "held"), ("resting", "resting")];
    assert_eq!(states, expected, "the list of what is taken must show the held and the resting, and only those");
}

pub(crate) async fn an_ended_lease_is_not_listed_as_taken(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let taken = store.listed(ListFilter::taken()).await;
    assert!(taken.is_empty(), "a lease that has ended must not be listed as taken: {taken:?}");
}

pub(crate) async fn a_list_of_all_shows_the_free_too(store: &Subject) {
    one_of_each_state(store).await;
    let all = store.rows(ListFilter::all()).await;
    let states: Vec<_> = all.iter().map(|row| (row.lock_id.as_str(), row.state().as_str())).collect();
    let expected = [("expired", "expired"), ("free", "free"), ("held", "held"), ("resting", "resting")];
    assert_eq!(states, expected, "the list of all must show every row, each in its state");
}

pub(crate) async fn a_list_is_in_the_order_of_the_ids(store: &Subject) {
    // Other orders than that of the bytes: languages', numbers', UTF-16's (the last two).
    let mut ids = ["zeta", "alpha", "Zeta", "Alpha", "a b", "a-b", "ab", "10", "9", "é", "e", "z", "😀", "\u{fffd}"];
    for id in ids {
        store.grant(&store.id(id), minute()).await;
    }
    ids.sort_unstable();
    let promise = "a list must be in the order of the ids' bytes";
    assert_eq!(store.listed(ListFilter::taken()).await, ids, "{promise}");
    assert_eq!(store.listed(ListFilter::all()).await, ids, "{promise}");
}
