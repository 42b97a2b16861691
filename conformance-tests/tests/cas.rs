//! The suite against the kit for compare and swap, on a database in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(unreachable_pub, reason = "core's tests use it too")]
#[path = "../../core/tests/cas/memory.rs"]
mod memory;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use db_mutex_core::store::cas::CasStore;
use db_mutex_core::store::{Fence, LockId};

use memory::{MemoryCas, Versions};

static DATABASES: LazyLock<Mutex<HashMap<String, MemoryCas>>> = LazyLock::new(Mutex::default);

fn open(namespace: String, new: impl FnOnce() -> MemoryCas) -> MemoryCas {
    DATABASES.lock().unwrap().entry(namespace).or_insert_with(new).clone()
}

fn shift(cas: &MemoryCas, lock_id: &LockId, by: Duration) {
    cas.change_row(lock_id, |row| {
        row.acquired_at = row.acquired_at + by;
        row.expires_at = row.expires_at + by;
    });
}

mod with_counted_versions {
    use super::*;

    fn open(namespace: String) -> MemoryCas {
        super::open(namespace, MemoryCas::default)
    }

    db_mutex_conformance::suite!(
        |namespace| async move { CasStore::new(open(namespace)) },
        lock_row = |namespace, lock_id: LockId| async move { open(namespace).lock_row(&lock_id) },
        shift_row = |namespace, lock_id: LockId, by| async move { shift(&open(namespace), &lock_id, by) },
        plant_fence = |namespace, lock_id: LockId, fence: Fence| async move {
            open(namespace).change_row(&lock_id, |row| row.fence = fence);
        },
        ignore = { processes: "a database in memory is a process's own" }
    );
}

/// The version is the value itself, and every third swap loses its reply. Scans have pages, and entries twice.
mod with_lost_replies {
    use super::*;

    fn open(namespace: String) -> MemoryCas {
        let new = || MemoryCas { versions: Versions::Content, page: 3, loses_replies: true, ..MemoryCas::default() };
        super::open(namespace, new)
    }

    db_mutex_conformance::suite!(
        |namespace| async move { CasStore::new(open(namespace)) },
        lock_row = |namespace, lock_id: LockId| async move { open(namespace).lock_row(&lock_id) },
        shift_row = |namespace, lock_id: LockId, by| async move { shift(&open(namespace), &lock_id, by) },
        plant_fence = |namespace, lock_id: LockId, fence: Fence| async move {
            open(namespace).change_row(&lock_id, |row| row.fence = fence);
        },
        ignore = { processes: "a database in memory is a process's own" }
    );
}
