use std::time::Duration;

use db_mutex_core::store::{ListFilter, LockStore, StoreError};

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
        Fault::PurgeRemovesNothing => 0,
        _ => store.inner.purge_expired(older_than).await?,
    };
    for row in before {
        if store.row(&row.lock_id).await?.is_none() {
            store.restart_fence_if(Fault::FenceRestartsAfterPurge, &row.lock_id, row.fence);
        }
    }
    Ok(if store.fault == Fault::PurgeMiscounts { removed.min(1) } else { removed })
}
