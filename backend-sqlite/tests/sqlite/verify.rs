use std::time::Duration;

use db_mutex_core::store::{Inserted, VerifyQuery};
use db_mutex_core::{Error, StoreErrorKind};
use db_mutex_sqlite::SqliteStore;
use db_mutex_sqlite::rusqlite::{self, Transaction, TransactionBehavior};

use crate::database::{Database, ask, until_free};

const MINUTE: Duration = Duration::from_secs(60);
/// Long enough that a busy machine answers before its end.
const BRIEF: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn a_verified_commit_is_protected_beyond_the_lease() {
    let database = Database::new();
    let store = database.store().await;
    let mutex = database.mutex().await;
    let guard = mutex.lock("job").ttl(BRIEF).acquire().await.unwrap();
    let impatient = SqliteStore::builder().busy_timeout(Duration::from_millis(50)).open(database.file()).await.unwrap();

    let mut mine = database.connection();
    mine.execute_batch("CREATE TABLE work (done INTEGER)").unwrap();
    let transaction = mine.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    assert_eq!(store.verify_in(&transaction, &guard).unwrap(), guard.fence());
    until_free(&impatient, "job").await;

    // The lease is over, but the takeover needs the write lock that the transaction has.
    let error = ask(&impatient, "job", MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Busy);
    transaction.execute("INSERT INTO work VALUES (1)", ()).unwrap();
    transaction.commit().unwrap();
    let Inserted::Granted(lease) = ask(&impatient, "job", MINUTE).await.unwrap() else { panic!("not granted") };
    assert!(lease.fence > guard.fence());
}

#[tokio::test]
async fn a_stale_holder_cannot_verify() {
    let database = Database::new();
    let store = database.store().await;
    let mutex = database.mutex().await;
    let guard = mutex.lock("job").ttl(BRIEF).acquire().await.unwrap();
    until_free(&store, "job").await;
    ask(&store, "job", MINUTE).await.unwrap();

    let mut mine = database.connection();
    let transaction = mine.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    assert!(store.verify_in(&transaction, &guard).unwrap_err().is_lost());
    transaction.rollback().unwrap();
}

#[tokio::test]
async fn an_ended_lease_cannot_be_verified_even_if_no_one_took_it() {
    let database = Database::new();
    let store = database.store().await;
    let mutex = database.mutex().await;
    let guard = mutex.lock("job").ttl(BRIEF).acquire().await.unwrap();
    until_free(&store, "job").await;
    let mut mine = database.connection();
    let transaction = mine.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    assert!(store.verify_in(&transaction, &guard).unwrap_err().is_lost());
}

#[tokio::test]
async fn another_file_verifies_nothing() {
    let (database, other) = (Database::new(), Database::new());
    let store = database.store().await;
    let guard = database.mutex().await.lock("job").acquire().await.unwrap();
    let mut mine = other.connection();
    let transaction = mine.transaction().unwrap();
    assert!(store.verify_in(&transaction, &guard).is_err());
}

/// A deferred transaction that has read before fails at once when another has written since, with any timeout.
#[tokio::test]
async fn a_transaction_with_an_old_snapshot_is_an_error_and_not_proof() {
    let database = Database::new();
    let store = database.store().await;
    let guard = database.mutex().await.lock("job").acquire().await.unwrap();
    let mine = database.connection();
    let transaction = Transaction::new_unchecked(&mine, TransactionBehavior::Deferred).unwrap();
    let count = |sql| -> i64 {
        transaction.prepare(sql).unwrap().query_map((), |row| row.get(0)).unwrap().next().unwrap().unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM db_mutex_locks"), 1);
    ask(&store, "other", MINUTE).await.unwrap();
    let error = store.verify_in(&transaction, &guard).unwrap_err();
    assert!(!error.is_lost(), "an error of the database is not a lost lock: {error}");
}

#[tokio::test]
async fn another_driver_verifies_the_same() {
    let database = Database::new();
    let store = database.store().await;
    let mutex = database.mutex().await;
    let guard = mutex.lock("job").ttl(BRIEF).acquire().await.unwrap();
    let mut mine = database.connection();
    let mut transaction = mine.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let send = |transaction: &mut Transaction<'_>, query: VerifyQuery<'_>| -> Result<Option<i64>, rusqlite::Error> {
        let mut statement = transaction.prepare(query.sql)?;
        statement.query_map((query.lock_id, query.owner), |row| row.get("verified"))?.next().transpose()
    };
    let other = async |transaction: &mut Transaction<'_>, query: VerifyQuery<'_>| send(transaction, query);
    assert_eq!(store.verify_with(&mut transaction, &guard, other).await.unwrap(), guard.fence());
    assert_eq!(store.blocking_verify_with(&mut transaction, &guard, send).unwrap(), guard.fence());
    until_free(&store, "job").await;
    assert!(store.verify_with(&mut transaction, &guard, other).await.unwrap_err().is_lost());
    assert!(store.blocking_verify_with(&mut transaction, &guard, send).unwrap_err().is_lost());
    let failing = async |_: &mut (), _: VerifyQuery<'_>| Err(std::fmt::Error);
    assert!(matches!(store.verify_with(&mut (), &guard, failing).await, Err(Error::Store { .. })));
}
