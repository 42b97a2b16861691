//! The conformance suite on an object store in memory; and what one on a local disk cannot.

mod planted;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use db_mutex_core::StoreErrorKind;
use db_mutex_core::store::cas::{CasStore, CompareAndSwap, Swapped};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use stores::objects::Objects;

fn open(namespace: String) -> Objects {
    static STORES: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);
    let store = STORES.lock().expect("no test panics here").entry(namespace).or_default().clone();
    Objects::new(store, "locks")
}

db_mutex_conformance::suite!(
    |namespace| async move { CasStore::new(open(namespace)) },
    shift_row = |namespace, id, by| async move { planted::shift(&open(namespace), &id, by).await },
    plant_fence = |namespace, id, fence| async move { planted::plant(&open(namespace), &id, fence).await },
    ignore = {
        locked_rows: "there are no transactions that could lock an object",
        a_locked_row_from_the_future_is_refused: "there are no transactions that could lock an object",
        processes: "an object store in memory is a process's own",
    }
);

#[tokio::test]
async fn a_local_disk_cannot_replace_on_a_condition() {
    let folder = std::env::temp_dir().join(format!("db-mutex-objects-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
    let local = LocalFileSystem::new_with_prefix(&folder).expect("the folder is there");
    let objects = Objects::new(Arc::new(local), "locks");
    let id = "job".parse().expect("a valid id");
    assert_eq!(objects.swap(&id, None, b"one").await.expect("it can create"), Swapped::Done);
    let entry = objects.load(&id).await.expect("it can read").entry.expect("it was just written");
    let error = objects.swap(&id, Some(&entry.version), b"two").await.expect_err("it cannot replace");
    std::fs::remove_dir_all(folder).expect("the folder is there");
    assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
}
