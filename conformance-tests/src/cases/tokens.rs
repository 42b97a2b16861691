//! An owner token goes one way: what arrives after its release grants nothing.

use crate::answer::{granted, not_renewed, refused, released, spent};
use crate::subject::{Subject, minute, moment};

pub(crate) async fn an_insert_after_the_release_is_spent(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    let before = store.row(&id).await;
    for _ in 0..2 {
        spent(
            store.ask_as(owner, &id, minute()).await,
            "an insert that arrives after the release of its token is spent",
        );
    }
    let after = store.row(&id).await;
    assert!(!after.owned && after.fence == before.fence, "an insert that is spent must change nothing: {after:?}");
    granted(store.ask(&id).await, "an insert that is spent must leave the id free");
}

pub(crate) async fn a_spent_token_is_refused_under_a_successor(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    let (successor, lease) = store.grant(&id, minute()).await;
    spent(store.ask_as(owner, &id, minute()).await, "a spent token must be refused, also when another holds the lock");
    not_renewed(store.prolong(owner, &id, minute()).await, "a spent token must not renew its successor's lease");
    assert_eq!(store.row(&id).await.expires_at, lease.expires_at, "a spent token must leave the successor alone");
    released(store.release(successor, &id).await, "the successor must still own its lock");
}

pub(crate) async fn a_spent_token_is_refused_when_the_successor_is_gone(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let promise = "a spent token must stay spent when the lease of its successor has ended without a release";
    spent(store.ask_as(owner, &id, minute()).await, promise);
    granted(store.ask(&id).await, "an insert that is spent must leave the id free");
}

pub(crate) async fn a_forced_out_token_is_spent(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    released(store.force(&id).await, "force must release a lock regardless of its holder");
    spent(store.ask_as(owner, &id, minute()).await, "a token that was forced out is spent");
    let (_, _) = store.grant(&id, minute()).await;
    refused(store.ask(&id).await, "the successor's lock must be held");
}
