//! What housekeeping removes, and what it has to spare.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use db_mutex_core::store::{
    DeleteRequest, Fence, ListFilter, LockId, LockState, LockStore, OwnerToken, StoreErrorKind, StoreTime, Ttl,
};

use crate::answer::{all_answered, answered, granted, refused, released};
use crate::subject::{Subject, insert_request, minute, moment, new_owner, span};

pub(crate) async fn a_purge_spares_the_living(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.until_acquired(&id, Duration::from_millis(20)).await;
    assert_eq!(store.purge(Duration::ZERO).await, 0, "a purge must not remove, nor count, a lock that is held");
    refused(store.ask(&id).await, "a lock that is held must stay held through a purge");
    released(store.release(owner, &id).await, "after a purge a lock must still be its owner's");
}

pub(crate) async fn a_purge_spares_the_resting(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    store.release_to_rest(owner, &id, Duration::from_secs(60)).await;
    store.until_acquired(&id, Duration::from_millis(20)).await;
    assert_eq!(store.purge(Duration::ZERO).await, 0, "a purge must not remove, nor count, an id that rests");
    refused(store.ask(&id).await, "a resting id must go on resting through a purge");
}

pub(crate) async fn a_purge_spares_what_never_expires(store: &Subject) {
    let id = store.id("job");
    store.grant(&id, Ttl::NEVER).await;
    store.until_acquired(&id, Duration::from_millis(20)).await;
    assert_eq!(store.purge(Duration::ZERO).await, 0, "a purge must not remove, nor count, a lease that never expires");
    refused(store.ask(&id).await, "a lease that never expires must stay through a purge");
}

pub(crate) async fn a_purge_spares_the_recent(store: &Subject) {
    let (given_back, ended) = (store.id("released"), store.id("ended"));
    let (owner, _) = store.grant(&given_back, minute()).await;
    store.release(owner, &given_back).await;
    store.grant(&ended, moment()).await;
    store.until_purgeable(&given_back).await;
    store.until_purgeable(&ended).await;

    for older_than in [Duration::from_secs(3_600), Duration::MAX] {
        let removed = store.purge(older_than).await;
        assert_eq!(removed, 0, "a purge must spare what became free later than {older_than:?} ago");
    }
    assert_eq!(store.row(&given_back).await.state(), LockState::Free, "a purge must leave what it spares as it was");
    assert_eq!(store.row(&ended).await.state(), LockState::Expired, "a purge must leave what it spares as it was");
}

pub(crate) async fn a_purge_spares_the_recently_released(store: &Subject) {
    // What was released has no end in the future or the past: it became free when it was released. It is held for a while
    // first, so that its fencing token alone would not spare it.
    let (id, older_than) = (store.id("job"), Duration::from_secs(1));
    let (owner, _) = store.grant(&id, minute()).await;
    store.until_acquired(&id, older_than + Duration::from_millis(100)).await;
    let before = Instant::now();
    store.release(owner, &id).await;
    let removed = store.purge(older_than).await;
    let spared = removed == 0 && store.has_row(&id).await;
    assert!(spared || before.elapsed() >= older_than, "a purge must spare a lock released later than `older_than` ago");
}

pub(crate) async fn a_purge_spares_the_recently_ended(store: &Subject) {
    // It is written when it is acquired, and becomes free when it ends.
    let (id, lease, older_than) = (store.id("job"), Duration::from_millis(1_200), Duration::from_secs(1));
    let begun = Instant::now();
    store.grant(&id, Ttl::new(lease).expect("the suite uses valid TTLs")).await;
    store.until_free(&id).await;
    let removed = store.purge(older_than).await;
    let spared = removed == 0 && store.has_row(&id).await;
    assert!(
        spared || begun.elapsed() >= lease + older_than,
        "purge_expired MUST spare a lock whose lease has ended later than `older_than` ago, however long it was held (purge 2)"
    );
}

pub(crate) async fn a_purge_removes_what_is_over(store: &Subject) {
    let (given_back, ended) = (store.id("released"), store.id("ended"));
    let (owner, _) = store.grant(&given_back, minute()).await;
    store.release(owner, &given_back).await;
    store.grant(&ended, moment()).await;
    store.until_purgeable(&given_back).await;
    store.until_purgeable(&ended).await;

    store.purge(Duration::ZERO).await;
    assert!(!store.has_row(&given_back).await, "a purge must remove the row of a lock that was released");
    assert!(!store.has_row(&ended).await, "a purge must remove the row of a lease that has ended");
}

