//! Who can prolong a lease, and from when the new time counts.

use std::time::Duration;

use db_mutex_core::store::{LockState, StoreTime, Ttl};

use crate::answer::{granted, not_renewed, refused, released, renewed};
use crate::subject::{ROUNDING, Subject, minute, moment, new_owner, seconds, span};

pub(crate) async fn a_renewal_counts_from_now(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    store.until_acquired(&id, Duration::from_millis(100)).await;
    let before = store.row(&id).await.now;
    let renewal = renewed(store.prolong(owner, &id, minute()).await, "the owner of a lease that lasts must renew it");
    let after = store.row(&id).await;

    let ttl = Duration::from_secs(60);
    let earliest = span(before, renewal.expires_at) + ROUNDING;
    assert!(earliest >= ttl, "a renewed lease must last its TTL from the renewal on, not from the acquisition");
    let latest = span(after.now, renewal.expires_at);
    assert!(latest <= ttl + ROUNDING, "a renewed lease must not last longer than its TTL from the renewal on");
    assert!(renewal.expires_at > lease.expires_at, "a renewal for the same TTL must move the end on");
    assert_eq!(after.expires_at, renewal.expires_at, "the row must have the end that the renewal answered");
}

pub(crate) async fn a_renewal_never_shortens(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    let renewal = renewed(store.prolong(owner, &id, moment()).await, "the owner of a lease that lasts must renew it");
    assert_eq!(renewal.expires_at, lease.expires_at, "a renewal for less than what is left must change nothing");
    assert_eq!(store.row(&id).await.expires_at, lease.expires_at, "a renewal must store the end that it returns");
    store.until_acquired(&id, Duration::from_millis(200)).await;
    refused(store.ask(&id).await, "a renewal for less than what is left must not free the id sooner");
    released(store.release(owner, &id).await, "the lock must still be its owner's");
}

pub(crate) async fn a_renewal_may_be_forever(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    let lease = renewed(store.prolong(owner, &id, Ttl::NEVER).await, "a lease must be renewable forever");
    assert_eq!(lease.expires_at, StoreTime::NEVER, "a lease renewed forever must be returned without an end");
    assert_eq!(store.row(&id).await.expires_in(), None, "a lease renewed forever must be stored without an end");
}

pub(crate) async fn a_lease_without_an_end_keeps_none(store: &Subject) {
    let (granted_so, renewed_so) = (store.id("granted"), store.id("renewed"));
    let (owner, _) = store.grant(&granted_so, Ttl::NEVER).await;
    let (other, _) = store.grant(&renewed_so, minute()).await;
    renewed(store.prolong(other, &renewed_so, Ttl::NEVER).await, "a lease must be renewable forever");
    for (owner, id) in [(owner, granted_so), (other, renewed_so)] {
        let lease = renewed(store.prolong(owner, &id, minute()).await, "a lease without an end must be renewable");
        assert_eq!(lease.expires_at, StoreTime::NEVER, "a lease without an end must not get one by a renewal");
        let lease = granted(store.ask_as(owner, &id, minute()).await, "an owner must get its own lease back");
        assert_eq!(lease.expires_at, StoreTime::NEVER, "a lease without an end must not get one by a repeated insert");
    }
}

pub(crate) async fn a_renewed_lease_is_not_taken_over(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, seconds(20)).await;
    renewed(store.prolong(owner, &id, seconds(600)).await, "the owner of a lease that lasts must renew it");
    let holder = refused(store.ask(&id).await, "a renewed lease must not be taken over");
    let left = holder.expires_in.unwrap_or(Duration::MAX);
    assert!(
        left > Duration::from_secs(60),
        "others must meet the renewed end of the lease, not the first one: {left:?}"
    );
}

pub(crate) async fn a_renewal_keeps_the_fence(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    store.until_acquired(&id, Duration::from_millis(20)).await;
    let renewal = renewed(store.prolong(owner, &id, minute()).await, "the owner of a lease that lasts must renew it");
    assert_eq!(renewal.fence, lease.fence, "a renewal is no acquisition: the fencing token must stay");
    assert_eq!(renewal.acquired_at, lease.acquired_at, "a renewal must keep the time of the acquisition");
    let row = store.row(&id).await;
    assert_eq!(row.fence, lease.fence, "a renewal must keep the fencing token in the row");
    assert_eq!(row.acquired_at, lease.acquired_at, "a renewal must keep the time of the acquisition in the row");
}

pub(crate) async fn a_stranger_cannot_renew(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    not_renewed(store.prolong(new_owner(), &id, seconds(600)).await, "only the owner may renew a lease");
    let row = store.row(&id).await;
    assert_eq!(row.expires_at, lease.expires_at, "a stranger's renewal must not move the end of the lease");
    released(store.release(owner, &id).await, "after a stranger's renewal the lock must still be its owner's");
}

pub(crate) async fn an_ended_lease_cannot_be_renewed(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let promise = "a lease that has ended must stay ended, also when no one else has taken the lock";
    not_renewed(store.prolong(owner, &id, minute()).await, promise);
    assert_eq!(store.row(&id).await.state(), LockState::Expired, "a renewal that came too late must change nothing");
    granted(store.ask(&id).await, "a renewal that came too late must leave the id free");
}

pub(crate) async fn a_released_lease_cannot_be_renewed(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    not_renewed(store.prolong(owner, &id, minute()).await, "a lease that was released must stay released");
    granted(store.ask(&id).await, "a renewal after the release must leave the id free");
}

pub(crate) async fn an_absent_id_cannot_be_renewed(store: &Subject) {
    let id = store.id("job");
    not_renewed(store.prolong(new_owner(), &id, minute()).await, "an id without a row has no lease to renew");
    assert!(!store.has_row(&id).await, "a renewal that found no lease must not make a row");
}

pub(crate) async fn a_stale_holder_cannot_renew_its_successor(store: &Subject) {
    let id = store.id("job");
    let (stale, _) = store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let (successor, lease) = store.grant(&id, minute()).await;
    let promise = "a holder whose lease has ended must not renew its successor's";
    not_renewed(store.prolong(stale, &id, seconds(600)).await, promise);
    let row = store.row(&id).await;
    assert_eq!(row.expires_at, lease.expires_at, "a stale holder must not move the end of its successor's lease");
    released(store.release(successor, &id).await, "the successor must still own its lock");
}
