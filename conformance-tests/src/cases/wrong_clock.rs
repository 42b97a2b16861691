//! Rows that were written while the store's clock was ahead, and the longest TTL, by which they are recognised.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db_mutex_core::store::{ListFilter, StoreTime, Ttl};
use tokio::task::JoinHandle;

use crate::answer::{granted, refused, released, renewed};
use crate::subject::{ROUNDING, Subject, insert_request, minute, moment, new_owner, seconds, span};

const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) async fn a_row_records_its_longest_ttl(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    assert_eq!(store.row(&id).await.ttl, Some(MINUTE), "a grant must record its TTL");
    renewed(store.prolong(owner, &id, seconds(600)).await, "the owner of a lease that lasts must renew it");
    assert_eq!(store.row(&id).await.ttl, Some(MINUTE * 10), "a renewal for longer must record the longer TTL");
    granted(store.ask_as(owner, &id, seconds(1_200)).await, "an owner that asks again must get its lease back");
    assert_eq!(store.row(&id).await.ttl, Some(MINUTE * 20), "a repeat for longer must record the longer TTL");
    renewed(store.prolong(owner, &id, Ttl::NEVER).await, "a lease must be renewable forever");
    assert_eq!(store.row(&id).await.ttl, None, "never is the longest TTL");

    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    store.grant(&id, moment()).await;
    assert_eq!(store.row(&id).await.ttl, Some(Duration::from_millis(150)), "a new acquisition must record its own TTL");
}

pub(crate) async fn a_shorter_renewal_keeps_the_longest_ttl(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    renewed(store.prolong(owner, &id, moment()).await, "the owner of a lease that lasts must renew it");
    assert_eq!(store.row(&id).await.ttl, Some(MINUTE), "a renewal for less must keep the longest TTL");
    granted(store.ask_as(owner, &id, moment()).await, "an owner that asks again must get its lease back");
    assert_eq!(store.row(&id).await.ttl, Some(MINUTE), "a repeat for less must keep the longest TTL");
}

pub(crate) async fn a_rest_records_its_length(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, seconds(600)).await;
    store.release_to_rest(owner, &id, Duration::from_secs(60)).await;
    let row = store.row(&id).await;
    let left = row.ttl.unwrap_or(Duration::MAX);
    assert!(left <= Duration::from_secs(60) && !left.is_zero(), "a rest must record its own length: {left:?}");
    let ends = span(row.released_at.unwrap_or(StoreTime::ZERO), row.expires_at);
    assert!(left.abs_diff(ends) <= ROUNDING, "a rest must record its own length, {ends:?}, not {left:?}");
}

pub(crate) async fn a_row_from_the_future_shows_no_more_than_its_ttl(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, minute()).await;
    store.shift_row(&id, YEARS).await;
    let limit = Duration::from_secs(60);
    let shown = store.row(&id).await.expires_in();
    assert!(shown <= Some(limit), "find must not show more time left than the longest TTL: {shown:?}");
    let listed = store.rows(ListFilter::taken()).await[0].expires_in();
    assert!(listed <= Some(limit), "list must not show more time left than the longest TTL: {listed:?}");
    let told = refused(store.ask(&id).await, "a row from the future is held").expires_in;
    assert!(told <= Some(limit), "a refusal must not tell more time left than the longest TTL: {told:?}");
}

pub(crate) async fn a_row_from_the_future_ends_within_its_ttl(store: &Subject) {
    let id = store.id("job");
    let (crashed, lease) = store.grant(&id, seconds(1)).await;
    store.shift_row(&id, YEARS).await;
    let holder = refused(store.ask(&id).await, "a row from the future is held until its TTL is over");
    assert_eq!(holder.fence, lease.fence, "a refusal must report the holder's fencing token");
    let row = store.row(&id).await;
    let left = span(row.now, row.expires_at);
    assert!(left <= Duration::from_secs(1), "the first refusal must let the row end within its TTL; it has {left:?}");
    store.until_free(&id).await;
    let (_, successor) = store.grant(&id, minute()).await;
    assert!(successor.fence > lease.fence, "a takeover must raise the fencing token");
    crate::answer::not_released(store.release(crashed, &id).await, "a holder whose lease has ended has lost the lock");
}

