//! The suite tested: stores with one planted fault each, which the cases that name the fault have to find.
//!
//! | file | the faults in it |
//! |---|---|
//! | `fault` | all of them, by name |
//! | `saboteur` | the wrapper around the memory store; many at once, waiting |
//! | `inserting`, `deleting`, `renewing`, `purging`, `reading` | those of one operation |
//! | `ids` | those in what counts as one id |
//! | `found` | a test for each: which cases find it |

mod deleting;
mod fault;
mod found;
mod ids;
mod inserting;
mod purging;
mod reading;
mod renewing;
mod saboteur;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use fault::Fault;
use saboteur::Saboteur;

/// Opens a handle on the saboteur called `namespace`.
fn open(fault: Fault, namespace: String) -> Saboteur {
    static DATABASES: LazyLock<Mutex<HashMap<String, Saboteur>>> = LazyLock::new(Mutex::default);
    let mut databases = DATABASES.lock().expect("no test panics here");
    databases.entry(namespace).or_insert_with(|| Saboteur::new(fault)).clone()
}

/// The wrapper alone is not what the cases find.
mod without_a_fault {
    use super::{Fault, open};

    db_mutex_conformance::suite!(|namespace| async move { open(Fault::None, namespace) });
}

/// A case that is ignored does not run, or it would fail here; the others find nothing.
mod with_an_ignored_case {
    use super::{Fault, open};

    db_mutex_conformance::suite!(
        |namespace| async move { open(Fault::ForceIsIgnoredForTheResting, namespace) },
        ignore = { force_ends_a_rest: "the store has that fault: it shows that an ignored case does not run" }
    );
}
