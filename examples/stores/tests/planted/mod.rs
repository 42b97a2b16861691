//! What a wrong clock would do to a row of any store on the kit.

use std::time::Duration;

use db_mutex_core::store::cas::{CompareAndSwap, Stored, Swapped};
use db_mutex_core::store::rules::Row;
use db_mutex_core::{Fence, LockId};

/// Moves the times of a row, as if the clock had been ahead when it was written.
pub async fn shift(store: &impl CompareAndSwap, id: &LockId, by: Duration) {
    change(store, id, |row| {
        row.acquired_at = row.acquired_at + by;
        row.expires_at = row.expires_at + by;
    })
    .await;
}

/// Gives a row another fencing token.
pub async fn plant(store: &impl CompareAndSwap, id: &LockId, fence: Fence) {
    change(store, id, |row| row.fence = fence).await;
}

async fn change(store: &impl CompareAndSwap, id: &LockId, change: impl Fn(&mut Row)) {
    loop {
        let entry = store.load(id).await.expect("the value can be read").entry.expect("it was acquired");
        let mut stored = Stored::from_bytes(&entry.value).expect("the kit has written it");
        change(&mut stored.row);
        let value = stored.to_bytes().expect("there are random numbers");
        if store.swap(id, Some(&entry.version), &value).await.expect("the value can be written") == Swapped::Done {
            return;
        }
    }
}
