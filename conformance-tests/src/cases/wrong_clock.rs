//! Rows that were written while the store's clock was ahead, and the longest TTL, by which they are recognised.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db_mutex_core::store::{Fence, ListFilter, LockId, StoreTime, Ttl};
use tokio::task::JoinHandle;

use crate::answer::{all_answered, granted, refused, released, renewed};
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
    let reported = refused(store.ask(&id).await, "a row from the future is held").expires_in;
    assert!(reported <= Some(limit), "a refusal must not report more time left than the longest TTL: {reported:?}");
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

/// The holder is at work, and renews, while others find its row in the future: it must keep what it was granted.
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
            "a row from the future was ended before the end that its owner knew, by {} µs: the clock has to be read while the \
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
    granted(store.ask(&id).await, "a released id must be free, even if the clock was wrong when it was acquired");
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

/// Fencing tokens that lie ahead of the clock: by ten years, and beyond what a double holds.
async fn fences_from_the_future(store: &Subject) -> [Fence; 2] {
    let id = store.id("clock");
    store.grant(&id, minute()).await;
    let ahead = store.row(&id).await.now + YEARS;
    [Fence::new(ahead.as_micros()), Fence::new((1 << 62) + 1)]
}

pub(crate) async fn a_fence_from_the_future_is_the_same_everywhere(store: &Subject) {
    for planted in fences_from_the_future(store).await {
        let id = store.id(&format!("fence {planted}"));
        let (owner, _) = store.grant(&id, minute()).await;
        store.plant_fence(&id, planted).await;
        let same = |by: &str, fence: Fence| {
            assert_eq!(fence, planted, "{by} MUST report the fencing token that the row has, however large it is (F2)");
        };
        same("find", store.row(&id).await.fence);
        let rows = store.rows(ListFilter::taken()).await;
        let listed =
            rows.into_iter().find(|row| row.lock_id == id).expect("list MUST return a row that is taken (list 1)");
        same("list", listed.fence);
        same("a refusal", refused(store.ask(&id).await, "a held id MUST be refused (insert 2)").fence);
        let promise = "the owner MUST be able to renew a lease that lasts (renew 1)";
        same("a renewal", renewed(store.prolong(owner, &id, minute()).await, promise).fence);
        let promise = "the owner that asks again MUST get its own lease back (insert 5)";
        same("a repeated insert", granted(store.ask_as(owner, &id, minute()).await, promise).fence);
        let promise = "delete by force MUST end the acquisition with that fencing token (delete 4)";
        released(store.force_fence(&id, planted).await, promise);
    }
}

/// What stands between an acquisition and the next.
const ENDS: [&str; 3] = ["a release", "an expiry", "a release by force"];

/// An id whose last acquisition has ended so, and had that fencing token.
async fn ended(store: &Subject, id: &LockId, end: &str, planted: Fence) {
    let (owner, _) = store.grant(id, if end == "an expiry" { moment() } else { minute() }).await;
    store.plant_fence(id, planted).await;
    match end {
        "a release" => {
            released(store.release(owner, id).await, "the owner MUST be able to release its lock (delete 1)")
        }
        "an expiry" => store.until_free(id).await,
        _ => released(store.force_fence(id, planted).await, "force MUST end the acquisition (delete 4)"),
    }
}

pub(crate) async fn a_fence_from_the_future_is_exceeded(store: &Subject) {
    for planted in fences_from_the_future(store).await {
        for by in ["insert_if_absent", "insert_many"] {
            let ids = ENDS.map(|end| store.id(&format!("{planted} {by} {end}")));
            for (id, end) in ids.iter().zip(ENDS) {
                ended(store, id, end, planted).await;
            }
            // Twice: the next one has to be above what this one has been given.
            let mut last = [planted; ENDS.len()];
            for _ in 0..2 {
                let owner = new_owner();
                let requests = ids.each_ref().map(|id| insert_request(owner, id, minute()));
                let mut answers = Vec::new();
                if by == "insert_many" {
                    answers = all_answered(store.insert_many(&requests).await, by);
                } else {
                    for id in &ids {
                        answers.push(store.ask_as(owner, id, minute()).await);
                    }
                }
                for (at, answer) in answers.into_iter().enumerate() {
                    let fence = granted(answer, "a free id MUST be granted (insert 1)").fence;
                    assert!(
                        fence > last[at],
                        "{by} MUST give a fencing token above every earlier one of the id, also if that lies in the future \
                         of the clock, after {} (F1): {fence} follows {}",
                        ENDS[at],
                        last[at]
                    );
                    last[at] = fence;
                    let promise = "the owner MUST be able to release its lock (delete 1)";
                    released(store.release(owner, &ids[at]).await, promise);
                }
            }
        }
    }
}

pub(crate) async fn a_purge_spares_a_fence_from_the_future(store: &Subject) {
    for planted in fences_from_the_future(store).await {
        let ids = ENDS.map(|end| store.id(&format!("{planted} {end}")));
        for (id, end) in ids.iter().zip(ENDS) {
            ended(store, id, end, planted).await;
        }
        // The one that asked the clock is held.
        for id in &ids {
            store.until_acquired(id, Duration::from_millis(20)).await;
        }
        let removed = store.purge(Duration::ZERO).await;
        let promise = "purge_expired MUST spare a row whose fencing token lies in the future of the clock (purge 3)";
        assert_eq!(removed, 0, "{promise}: it must return 0 here");
        for (id, end) in ids.iter().zip(ENDS) {
            assert!(store.has_row(id).await, "{promise}, also after {end}: {id:?} must still have one");
            let (_, next) = store.grant(id, minute()).await;
            let promise = "after a purge the next fencing token MUST be above every earlier one (F1)";
            assert!(next.fence > planted, "{promise}: {} follows {planted}", next.fence);
        }
    }
}
