//! The suite against the reference store.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use db_mutex_core::store::{Fence, LockId, MemoryStore};

static DATABASES: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);

fn open(namespace: String) -> MemoryStore {
    DATABASES.lock().expect("no test panics here").entry(namespace).or_default().clone()
}

fn shift(store: &MemoryStore, lock_id: &LockId, by: Duration) {
    store.change_row(lock_id, |row| {
        row.acquired_at = row.acquired_at + by;
        row.expires_at = row.expires_at + by;
    });
}

db_mutex_conformance::suite!(
    |namespace| async move { open(namespace) },
    lock_row = |namespace, lock_id: LockId| async move { open(namespace).lock_row(&lock_id) },
    shift_row = |namespace, lock_id: LockId, by| async move { shift(&open(namespace), &lock_id, by) },
    plant_fence = |namespace, lock_id: LockId, fence: Fence| async move {
        open(namespace).change_row(&lock_id, |row| row.fence = fence);
    },
    ignore = { processes: "a database in memory is a process's own" }
);
