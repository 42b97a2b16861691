//! The rest after a fast job: the id stays taken, without an owner.

use std::time::Duration;

use db_mutex_core::store::LockState;

use crate::answer::{granted, not_renewed, refused, released, released_already, spent};
use crate::subject::{ROUNDING, Subject, minute, seconds, span};

const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn a_fast_job_leaves_its_id_resting(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.release_to_rest(owner, &id, LONG).await, "the owner must be able to release its lock into a rest");
    let row = store.row(&id).await;
    assert_eq!(row.state(), LockState::Resting, "an id released before its `hold_at_least` is over must rest");
}

pub(crate) async fn a_resting_id_is_refused(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.release_to_rest(owner, &id, LONG).await;
    let holder = refused(store.ask(&id).await, "a resting id is taken and must be refused");
    assert!(holder.resting, "a refusal must report that the holder has finished and the id only rests");
}

pub(crate) async fn a_rested_id_is_granted(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.release_to_rest(owner, &id, Duration::from_millis(300)).await;
    store.until_free(&id).await;
    assert_eq!(
        store.row(&id).await.state(),
        LockState::Free,
        "an id that has rested must read as free, not as expired"
    );
    granted(store.ask(&id).await, "an id that has rested is free and must be granted");
}

pub(crate) async fn a_slow_job_leaves_no_rest(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    let rest = Duration::from_millis(50);
    store.until_acquired(&id, rest).await;
    released(store.release_to_rest(owner, &id, rest).await, "the owner must be able to release its lock");
    granted(store.ask(&id).await, "a job that took longer than `hold_at_least` must leave its id free at once");
}

pub(crate) async fn a_rest_counts_from_the_acquisition(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    // Long enough that the two times differ by more than a rounding.
    store.until_acquired(&id, Duration::from_millis(200)).await;
    store.release_to_rest(owner, &id, LONG).await;
    let row = store.row(&id).await;
    let rest = span(row.acquired_at, row.expires_at);
    assert!(
        rest.abs_diff(LONG) <= ROUNDING,
        "a rest must end `hold_at_least` after the acquisition ({LONG:?}), not after the release; it ends {rest:?} after"
    );
}

pub(crate) async fn a_rest_may_be_longer_than_the_lease(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, seconds(5)).await;
    released(store.release_to_rest(owner, &id, LONG).await, "delete MUST release the lock of its owner (delete 1)");
    let row = store.row(&id).await;
    let rest = span(row.acquired_at, row.expires_at);
    assert!(
        rest.abs_diff(LONG) <= ROUNDING,
        "a rest MUST end `hold_at_least` ({LONG:?}) after the acquisition, also if the lease was shorter (delete 3); it ends \
         {rest:?} after"
    );
    let shown = row.expires_in().unwrap_or_default();
    assert!(
        shown > Duration::from_secs(5),
        "a rest of {LONG:?} must be shown with the time that is left, not {shown:?}"
    );
    let reported = refused(store.ask(&id).await, "a resting id must be refused").expires_in.unwrap_or_default();
    assert!(
        reported > Duration::from_secs(5),
        "a refusal must report the time that is left of a rest, not {reported:?}"
    );
}

pub(crate) async fn a_resting_id_has_no_owner(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.release_to_rest(owner, &id, LONG).await;
    assert!(!store.row(&id).await.owned, "a resting id must have no owner");
    not_renewed(store.prolong(owner, &id, minute()).await, "who has released a lock must not renew it while it rests");
    released_already(store.release(owner, &id).await, "a lock that rests has been released already");
    spent(store.ask_as(owner, &id, minute()).await, "a resting id must not be granted to the token that released it");
}

pub(crate) async fn force_ends_a_rest(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.release_to_rest(owner, &id, LONG).await;
    released(store.force(&id).await, "force must end a rest too");
    granted(store.ask(&id).await, "an id whose rest was ended by force must be free at once");
}
