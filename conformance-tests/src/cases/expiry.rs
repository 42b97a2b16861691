//! When a lease ends, and that nothing but its end lets others in.

use std::time::{Duration, Instant};

use db_mutex_core::store::{InsertRequest, LockState, StoreTime, Ttl};

use crate::answer::{answered, granted, refused};
use crate::subject::{ROUNDING, Subject, holder_text, minute, moment, new_owner, span};

pub(crate) async fn an_expired_id_is_taken_over(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, moment()).await;
    store.until_free(&id).await;
    granted(
        store.ask(&id).await,
        "an id whose lease has ended is free and must be granted to the next owner that asks",
    );
}

pub(crate) async fn a_live_id_is_not_taken_over(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, minute()).await;
    store.until_acquired(&id, Duration::from_millis(200)).await;
    refused(store.ask(&id).await, "a lease that has not ended must not be taken over");
    let other = store.second_handle().await;
    let request = InsertRequest::new(id, new_owner(), Ttl::NEVER, holder_text("another process"));
    let answer = answered(other.insert_if_absent(&request).await, "insert_if_absent");
    refused(answer, "a lease that has not ended must not be taken over, through another handle either");
}

pub(crate) async fn a_takeover_shows_the_new_holder(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let ended = store.row(&id).await;

    let request = InsertRequest::new(id.clone(), new_owner(), minute(), holder_text("the successor"));
    let answer = answered(store.insert_if_absent(&request).await, "insert_if_absent");
    let lease = granted(answer, "an id whose lease has ended must be granted");
    let row = store.row(&id).await;
    assert_eq!(row.holder, request.holder, "after a takeover the row must name the new holder");
    assert_eq!(row.state(), LockState::Held, "after a takeover the lock must be held");
    assert_eq!(row.acquired_at, lease.acquired_at, "after a takeover the row must show when that was");
    assert!(
        lease.acquired_at >= ended.expires_at,
        "a takeover must not be dated before the end of the lease that it follows"
    );
}

pub(crate) async fn a_lease_lasts_its_ttl(store: &Subject) {
    let ttl = Duration::from_secs(60);
    lasts(store, "a minute", ttl).await;
    lasts(store, "a moment", Duration::from_millis(150)).await;
    lasts(store, "an odd time", Duration::from_micros(90_123_456)).await;
}

/// By the clock of this process too: a clock that stands still between two seconds ends leases early.
pub(crate) async fn a_lease_lasts_its_ttl_by_any_clock(store: &Subject) {
    let (id, ttl) = (store.id("job"), Duration::from_millis(500));
    for _ in 0..2 {
        // Where it stands still until the next second, the lease before has ended with one: this one begins late in it.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let begun = Instant::now();
        store.grant(&id, Ttl::new(ttl).expect("the suite uses valid TTLs")).await;
        store.until_free(&id).await;
        let lasted = begun.elapsed();
        assert!(
            lasted + ROUNDING >= ttl,
            "insert_if_absent MUST return a lease that lasts its TTL, {ttl:?} (insert 4): it had ended {lasted:?} after it was \
             requested"
        );
    }
}

pub(crate) async fn the_longest_ttl_is_kept(store: &Subject) {
    lasts(store, "a year", Ttl::MAX).await;
    refused(store.ask(&store.id("a year")).await, "a lease of 365 days must keep others away");
}

/// Checks that the lease answered and the row stored end `ttl` after the acquisition.
async fn lasts(store: &Subject, id: &str, ttl: Duration) {
    let id = store.id(id);
    let (_, lease) = store.grant(&id, Ttl::new(ttl).expect("the suite uses valid TTLs")).await;
    let answered = span(lease.acquired_at, lease.expires_at);
    assert!(
        answered.abs_diff(ttl) <= ROUNDING,
        "a lease must end its TTL of {ttl:?} after it was granted; this one lasts {answered:?}"
    );
    let row = store.row(&id).await;
    assert_eq!(row.expires_at, lease.expires_at, "the row must have the end that the lease was answered with");
}

pub(crate) async fn a_lease_that_never_expires_has_no_end(store: &Subject) {
    let id = store.id("job");
    let (_, lease) = store.grant(&id, Ttl::NEVER).await;
    assert_eq!(lease.expires_at, StoreTime::NEVER, "a lease that never expires must be answered without an end");
    let row = store.row(&id).await;
    assert_eq!(row.expires_in(), None, "a lease that never expires must be stored without an end");
    assert_eq!(row.state(), LockState::Held, "a lease that never expires must be held");
    let holder = refused(store.ask(&id).await, "a lease that never expires must not be taken over");
    assert_eq!(holder.expires_in, None, "a refusal must report that the lease never expires");
}
