//! What SQLite and its driver have done to others.

use std::env;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{HolderName, OwnerToken, StoreErrorKind, Ttl};
use db_mutex_sqlite::SqliteStore;

use crate::database::{Database, ask, id, until_free};

const MINUTE: Duration = Duration::from_secs(60);

/// `INSERT … RETURNING` gives its row before the commit, which may still fail: here for a deferred constraint that
/// a user has added. A driver call that stops at the first row reports a lock that was never stored.
#[tokio::test]
async fn a_commit_that_fails_is_not_a_grant() {
    let database = Database::new();
    drop(database.store().await);
    database
        .connection()
        .execute_batch(
            "CREATE TABLE people (name TEXT PRIMARY KEY);
             DROP TABLE db_mutex_locks;
             CREATE TABLE db_mutex_locks (
                 lock_id TEXT NOT NULL PRIMARY KEY, owner BLOB, released_by BLOB, fence INTEGER NOT NULL,
                 holder TEXT NOT NULL REFERENCES people (name) DEFERRABLE INITIALLY DEFERRED,
                 acquired_at INTEGER NOT NULL, released_at INTEGER, expires_at INTEGER NOT NULL, ttl INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
        )
        .unwrap();
    let store = database.store().await;
    let answer = ask(&store, "job", MINUTE).await;
    assert!(answer.is_err(), "a lock that was never stored was reported: {answer:?}");
    assert!(store.find(&id("job")).await.unwrap().is_none());
}

/// A clock that is read before the wait for the write lock lets fences run against the order of the commits, and a
/// transaction that reads and then writes fails with `BUSY_SNAPSHOT`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn six_connections_see_no_inversion_and_no_busy() {
    let database = Database::new();
    let latest = Arc::new(AtomicI64::new(0));
    let granted = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for _ in 0..6 {
        let store = database.store().await;
        let (latest, granted) = (Arc::clone(&latest), Arc::clone(&granted));
        workers.push(tokio::spawn(async move {
            let holder = HolderName::new("worker").unwrap();
            while granted.load(Ordering::SeqCst) < 3_000 {
                let owner = OwnerToken::mint().unwrap();
                let request = InsertRequest::new(id("one"), owner, Ttl::new(MINUTE).unwrap(), holder.clone());
                if let Inserted::Granted(lease) = store.insert_if_absent(&request).await.unwrap() {
                    // We hold the lock: the task that wrote here before us was granted it before us.
                    let before = latest.swap(lease.fence.get(), Ordering::SeqCst);
                    assert!(before < lease.fence.get(), "fence {} came after {before}", lease.fence);
                    granted.fetch_add(1, Ordering::SeqCst);
                    let deleted = store.delete(&DeleteRequest::by_owner(id("one"), owner)).await.unwrap();
                    assert_eq!(deleted, Deleted::Released);
                }
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
}

/// SQLite goes on with a file, or a write-ahead log, that was deleted under it: its holder and that of the new file would
/// both hold the lock.
#[tokio::test]
async fn a_holder_whose_file_was_replaced_has_lost() {
    for gone in ["locks.db", "locks.db-wal"] {
        let database = Database::new();
        let store = database.store().await;
        let holder = HolderName::new("first").unwrap();
        let owner = OwnerToken::mint().unwrap();
        let ttl = Ttl::new(MINUTE).unwrap();
        store.insert_if_absent(&InsertRequest::new(id("job"), owner, ttl, holder)).await.unwrap();

        for file in [gone, "locks.db-wal", "locks.db-shm"] {
            let _ = fs::remove_file(database.file().with_file_name(file));
        }
        // In a process of its own: within one, SQLite shares what it knows of the deleted log.
        let successor = Command::new(env::current_exe().unwrap())
            .args(["--exact", "traps::acquires_for_a_test_in_another_process", "--ignored"])
            .env(FILE_OF_ANOTHER_PROCESS, database.file())
            .output()
            .unwrap();
        assert!(successor.status.success(), "{gone}: {}", String::from_utf8_lossy(&successor.stdout));

        let renewed = store.renew(&RenewRequest::new(id("job"), owner, ttl)).await.unwrap();
        assert!(matches!(renewed, Renewed::NotHeld), "{gone}: two hold the lock: {renewed:?}");
        let asked = ask(&store, "job", MINUTE).await.unwrap();
        assert!(matches!(asked, Inserted::Held(_)), "{gone}: the successor's lock is not seen: {asked:?}");
    }
}

const FILE_OF_ANOTHER_PROCESS: &str = "DB_MUTEX_TEST_FILE_OF_ANOTHER_PROCESS";

#[tokio::test]
#[ignore = "a part of a_holder_whose_file_was_replaced_has_lost, which runs it"]
async fn acquires_for_a_test_in_another_process() {
    let file = env::var_os(FILE_OF_ANOTHER_PROCESS).unwrap();
    let answer = ask(&SqliteStore::open(file).await.unwrap(), "job", MINUTE).await.unwrap();
    assert!(matches!(answer, Inserted::Granted(_)), "{answer:?}");
}

/// In a table that is not STRICT the sum would turn into a REAL, and every later fence would be the same.
#[tokio::test]
async fn a_fence_at_its_end_is_an_error_and_not_a_smaller_fence() {
    let database = Database::new();
    let store = database.store().await;
    ask(&store, "job", Duration::from_millis(100)).await.unwrap();
    until_free(&store, "job").await;
    database.connection().execute("UPDATE db_mutex_locks SET fence = ?1", [i64::MAX]).unwrap();
    let answer = ask(&store, "job", MINUTE).await;
    assert!(answer.is_err(), "{answer:?}");
}

/// A read-only primary must not look like a lock that is held.
#[tokio::test]
async fn a_database_that_is_locked_for_long_is_busy_and_not_held() {
    let database = Database::new();
    drop(database.store().await);
    let store = SqliteStore::builder().busy_timeout(Duration::from_millis(50)).open(database.file()).await.unwrap();
    let other = database.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = ask(&store, "job", MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy);
    assert!(error.is_transient());
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(ask(&store, "job", MINUTE).await.unwrap(), Inserted::Granted(_)));
}

/// A refused attempt takes no write lock: it is answered while another connection is writing.
#[tokio::test]
async fn a_refusal_does_not_wait_for_a_writer() {
    let database = Database::new();
    let store = database.store().await;
    ask(&store, "job", MINUTE).await.unwrap();
    let other = database.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = ask(&store, "job", MINUTE).await.unwrap();
    assert!(matches!(answer, Inserted::Held(_)), "{answer:?}");
}

/// A clock that stepped back must not let a released lock rest until it has caught up.
#[tokio::test]
async fn a_release_after_a_step_back_of_the_clock_leaves_no_rest() {
    let database = Database::new();
    let store = database.store().await;
    let owner = OwnerToken::mint().unwrap();
    let request = InsertRequest::new(id("job"), owner, Ttl::new(MINUTE).unwrap(), HolderName::new("me").unwrap());
    store.insert_if_absent(&request).await.unwrap();
    let hour_us = 3_600_000_000_i64;
    let step = "UPDATE db_mutex_locks SET acquired_at = acquired_at + ?1, expires_at = expires_at + ?1";
    database.connection().execute(step, [hour_us]).unwrap();
    let release = DeleteRequest::by_owner(id("job"), owner);
    assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
    assert!(!store.find(&id("job")).await.unwrap().unwrap().is_taken());
}

/// The runtime in which a lock was acquired may be gone when its guard is dropped.
#[test]
fn a_guard_dropped_after_its_runtime_is_released() {
    let database = Database::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mutex, guard) = runtime.block_on(async {
        let mutex = database.mutex().await;
        let guard = mutex.lock("job").acquire().await.unwrap();
        (mutex, guard)
    });
    drop(runtime);
    drop(guard);

    let later = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    later.block_on(async {
        assert_eq!(mutex.shutdown(Duration::from_secs(30)).await, Vec::new());
        assert!(!mutex.find("job").await.unwrap().unwrap().is_taken());
    });
}

/// What an acquisition has begun when its future is dropped is released by the background.
#[tokio::test]
async fn an_acquire_dropped_at_any_moment_leaves_no_ghost() {
    let database = Database::new();
    let mutex = database.mutex().await;
    for polls in 0..40 {
        let lock = mutex.lock("job").ttl(600 * MINUTE);
        let mut acquiring = Box::pin(lock.acquire());
        for _ in 0..polls {
            if tokio::time::timeout(Duration::ZERO, &mut acquiring).await.is_ok() {
                break;
            }
        }
        drop(acquiring);
        assert_eq!(mutex.shutdown(Duration::from_secs(30)).await, Vec::new());
        assert!(!mutex.find("job").await.unwrap().is_some_and(|row| row.is_taken()), "dropped after {polls} polls");
    }
}

/// A writer elsewhere that takes longer than the busy timeout must not leave a ghost.
#[tokio::test]
async fn a_dropped_guard_is_released_after_a_long_writer() {
    let database = Database::new();
    drop(database.store().await);
    let store = SqliteStore::builder().busy_timeout(Duration::from_millis(50)).open(database.file()).await.unwrap();
    let mutex = DbMutex::new(store).unwrap();
    let guard = mutex.lock("job").ttl(60 * MINUTE).acquire().await.unwrap();
    let other = database.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(guard);
    assert_eq!(mutex.shutdown(Duration::from_millis(500)).await.len(), 1, "the release cannot be done yet");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(mutex.shutdown(Duration::from_secs(30)).await, Vec::new());
    assert!(!mutex.find("job").await.unwrap().unwrap().is_taken());
}
