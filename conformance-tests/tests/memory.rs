//! The suite against the reference store.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use db_mutex_core::MemoryStore;

static DATABASES: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);

fn open(namespace: String) -> MemoryStore {
    DATABASES.lock().expect("no test panics here").entry(namespace).or_default().clone()
}

db_mutex_conformance::suite!(|namespace| async move { open(namespace) });
