//! The conformance suite on a file, and on a database in memory.

use std::path::PathBuf;
use std::sync::LazyLock;

/// Each namespace is a file in it, also for the other processes of a case.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
});

mod on_a_file {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use db_mutex_core::{Fence, LockId};
    use db_mutex_sqlite::SqliteStore;
    use db_mutex_sqlite::rusqlite::Connection;

    use super::FOLDER;

    db_mutex_conformance::suite!(
        |namespace| async move { SqliteStore::open(file(namespace)).await.expect("a new file can be opened") },
        shift_row = |namespace, lock_id, by| async move { shift(&file(namespace), &lock_id, by) },
        plant_fence = |namespace, lock_id, fence| async move { plant(&file(namespace), &lock_id, fence) },
        cleanup = |namespace| async move { remove(&file(namespace)) },
        ignore = {
            a_locked_row_is_busy_at_once: "SQLite locks the database for a moment, not rows for as long as a transaction",
            a_locked_row_leaves_its_batch_alone: "SQLite locks the database for a moment, not rows for as long as a transaction",
            a_locked_row_from_the_future_is_refused: "SQLite locks the database for a moment, not rows for as long as a transaction",
        }
    );

    fn file(namespace: String) -> PathBuf {
        FOLDER.join(namespace + ".db")
    }

    /// Removes the database, if there is one, and the files that SQLite has put beside it.
    fn remove(file: &Path) {
        for suffix in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(format!("{}{suffix}", file.display())));
        }
    }

    /// A connection of another client.
    fn connect(file: &Path) -> Connection {
        let connection = Connection::open(file).expect("the store has made the file");
        connection.busy_timeout(Duration::from_secs(5)).expect("a timeout can be set");
        connection
    }

    fn plant(file: &Path, lock_id: &LockId, fence: Fence) {
        let plant = "UPDATE db_mutex_locks SET fence = ?2 WHERE lock_id = ?1";
        let changed = connect(file).execute(plant, (lock_id.as_str(), fence.get())).expect("the row can be changed");
        assert_eq!(changed, 1);
    }

    fn shift(file: &Path, lock_id: &LockId, by: Duration) {
        let by_us = i64::try_from(by.as_micros()).expect("the suite shifts by years at most");
        let shift =
            "UPDATE db_mutex_locks SET acquired_at = acquired_at + ?2, expires_at = expires_at + ?2 WHERE lock_id = ?1";
        connect(file).execute(shift, (lock_id.as_str(), by_us)).expect("the row can be changed");
    }
}

mod in_memory {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};

    use db_mutex_sqlite::SqliteStore;

    /// A database in memory is one connection's own, so a second handle is a clone.
    static DATABASES: LazyLock<Mutex<HashMap<String, SqliteStore>>> = LazyLock::new(Mutex::default);

    async fn open(namespace: String) -> SqliteStore {
        let known = DATABASES.lock().expect("no test panics here").get(&namespace).cloned();
        match known {
            Some(store) => store,
            None => {
                let store = SqliteStore::open(":memory:").await.expect("memory can be opened");
                DATABASES.lock().expect("no test panics here").insert(namespace, store.clone());
                store
            }
        }
    }

    db_mutex_conformance::suite!(
        |namespace| async move { open(namespace).await },
        ignore = {
            a_locked_row_is_busy_at_once: "no other connection can reach a database in memory",
            a_locked_row_leaves_its_batch_alone: "no other connection can reach a database in memory",
            a_locked_row_from_the_future_is_refused: "no other connection can reach a database in memory",
            a_row_from_the_future_shows_no_more_than_its_ttl: "no other connection can reach a database in memory",
            a_row_from_the_future_ends_within_its_ttl: "no other connection can reach a database in memory",
            a_row_from_the_future_keeps_what_its_owner_was_told: "no other connection can reach a database in memory",
            a_small_correction_of_the_clock_is_left_alone: "no other connection can reach a database in memory",
            a_release_in_the_future_leaves_no_rest: "no other connection can reach a database in memory",
            a_fence_from_the_future_is_the_same_everywhere: "no other connection can reach a database in memory",
            a_fence_from_the_future_is_exceeded: "no other connection can reach a database in memory",
            a_purge_spares_a_fence_from_the_future: "no other connection can reach a database in memory",
            reading_changes_nothing: "no other connection can reach a database in memory",
            processes: "no other connection can reach a database in memory",
        }
    );
}