pub(crate) async fn a_purge_counts_what_it_removed(store: &Subject) {
    store.grant(&store.id("held"), minute()).await;
    for number in 1..=3 {
        let id = store.id(&format!("released {number}"));
        let (owner, _) = store.grant(&id, minute()).await;
        store.release(owner, &id).await;
        store.until_purgeable(&id).await;
    }
    assert_eq!(store.purge(Duration::ZERO).await, 3, "a purge must answer how many rows it removed");
    assert_eq!(store.purge(Duration::ZERO).await, 0, "a purge that finds nothing must answer 0");
}

/// A unit that is wrong by a factor of 1,000 shows on one of the two sides.
pub(crate) async fn a_purge_goes_by_the_age(store: &Subject) {
    let (given_back, ended) = (store.id("released"), store.id("ended"));
    let started = Instant::now();
    store.grant(&ended, moment()).await;
    let (owner, _) = store.grant(&given_back, minute()).await;
    store.release(owner, &given_back).await;
    store.until_free(&ended).await;
    let age = Duration::from_millis(1_050);
    for id in [&given_back, &ended] {
        loop {
            let row = store.row(id).await;
            let free_since = row.expires_at.max(row.released_at.unwrap_or(StoreTime::ZERO));
            if span(free_since, row.now) >= age {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let older_than = Duration::from_secs(30);
    let removed = store.purge(older_than).await;
    let promise = "purge_expired MUST spare what became free later than `older_than` ago (purge 2)";
    assert!(removed == 0 || started.elapsed() > older_than, "{promise}: {older_than:?}, and it was 1 to 3 seconds ago");
    let older_than = Duration::from_secs(1);
    let removed = store.purge(older_than).await;
    let promise = "purge_expired MUST remove and count what became free at least `older_than` ago (purge 2)";
    assert_eq!(removed, 2, "{promise}: {older_than:?}, and it was {age:?} ago");
    assert!(!store.has_row(&given_back).await && !store.has_row(&ended).await, "{promise}");
}

pub(crate) async fn a_purge_spares_what_is_acquired_meanwhile(store: &Subject) {
    const TASKS: usize = 4;
    let (over, purges) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (handle, ended, counted) = (store.second_handle().await, Arc::clone(&over), Arc::clone(&purges));
    let purging = tokio::spawn(async move {
        while !ended.load(Ordering::SeqCst) {
            answered(handle.purge_expired(Duration::ZERO).await, "purge_expired");
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let mut tasks = Vec::new();
    for number in 0..TASKS {
        let (handle, id, purges) = (store.first_handle(), store.id(&format!("job {number}")), Arc::clone(&purges));
        tasks.push(tokio::spawn(async move { acquire_and_release(&*handle, &id, &purges).await }));
    }
    let mut failure = None;
    for task in tasks {
        failure = failure.or(task.await.err());
    }
    over.store(true, Ordering::SeqCst);
    failure = failure.or(purging.await.err());
    if let Some(failure) = failure {
        std::panic::resume_unwind(failure.into_panic());
    }
}

/// Each grant meets a row that was released and may be purged, or none. The lock is held until a purge has ended that may
/// have read the row before.
async fn acquire_and_release(store: &dyn LockStore, id: &LockId, purges: &AtomicU64) {
    let mut last = Fence::new(0);
    for round in 0..15 {
        // Free for a while, so that a purge reads it so.
        tokio::time::sleep(Duration::from_millis(round % 3)).await;
        let owner = new_owner();
        let answer = answered(store.insert_if_absent(&insert_request(owner, id, minute())).await, "insert_if_absent");
        let lease = granted(answer, "an id that is free, or was just purged, must be granted");
        assert!(lease.fence > last, "a fencing token MUST rise across a purge (F1): {} follows {last}", lease.fence);
        last = lease.fence;
        let (seen, started) = (purges.load(Ordering::SeqCst), Instant::now());
        while purges.load(Ordering::SeqCst) == seen && started.elapsed() < Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let answer = answered(store.delete(&DeleteRequest::by_owner(id.clone(), owner)).await, "delete");
        released(answer, "purge_expired MUST spare what is taken, also what was acquired while it ran (purge 1)");
    }
}

/// A purge that finds much reads long before it removes what it has read.
pub(crate) async fn a_long_purge_spares_what_is_acquired_meanwhile(store: &Subject) {
    const IDS: usize = 100;
    let begun = Instant::now();
    let ids: Vec<_> = (0..IDS).map(|number| store.id(&format!("job {number:03}"))).collect();
    let purging = store.second_handle().await;
    for round in 0..3 {
        if round > 0 && begun.elapsed() > Duration::from_secs(5) {
            return; // A store that waits for the disk has shown enough: the slower it is, the longer is a purge.
        }
        acquire_for(store, &ids, moment()).await;
        for id in &ids {
            store.until_purgeable(id).await;
        }
        let handle = Arc::clone(&purging);
        let purge = tokio::spawn(async move {
            loop {
                match handle.purge_expired(Duration::ZERO).await {
                    // It stands back for the others.
                    Err(error) if error.kind() == StoreErrorKind::Busy => {
                        tokio::time::sleep(Duration::from_millis(2)).await
                    }
                    removed => return removed,
                }
            }
        });
        let owners = acquire_for(store, &ids, minute()).await;
        answered(
            purge.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic())),
            "purge_expired",
        );
        for (id, owner) in ids.iter().zip(owners) {
            let promise = "purge_expired MUST spare what is taken, also what was acquired while it ran (purge 1)";
            released(store.release(owner, id).await, promise);
        }
    }
}

/// Acquires each id in the name of a new owner, a quarter of them at a time one after the other.
async fn acquire_for(store: &Subject, ids: &[LockId], ttl: Ttl) -> Vec<OwnerToken> {
    let mut tasks = Vec::new();
    for quarter in ids.chunks(ids.len().div_ceil(4)) {
        let (handle, quarter) = (store.first_handle(), quarter.to_vec());
        tasks.push(tokio::spawn(async move {
            let mut owners = Vec::new();
            for id in quarter {
                let request = insert_request(new_owner(), &id, ttl);
                let answer = answered(handle.insert_if_absent(&request).await, "insert_if_absent");
                granted(answer, "insert_if_absent MUST grant an id that is free, or was just purged (insert 1)");
                owners.push(request.owner);
            }
            owners
        }));
    }
    let mut owners = Vec::new();
    for task in tasks {
        owners.extend(task.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic())));
    }
    owners
}

/// More than a page of anything, and more than some databases return at once.
pub(crate) async fn a_thousand_rows_are_listed_and_purged(store: &Subject) {
    const ROWS: usize = 1_100;
    let ids: Vec<_> = (0..ROWS).map(|number| store.id(&format!("job {number:04}"))).collect();
    let batch = store.limits().batch.min(500);
    // One after the other they would take a store without batches long.
    let mut tasks = Vec::new();
    for chunk in ids.chunks(batch.max(ROWS.div_ceil(8))) {
        let (handle, chunk) = (store.first_handle(), chunk.to_vec());
        tasks.push(tokio::spawn(async move { acquire_many(&*handle, &chunk, batch).await }));
    }
    for task in tasks {
        if let Err(failure) = task.await {
            std::panic::resume_unwind(failure.into_panic());
        }
    }
    let listed = store.listed(ListFilter::all()).await;
    assert_eq!(listed.len(), ROWS, "list MUST return every row (list 1), of which there are {ROWS}");
    let in_order = listed.iter().zip(&ids).all(|(listed, id)| listed == id.as_str());
    assert!(in_order, "list MUST return the rows in the order of their ids (list 1), also if there are {ROWS}");
    let started = Instant::now();
    while let Some(id) = store.rows(ListFilter::taken()).await.first().map(|row| row.lock_id.clone()) {
        assert!(started.elapsed() < Duration::from_secs(30), "{id:?} must become free when its lease ends");
        store.until_free(&id).await;
    }
    store.grant(&ids[0], minute()).await;
    let removed = store.purge(Duration::ZERO).await;
    assert_eq!(removed, ROWS as u64 - 1, "purge_expired MUST remove and count all that is free (purge 2)");
    let left = store.listed(ListFilter::all()).await;
    assert_eq!(left, [ids[0].as_str()], "purge_expired MUST spare what is taken (purge 1), and nothing else");
}

/// For a moment: a release of each would take as long again.
async fn acquire_many(store: &dyn LockStore, ids: &[LockId], batch: usize) {
    for ids in ids.chunks(batch) {
        let inserts: Vec<_> = ids.iter().map(|id| insert_request(new_owner(), id, moment())).collect();
        if batch > 1 {
            all_answered(store.insert_many(&inserts).await, "insert_many");
        } else {
            answered(store.insert_if_absent(&inserts[0]).await, "insert_if_absent");
        }
    }
}
