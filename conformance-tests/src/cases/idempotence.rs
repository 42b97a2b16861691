//! That a request can be repeated when its answer was lost, and given up when its caller is gone.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use db_mutex_core::store::{Inserted, LockId, LockState, OwnerToken};

use crate::answer::{granted, refused, released};
use crate::subject::{ROUNDING, Subject, insert_request, minute, moment, new_owner, seconds, span};

/// How long an insert that was dropped may go on taking effect, before it counts as not the owner's to delete.
const TIME_LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn the_same_owner_gets_its_own_lease_back(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    let again = store.ask_as(owner, &id, minute()).await;
    let again = granted(again, "an owner that asks again must get its own lease back");
    assert_eq!(again.acquired_at, lease.acquired_at, "an owner that asks again has acquired the lock only once");
    refused(store.ask(&id).await, "a lock whose owner asked again must still be refused to others");
    released(store.release(owner, &id).await, "an owner that asked again must release its lock with one delete");
    granted(store.ask(&id).await, "one delete must free the id, however often its owner asked");
}

pub(crate) async fn a_repeat_keeps_the_fence(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    store.until_acquired(&id, Duration::from_millis(20)).await;
    let again = granted(store.ask_as(owner, &id, minute()).await, "an owner that asks again must get its lease back");
    assert_eq!(again.fence, lease.fence, "an owner that asks again must get the fencing token that it has already");
    assert_eq!(store.row(&id).await.fence, lease.fence, "an owner that asks again must not change the stored token");
}

pub(crate) async fn a_repeat_counts_the_ttl_anew(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    let again = store.ask_as(owner, &id, seconds(600)).await;
    let again = granted(again, "an owner that asks again must get its lease back");
    let lasts = span(lease.acquired_at, again.expires_at) + ROUNDING;
    assert!(lasts >= Duration::from_secs(600), "the TTL of a repeated insert must count from the repetition on");
    let row = store.row(&id).await;
    assert_eq!(row.expires_at, again.expires_at, "a repeated insert must store the end that it answers");
}

pub(crate) async fn a_repeat_never_shortens(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, seconds(600)).await;
    let again = granted(store.ask_as(owner, &id, minute()).await, "an owner that asks again must get its lease back");
    assert_eq!(again.expires_at, lease.expires_at, "a repeat for less than what is left must not shorten the lease");
    let stored = store.row(&id).await.expires_at;
    assert_eq!(stored, lease.expires_at, "a repeat for less than what is left must not shorten the stored lease");
}

pub(crate) async fn a_repeat_after_the_end_keeps_the_fence(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let promise = "insert_if_absent MUST give an owner its own lease back, also after its end, if no one else was granted the \
         lock (insert 5)";
    let again = granted(store.ask_as(owner, &id, minute()).await, promise);
    assert_eq!(again.fence, lease.fence, "{promise}: the fencing token must be the same");
    assert_eq!(again.acquired_at, lease.acquired_at, "{promise}: the time of the acquisition must be the same");
    let row = store.row(&id).await;
    assert_eq!((row.fence, row.acquired_at), (lease.fence, lease.acquired_at), "{promise}: so must those in the row");
    assert_eq!(row.state(), LockState::Held, "{promise}: it must be held again");
    refused(store.ask(&id).await, "a lock whose owner has its lease back must be refused to others");
    released(store.release(owner, &id).await, "a lock whose owner has its lease back must be released by its owner");
}

pub(crate) async fn a_dropped_insert_is_the_owners_to_delete(store: &Subject) {
    for polls in 0..4 {
        dropped_and_deleted(store, &store.id(&format!("polled {polls} times")), Drop::AfterPolls(polls)).await;
    }
    for micros in [50, 500, 2_000, 10_000] {
        let id = store.id(&format!("dropped after {micros} µs"));
        dropped_and_deleted(store, &id, Drop::After(Duration::from_micros(micros))).await;
    }
}

/// When the future of an insert is dropped, unless it has ended by then.
enum Drop {
    AfterPolls(u32),
    After(Duration),
}

async fn dropped_and_deleted(store: &Subject, id: &LockId, when: Drop) {
    let owner = new_owner();
    insert_and_drop(store, owner, id, when).await;

    if let Some(row) = store.find(id).await.expect("find must answer after an insert was dropped") {
        assert_eq!(row.state(), LockState::Held, "a dropped insert must be done or not done: the row must be held");
        let lasts = span(row.acquired_at, row.expires_at);
        let whole = lasts.abs_diff(Duration::from_secs(60)) <= ROUNDING && row.fence.get() > 0;
        assert!(whole, "a dropped insert must be done or not done, never in part: {row:?}");
    }

    // The store may do a dropped insert a little later; but then, too, it is the owner's to delete.
    let started = Instant::now();
    loop {
        store.release(owner, id).await;
        match store.ask(id).await {
            Inserted::Granted(_) => return,
            other => assert!(
                started.elapsed() < TIME_LIMIT,
                "a dropped insert must be the owner's to delete; it left {id:?} taken: {other:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn insert_and_drop(store: &Subject, owner: OwnerToken, id: &LockId, when: Drop) {
    let request = insert_request(owner, id, minute());
    match when {
        Drop::After(time) => drop(tokio::time::timeout(time, store.insert_if_absent(&request)).await),
        Drop::AfterPolls(limit) => {
            let mut insert = pin!(store.insert_if_absent(&request));
            let mut polls = 0;
            poll_fn(|context| {
                if polls == limit || insert.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
                polls += 1;
                Poll::Pending
            })
            .await;
        }
    }
}
