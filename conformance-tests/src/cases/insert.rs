//! Who is granted a lock, who is refused, and what the refusal contains.

use std::time::{Duration, Instant};

use db_mutex_core::store::{HolderName, InsertRequest};

use crate::answer::{answered, granted, refused};
use crate::subject::{Subject, holder_text, insert_request, minute, new_owner, seconds};

pub(crate) async fn an_absent_id_is_granted(store: &Subject) {
    granted(store.ask(&store.id("job")).await, "an id that has no row is free and must be granted");
}

pub(crate) async fn a_released_id_is_granted_again(store: &Subject) {
    let id = store.id("job");
    for _ in 0..3 {
        let owner = new_owner();
        granted(store.ask_as(owner, &id, minute()).await, "an id that was released is free and must be granted again");
        store.release(owner, &id).await;
    }
}

pub(crate) async fn a_held_id_is_refused(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, minute()).await;
    for _ in 0..3 {
        refused(store.ask(&id).await, "an id that is held must be refused to every other owner");
    }
}

pub(crate) async fn a_refusal_changes_nothing(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    let before = store.row(&id).await;

    let request = InsertRequest::new(id.clone(), new_owner(), seconds(6_000), holder_text("a stranger"));
    refused(answered(store.insert_if_absent(&request).await, "insert_if_absent"), "a held id must be refused");

    let after = store.row(&id).await;
    assert_eq!(after.expires_at, before.expires_at, "a refusal must not move the end of the holder's lease");
    assert_eq!(after.acquired_at, before.acquired_at, "a refusal must not move the time of the acquisition");
    assert_eq!(after.fence, before.fence, "a refusal must not change the holder's fencing token");
    assert_eq!(after.holder, before.holder, "a refusal must not put another holder's text in the row");
    crate::answer::released(store.release(owner, &id).await, "after a refusal the lock must still be its holder's");
}

pub(crate) async fn ids_do_not_block_one_another(store: &Subject) {
    for text in ["job", "job:1", "jo", "job2", "other"] {
        granted(store.ask(&store.id(text)).await, "a lock must not keep another id from being granted");
    }
}

pub(crate) async fn a_refusal_names_the_holder(store: &Subject) {
    let id = store.id("job");
    let first = InsertRequest::new(id.clone(), new_owner(), minute(), holder_text("web-1 pid 4711: nightly report"));
    let lease =
        granted(answered(store.insert_if_absent(&first).await, "insert_if_absent"), "a free id must be granted");

    let second = InsertRequest::new(id, new_owner(), minute(), holder_text("web-2 pid 99"));
    let holder = refused(answered(store.insert_if_absent(&second).await, "insert_if_absent"), "a held id is refused");
    assert_eq!(holder.name, first.holder, "a refusal must name who holds the lock");
    assert_eq!(holder.fence, lease.fence, "a refusal must report the fencing token of the holder's acquisition");
    assert!(!holder.resting, "a holder that has not released the lock must not be called resting");
}

pub(crate) async fn a_refusal_tells_the_remaining_time(store: &Subject) {
    let id = store.id("job");
    let started = Instant::now();
    store.grant(&id, minute()).await;
    let holder = refused(store.ask(&id).await, "a held id must be refused");
    // A second of slack: the store's clock and this machine's may be set while the case runs.
    let passed = started.elapsed() + Duration::from_secs(1);

    let left = holder.expires_in.expect("a refusal must report how long the lease still lasts; it says: forever");
    assert!(left <= Duration::from_secs(60), "a lease of 60 s cannot last for {left:?} more");
    assert!(left + passed >= Duration::from_secs(60), "a lease of 60 s must last longer than {left:?} more");
    assert!(holder.held_for <= passed, "a lock acquired {passed:?} ago cannot be held for {:?}", holder.held_for);
}

pub(crate) async fn a_holder_text_is_kept_whole(store: &Subject) {
    let longest = "é".repeat(HolderName::MAX_CHARS);
    let texts = ["", " spaces around ", "it's; drop table locks; --", "%s {} $1 ? \\", "日本 😀", &longest];
    for (number, text) in texts.into_iter().enumerate() {
        let id = store.id(&format!("job {number}"));
        let mut request = insert_request(new_owner(), &id, minute());
        request.holder = holder_text(text);
        answered(store.insert_if_absent(&request).await, "insert_if_absent");
        let holder = refused(store.ask(&id).await, "a held id must be refused");
        assert_eq!(holder.name.as_str(), text, "the holder's text must be kept as it was given");
    }
}
