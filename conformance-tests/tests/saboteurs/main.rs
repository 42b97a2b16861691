//! The suite tested: stores with one planted fault each, which the cases that name the fault have to find.
//!
//! | file | the faults in it |
//! |---|---|
//! | `fault` | all of them, by name |
//! | `saboteur` | the wrapper around the memory store; many at once, waiting |
//! | `inserting`, `deleting`, `renewing`, `purging`, `reading` | those of one operation |
//! | `ids` | those in what counts as one id |
//! | `processes` | those that only several processes show, and a store in a directory for them |
//! | `found` | a test for each: which cases find it |

mod deleting;
mod fault;
mod found;
mod ids;
mod inserting;
mod processes;
mod purging;
mod reading;
mod renewing;
mod saboteur;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use db_mutex_core::store::{LockId, MemoryStore};
use fault::Fault;
use saboteur::Saboteur;

/// Opens a handle on the saboteur called `namespace`.
fn open(fault: Fault, namespace: String) -> Saboteur {
    static DATABASES: LazyLock<Mutex<HashMap<String, Saboteur>>> = LazyLock::new(Mutex::default);
    let mut databases = DATABASES.lock().expect("no test panics here");
    databases.entry(namespace).or_insert_with(|| Saboteur::new(fault)).clone()
}

/// Moves the times of a row, as if the clock had been ahead when it was written.
fn shift(store: &MemoryStore, id: &LockId, by: Duration) {
    store.change_row(id, |row| {
        row.acquired_at = row.acquired_at + by;
        row.expires_at = row.expires_at + by;
    });
}

/// The wrapper alone is not what the cases find.
mod without_a_fault {
    use super::{Fault, open};

    db_mutex_conformance::suite!(
        |namespace| async move { open(Fault::None, namespace) },
        lock_row = |namespace, id| async move { open(Fault::None, namespace).inner.lock_row(&id) },
        shift_row = |namespace, id, by| async move { crate::shift(&open(Fault::None, namespace).inner, &id, by) },
        plant_fence = |namespace, id, fence| async move {
            open(Fault::None, namespace).inner.change_row(&id, |row| row.fence = fence);
        },
        ignore = { processes: "a database in memory is a process's own" }
    );
}

/// A case that is ignored does not run, or it would fail here; the others find nothing.
mod with_an_ignored_case {
    use super::{Fault, open};

    const FAULT: Fault = Fault::ForceIsIgnoredForTheResting;

    db_mutex_conformance::suite!(
        |namespace| async move { open(FAULT, namespace) },
        lock_row = |namespace, id| async move { open(FAULT, namespace).inner.lock_row(&id) },
        shift_row = |namespace, id, by| async move { crate::shift(&open(FAULT, namespace).inner, &id, by) },
        plant_fence = |namespace, id, fence| async move {
            open(FAULT, namespace).inner.change_row(&id, |row| row.fence = fence);
        },
        ignore = {
            force_ends_a_rest: "the store has that fault: it shows that an ignored case does not run",
            processes: "a database in memory is a process's own: it shows that the cases of an ignored group do not run",
        }
    );
}
