//! A guard of the blocking form.

use std::thread;

use db_mutex::sqlite::SqliteStore;
use db_mutex::sqlite::rusqlite::{Connection, TransactionBehavior};
use db_mutex::{DbMutex, Error, LostReason, RunError, blocking};

use crate::{SECOND, memory, sqlite, watched};

#[test]
fn a_renewed_lease_outlives_its_ttl() {
    watched(|| {
        let made = sqlite();
        let guard = made.mutex.lock("job").ttl(2 * SECOND).keep_alive(true).acquire().unwrap();
        thread::sleep(5 * SECOND);
        assert!(guard.is_valid());
        guard.release().unwrap();
    });
}

#[test]
fn a_lease_that_is_not_renewed_is_lost() {
    watched(|| {
        let made = sqlite();
        let guard = made.mutex.lock("job").ttl(SECOND).acquire().unwrap();
        assert_eq!(guard.lost().unwrap(), LostReason::Expired);
        assert!(!guard.is_valid());
        assert!(guard.extend(SECOND).unwrap_err().is_lost());
    });
}

#[test]
fn hold_at_least_is_kept_after_the_release() {
    watched(|| {
        let made = sqlite();
        made.mutex.lock("job").hold_at_least(2 * SECOND).run(|_| ()).unwrap();
        assert!(made.mutex.lock("job").acquire().unwrap_err().is_held());
        made.mutex.lock("job").wait(30 * SECOND).acquire().unwrap().release().unwrap();
    });
}

#[test]
fn hold_at_most_ends_a_renewed_lease() {
    watched(|| {
        let made = memory();
        let lock = made.mutex.lock("job").ttl(SECOND).keep_alive(true).hold_at_most(3 * SECOND);
        assert_eq!(lock.acquire().unwrap().lost().unwrap(), LostReason::HeldTooLong);
    });
}

#[test]
fn finished_work_is_returned_with_the_loss() {
    watched(|| {
        let made = memory();
        let error = made.mutex.run("job", |_| made.mutex.force_release("job").map(|_| 42)).unwrap_err();
        assert!(matches!(error, RunError::Lost { output: Some(Ok(42)), .. }), "{error:?}");
    });
}

#[test]
fn a_panic_releases_the_lock() {
    watched(|| {
        let made = sqlite();
        let mutex = made.mutex.clone();
        let panicking = thread::spawn(move || mutex.run("job", |_| std::panic::resume_unwind(Box::new("on purpose"))));
        panicking.join().unwrap_err();
        assert_eq!(made.mutex.shutdown(30 * SECOND).unwrap(), []);
        made.mutex.lock("job").acquire().unwrap().release().unwrap();
    });
}

#[test]
fn a_label_is_seen_by_others() {
    watched(|| {
        let made = memory();
        let _guard = made.mutex.lock("job").label("invoices of May").acquire().unwrap();
        let error = made.mutex.lock("job").acquire().unwrap_err();
        assert!(error.to_string().contains("invoices of May"), "{error}");
    });
}

/// Without a runtime, from the store to the commit.
#[test]
fn a_store_opened_without_a_runtime_verifies_a_transaction() {
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.db");
        let opened = file.clone();
        let store = blocking::open(async move { SqliteStore::open(&opened).await }).unwrap();
        let mutex = DbMutex::new(store.clone()).unwrap().blocking();
        let guard = mutex.lock("job").acquire().unwrap();
        let mut mine = Connection::open(&file).unwrap();
        let transaction = mine.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        assert_eq!(store.verify_in(&transaction, &guard).unwrap(), guard.fence());
        transaction.commit().unwrap();
    });
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    watched(|| {
        let error = blocking::connect("sqlite:/does/not/exist/locks.db").unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        assert!(blocking::connect("redis:").unwrap_err().is_invalid());
    });
}

/// With 512 callers, each with a thread of its own, one thread of the mutex serves them all.
#[test]
fn many_callers_share_the_thread_of_the_mutex() {
    watched(|| {
        let made = memory();
        thread::scope(|scope| {
            for number in 0..512 {
                let mutex = &made.mutex;
                scope.spawn(move || mutex.run(format!("job {number}"), |_| ()).unwrap());
            }
        });
    });
}