/// The holder is at work, and renews, while others find its row in the future: it must keep what it was told.
pub(crate) async fn a_row_from_the_future_keeps_what_its_owner_was_told(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    let over = Arc::new(AtomicBool::new(false));
    let others: Vec<JoinHandle<()>> = (0..4)
        .map(|_| {
            let (handle, id, over) = (store.first_handle(), id.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let answer = handle.insert_if_absent(&insert_request(new_owner(), &id, minute())).await;
                    refused(crate::answer::answered(answer, "insert_if_absent"), "a held id must be refused");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for _ in 0..30 {
        store.shift_row(&id, Duration::from_secs(3_600)).await;
        // Others meet it now, and may still be at work on it when it has been renewed.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let before = store.row(&id).await.now;
        let lease = renewed(store.prolong(owner, &id, minute()).await, "the owner of a lease that lasts must renew it");
        assert!(lease.expires_at >= before + MINUTE, "a renewal must last its TTL from the renewal on");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let stored = store.row(&id).await.expires_at;
        assert!(
            stored >= before + MINUTE,
            "a row from the future was ended before what its owner was told, by {} µs: the clock has to be read while the \
             row is locked",
            (before + MINUTE).since(stored).as_micros()
        );
    }
    over.store(true, Ordering::SeqCst);
    for other in others {
        if let Err(failure) = other.await {
            std::panic::resume_unwind(failure.into_panic());
        }
    }
    released(store.release(owner, &id).await, "the lock must still be its owner's");
}

pub(crate) async fn a_locked_row_from_the_future_is_refused(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, minute()).await;
    store.shift_row(&id, YEARS).await;
    let before = store.row(&id).await.expires_at;
    let locked = store.lock_row(&id).await;
    refused(store.ask(&id).await, "a held id must be refused, also if its row is from the future and locked");
    assert_eq!(store.row(&id).await.expires_at, before, "a locked row must be left as it is");
    drop(locked);
    // A database may take a moment to unlock the row. If none of the attempts ends the excess, the suite's time limit does.
    while store.row(&id).await.expires_at == before {
        refused(store.ask(&id).await, "a held id must be refused");
    }
}

pub(crate) async fn a_small_correction_of_the_clock_is_left_alone(store: &Subject) {
    let (short, long) = (store.id("short"), store.id("long"));
    store.grant(&short, minute()).await;
    store.grant(&long, seconds(3_600)).await;
    // Ten seconds, or a tenth of the TTL.
    for (id, by) in [(&short, 8), (&long, 340)] {
        store.shift_row(id, Duration::from_secs(by)).await;
        let before = store.row(id).await.expires_at;
        refused(store.ask(id).await, "a held id must be refused");
        let promise = "a row that is ahead by less than 10 s or a tenth of its TTL must be left as it is";
        assert_eq!(store.row(id).await.expires_at, before, "{promise}");
    }
}

pub(crate) async fn a_lease_without_an_end_is_never_excessive(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    renewed(store.prolong(owner, &id, Ttl::NEVER).await, "a lease must be renewable forever");
    refused(store.ask(&id).await, "a held id must be refused");
    assert_eq!(store.row(&id).await.expires_at, StoreTime::NEVER, "a lease without an end must keep none");
}

pub(crate) async fn a_release_in_the_future_leaves_no_rest(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.shift_row(&id, YEARS).await;
    let rest = Duration::from_millis(300);
    released(store.release_to_rest(owner, &id, rest).await, "the owner must be able to release its lock");
    let row = store.row(&id).await;
    let left = span(row.now, row.expires_at);
    assert!(left <= rest + ROUNDING, "a rest must not last longer than was asked for, {rest:?}; it has {left:?}");
    store.until_free(&id).await;

    let (owner, _) = store.grant(&id, minute()).await;
    store.shift_row(&id, YEARS).await;
    released(store.release(owner, &id).await, "the owner must be able to release its lock");
    granted(store.ask(&id).await, "a released id must be free, whatever the clock was when it was acquired");
}

pub(crate) async fn reading_changes_nothing(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, minute()).await;
    store.shift_row(&id, YEARS).await;
    let before = store.row(&id).await;
    for _ in 0..3 {
        store.rows(ListFilter::all()).await;
        let after = store.row(&id).await;
        assert_eq!(after.expires_at, before.expires_at, "a reader must not write, not even to a row in the future");
        assert_eq!(after.ttl, before.ttl, "a reader must not write");
        assert_eq!(after.fence, before.fence, "a reader must not write");
    }
}
