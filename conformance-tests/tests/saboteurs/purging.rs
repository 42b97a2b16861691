use std::time::Duration;

use db_mutex_core::store::{Fence, ListFilter, LockStore, StoreError, StoreTime};

use crate::fault::Fault;
use crate::saboteur::Saboteur;

pub(crate) async fn purge(store: &Saboteur, older_than: Duration) -> Result<u64, StoreError> {
    let before = store.inner.list(&ListFilter::all()).await?;
    let removed = match store.fault {
        Fault::PurgeRemovesTheLiving => {
            for row in &before {
                store.end(&row.lock_id);
            }
            store.inner.purge_expired(older_than).await?
        }
        Fault::PurgeIgnoresOlderThan => store.inner.purge_expired(Duration::ZERO).await?,
        Fault::PurgeForgetsTheRelease => {
            for row in &before {
                store.inner.change_row(&row.lock_id, |row| row.released_at = None);
            }
            store.inner.purge_expired(older_than).await?
        }
        Fault::PurgeCountsFromTheAcquisition => {
            for row in before.iter().filter(|row| row.owned && !row.is_taken()) {
                store.inner.change_row(&row.lock_id, |row| row.expires_at = row.acquired_at);
            }
            store.inner.purge_expired(older_than).await?
        }
        Fault::PurgeForgetsTheFence => {
            for row in &before {
                store.inner.change_row(&row.lock_id, |row| row.fence = Fence::new(1));
            }
            store.inner.purge_expired(older_than).await?
        }
        Fault::PurgeRemovesNothing => 0,
        Fault::PurgeIsAThousandTimesTooYoung => store.inner.purge_expired(older_than / 1_000).await?,
        Fault::PurgeIsAThousandTimesTooOld => store.inner.purge_expired(older_than * 1_000).await?,
        Fault::PurgeReadsThenRemoves => {
            // Long enough for an acquisition in between, also on a busy machine.
            tokio::time::sleep(Duration::from_millis(5)).await;
            for row in before.iter().filter(|row| !row.is_taken()) {
                store.end(&row.lock_id);
            }
            store.inner.purge_expired(older_than).await?
        }
        Fault::PurgeReadsAllThenRemoves => {
            // Each at once; so what is purged alone is hardly ever acquired in between.
            for row in before.iter().filter(|row| !row.is_taken()) {
                store.end(&row.lock_id);
                tokio::task::yield_now().await;
            }
            store.inner.purge_expired(older_than).await?
        }
        Fault::PurgeEndsAfterAThousand => {
            for row in before.iter().skip(1_000) {
                store.inner.change_row(&row.lock_id, |row| row.released_at = Some(StoreTime::NEVER));
            }
            store.inner.purge_expired(older_than).await?
        }
        _ => store.inner.purge_expired(older_than).await?,
    };
    for row in before {
        if store.row(&row.lock_id).await?.is_none() {
            store.restart_fence_if(Fault::FenceRestartsAfterPurge, &row.lock_id, row.fence);
        }
    }
    Ok(if store.fault == Fault::PurgeMiscounts { removed.min(1) } else { removed })
}
