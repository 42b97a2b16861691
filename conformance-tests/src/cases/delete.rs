//! Who can give a lock back, and what an operator can do.

use db_mutex_core::store::{Fence, LockState, StoreTime};

use crate::answer::{granted, not_released, not_renewed, refused, released, released_already};
use crate::subject::{Subject, minute, moment, new_owner};

pub(crate) async fn the_owner_can_delete(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.release(owner, &id).await, "the owner of a lease that lasts must be able to release it");
    granted(store.ask(&id).await, "a released id must be free at once");
}

pub(crate) async fn a_stranger_cannot_delete(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    not_released(store.release(new_owner(), &id).await, "only the owner may release a lock");
    let row = store.row(&id).await;
    assert_eq!(row.state(), LockState::Held, "a stranger's delete must leave the lock held");
    assert_eq!(row.expires_at, lease.expires_at, "a stranger's delete must not move the end of the lease");
    refused(store.ask(&id).await, "a stranger's delete must not free the id");
    released(store.release(owner, &id).await, "after a stranger's delete the lock must still be its owner's");
}

pub(crate) async fn a_stale_holder_cannot_delete_its_successor(store: &Subject) {
    let id = store.id("job");
    let (stale, _) = store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let (successor, _) = store.grant(&id, minute()).await;
    not_released(store.release(stale, &id).await, "a holder whose lease has ended must not release its successor");
    refused(store.ask(&id).await, "the delete of a stale holder must not free its successor's lock");
    released(store.release(successor, &id).await, "the successor must be able to release its own lock");
}

pub(crate) async fn a_second_delete_answers_already(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    let before = store.row(&id).await;
    for _ in 0..2 {
        released_already(
            store.release(owner, &id).await,
            "a delete that is repeated must say that it was done already",
        );
    }
    assert_eq!(store.row(&id).await.released_at, before.released_at, "a repeated delete must change nothing");

    let (successor, lease) = store.grant(&id, minute()).await;
    released_already(store.release(owner, &id).await, "a repeated delete must say so also when another holds the lock");
    assert_eq!(store.row(&id).await.expires_at, lease.expires_at, "a repeated delete must spare the successor");
    released(store.release(successor, &id).await, "the successor must still own its lock");
}

pub(crate) async fn a_stranger_is_never_answered_already(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    not_released(store.release(new_owner(), &id).await, "a stranger has released nothing while another holds the lock");
    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    not_released(store.release(new_owner(), &id).await, "a stranger has released nothing before either");
}

pub(crate) async fn a_release_leaves_nothing_in_the_future(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    let row = store.row(&id).await;
    assert_eq!(row.expires_at, StoreTime::ZERO, "a release without a rest must leave no time at which the lock ends");
    assert!(row.released_at.is_some_and(|at| at <= row.now), "a release must record when it was: {row:?}");

    store.grant(&id, minute()).await;
    released(store.force(&id).await, "force must release a lock regardless of its holder");
    assert_eq!(
        store.row(&id).await.expires_at,
        StoreTime::ZERO,
        "a forced release must leave no time at which the lock ends"
    );
}

pub(crate) async fn deleting_an_absent_id_answers_not_held(store: &Subject) {
    let id = store.id("job");
    not_released(store.release(new_owner(), &id).await, "an id without a row has no owner, so a delete must say so");
    assert!(!store.has_row(&id).await, "a delete that released nothing must not make a row");
}

pub(crate) async fn deleting_an_ended_lease_answers_not_held(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let before = store.row(&id).await;
    not_released(store.release(owner, &id).await, "a lease that has ended is lost, so releasing it must say so");
    let after = store.row(&id).await;
    assert_eq!(after.state(), LockState::Expired, "a late delete must leave the row as it was: expired, not released");
    assert_eq!(after.expires_at, before.expires_at, "a late delete must not move the end of the lease");
}

pub(crate) async fn force_releases_any_holder(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, minute()).await;
    released(store.force(&id).await, "force must release a lock regardless of its holder");
    granted(store.ask(&id).await, "an id released by force must be free at once");
}

pub(crate) async fn forcing_a_free_id_releases_nothing(store: &Subject) {
    let (absent, given_back, ended) = (store.id("absent"), store.id("released"), store.id("ended"));
    not_released(store.force_fence(&absent, Fence::new(1)).await, "an absent id has nothing to be released by force");
    assert!(!store.has_row(&absent).await, "a forced delete that released nothing must not make a row");

    let (owner, _) = store.grant(&given_back, minute()).await;
    released(store.release(owner, &given_back).await, "the owner must be able to release its lock");
    released_already(
        store.force(&given_back).await,
        "an acquisition that was released has nothing to be released by force",
    );

    store.grant(&ended, moment()).await;
    store.until_free(&ended).await;
    not_released(store.force(&ended).await, "a lease that has ended has nothing to be released by force");
    assert_eq!(
        store.row(&ended).await.state(),
        LockState::Expired,
        "a forced delete of an ended lease must change nothing"
    );
}

pub(crate) async fn a_forced_delete_spares_the_successor(store: &Subject) {
    let id = store.id("job");
    let (_, seen) = store.grant(&id, minute()).await;
    released(store.force_fence(&id, seen.fence).await, "force must end the acquisition that it names");
    let (successor, lease) = store.grant(&id, minute()).await;
    let repeated = store.force_fence(&id, seen.fence).await;
    not_released(repeated, "a forced delete that is repeated must spare the acquisition after the one that it names");
    assert_eq!(store.row(&id).await.expires_at, lease.expires_at, "a repeated forced delete must change nothing");
    released(store.release(successor, &id).await, "the successor must still own its lock");
}

pub(crate) async fn the_forced_out_holder_has_lost(store: &Subject) {
    let id = store.id("job");
    let (forced_out, _) = store.grant(&id, minute()).await;
    released(store.force(&id).await, "force must release a lock regardless of its holder");
    not_renewed(store.prolong(forced_out, &id, minute()).await, "a holder that was forced out must not renew");
    released_already(store.release(forced_out, &id).await, "a holder that was forced out has nothing to release");

    let (successor, _) = store.grant(&id, minute()).await;
    released_already(
        store.release(forced_out, &id).await,
        "a holder that was forced out must not release its successor",
    );
    released(store.release(successor, &id).await, "the successor must be able to release its own lock");
}
