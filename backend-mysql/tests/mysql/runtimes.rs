//! Runtimes that are blocked, and that end.

use std::thread;
use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::store::LockStore;
use tokio::runtime::{Builder, Runtime};

use db_mutex_mysql::MySqlStore;

use crate::database::{Database, both};

/// Longer than a disk stalls on a busy machine.
const TTL: Duration = Duration::from_secs(6);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn mutex(database: &Database) -> DbMutex {
    let store = MySqlStore::builder().table(database.table.clone()).connect(&database.url).await.unwrap();
    DbMutex::builder(store).ttl(TTL).keep_alive(true).build().unwrap()
}

/// What shares a few connections must not ask for more at once.
#[tokio::test]
async fn what_works_in_the_background_asks_for_no_more_than_its_connections_at_once() {
    let [database, _] = both();
    let store = database.store().await;
    let behind = store.for_background().unwrap();
    assert_eq!((store.limits().concurrency, behind.limits().concurrency), (4, 3));
}

/// Its connections belong to a runtime that is blocked; those of the renewals do not.
#[test]
fn code_that_blocks_its_runtime_keeps_its_lock() {
    for database in both() {
        runtime().block_on(async {
            let mutex = mutex(&database).await;
            let guard = mutex.lock("job").acquire().await.unwrap();
            thread::sleep(2 * TTL);
            assert!(guard.is_valid(), "{:?}", guard.lost_reason());
            guard.release().await.unwrap();
        });
    }
}

#[test]
fn a_guard_outlives_its_runtime_and_is_released_without_one() {
    for database in both() {
        let first = runtime();
        let mutex = first.block_on(mutex(&database));
        let guard = first.block_on(mutex.lock("job").acquire()).unwrap();
        drop(first);
        thread::sleep(2 * TTL);
        assert!(guard.is_valid(), "{:?}", guard.lost_reason());
        drop(guard);
        let second = runtime();
        assert!(second.block_on(mutex.shutdown(10 * TTL)).is_empty());
        // The other runtime has no connections of the first.
        second.block_on(async { mutex.lock("job").acquire().await.unwrap().release().await.unwrap() });
    }
}
