//! That the fencing token rises from one acquisition to the next, however the first one ended. For tokens under contention see `races.rs`.

use std::time::Duration;

use db_mutex_core::store::{Fence, ListFilter, LockId};

use crate::answer::refused;
use crate::subject::{Subject, minute, moment};

pub(crate) async fn fence_is_positive(store: &Subject) {
    let (_, lease) = store.grant(&store.id("job"), minute()).await;
    assert!(lease.fence.get() > 0, "a fencing token must be positive; the first one is {}", lease.fence);
}

/// Acquires and releases the lock and checks that its token rose. Without a pause, so that two may fall into one tick.
async fn rising(store: &Subject, id: &LockId, last: &mut Fence, after: &str) {
    let (owner, lease) = store.grant(id, minute()).await;
    assert!(
        lease.fence > *last,
        "a fencing token must be greater than every earlier one of its id, also after {after}: {} follows {last}",
        lease.fence
    );
    *last = lease.fence;
    store.release(owner, id).await;
}

pub(crate) async fn fence_rises_across_release(store: &Subject) {
    let (id, mut last) = (store.id("job"), Fence::new(0));
    for _ in 0..20 {
        rising(store, &id, &mut last, "a release").await;
    }
}

pub(crate) async fn fence_rises_across_expiry(store: &Subject) {
    let id = store.id("job");
    let (_, first) = store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let mut last = first.fence;
    rising(store, &id, &mut last, "an expiry").await;
}

pub(crate) async fn fence_rises_across_forced_release(store: &Subject) {
    let id = store.id("job");
    let mut last = Fence::new(0);
    for _ in 0..5 {
        let (_, lease) = store.grant(&id, minute()).await;
        assert!(
            lease.fence > last,
            "a fencing token must rise across a release by force: {} follows {last}",
            lease.fence
        );
        last = lease.fence;
        store.force(&id).await;
    }
}

pub(crate) async fn fence_rises_across_purge(store: &Subject) {
    let (id, mut last) = (store.id("job"), Fence::new(0));
    for _ in 0..10 {
        // Two in a row may bring the token ahead of the clock; a purge at once must then leave the row.
        rising(store, &id, &mut last, "a purge").await;
        rising(store, &id, &mut last, "a release").await;
        store.purge(Duration::ZERO).await;
    }
    store.until_purgeable(&id).await;
    store.purge(Duration::ZERO).await;
    rising(store, &id, &mut last, "a purge that removed the row").await;
}

pub(crate) async fn fence_is_the_same_everywhere(store: &Subject) {
    let id = store.id("job");
    for _ in 0..3 {
        let (owner, lease) = store.grant(&id, minute()).await;
        let holder = refused(store.ask(&id).await, "a held id must be refused");
        assert_eq!(holder.fence, lease.fence, "a refusal must report the fencing token that the lease has");
        assert_eq!(store.row(&id).await.fence, lease.fence, "find must report the fencing token that the lease has");
        let listed: Vec<Fence> = store.rows(ListFilter::taken()).await.iter().map(|row| row.fence).collect();
        assert_eq!(listed, [lease.fence], "list must report the fencing token that the lease has");
        store.release(owner, &id).await;
    }
}
