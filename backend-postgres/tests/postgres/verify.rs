use std::time::{Duration, Instant};

use db_mutex_core::store::{Inserted, LockStore, Renewed, VerifyQuery};
use db_mutex_core::{DbMutex, Error, Guard, StoreErrorKind, Ttl};
use db_mutex_postgres::PostgresStore;
use tokio_postgres::Transaction;

use crate::database::{MINUTE, ask, id, mutex, renewal, store, until_free};
use crate::server::administrator;

/// Long enough that a busy machine answers before its end.
const BRIEF: Duration = Duration::from_millis(1_500);

async fn guard(mutex: &DbMutex, ttl: Duration) -> Guard {
    mutex.lock("job").ttl(ttl).acquire().await.unwrap()
}

/// Whether another is refused the lock, because it is held or, once its lease is over, because its row is locked.
async fn is_refused(store: &PostgresStore) -> bool {
    match ask(store, "job", MINUTE).await {
        Ok(Inserted::Granted(_)) => false,
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
            true
        }
    }
}

#[tokio::test]
async fn a_verified_commit_is_protected_beyond_the_lease() {
    let store = store("verified").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, BRIEF).await;
    let mut mine = administrator().await;
    let transaction = mine.transaction().await.unwrap();
    assert_eq!(store.verify_in(&transaction, &guard).await.unwrap(), guard.fence());
    until_free(&store, "job").await;

    // The lease is over. The takeover is refused, and does not wait for the transaction to end.
    let asked = Instant::now();
    for _ in 0..10 {
        assert!(is_refused(&store).await, "the lock was taken from under a verified transaction");
    }
    println!("10 takeovers refused in {:?}", asked.elapsed());
    transaction.commit().await.unwrap();
    let Inserted::Granted(lease) = ask(&store, "job", MINUTE).await.unwrap() else {
        panic!("the lock was not granted after the commit")
    };
    assert!(lease.fence > guard.fence());
}

#[tokio::test]
async fn a_rollback_gives_the_lock_away_too() {
    let store = store("rolled_back").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, BRIEF).await;
    let mut mine = administrator().await;
    let transaction = mine.transaction().await.unwrap();
    store.verify_in(&transaction, &guard).await.unwrap();
    until_free(&store, "job").await;
    assert!(is_refused(&store).await);
    transaction.rollback().await.unwrap();
    assert!(!is_refused(&store).await);
}

#[tokio::test]
async fn a_renewal_goes_on_beside_a_verified_transaction() {
    let store = store("renewed").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, MINUTE).await;
    let mut mine = administrator().await;
    let transaction = mine.transaction().await.unwrap();
    store.verify_in(&transaction, &guard).await.unwrap();
    // The store's own lock timeout is 2 s: a renewal that waited for the transaction would fail.
    guard.extend(2 * MINUTE).await.unwrap();
    let renewed = store.renew(&renewal("job", *guard.owner_token(), 3 * MINUTE)).await.unwrap();
    assert!(matches!(renewed, Renewed::Renewed(_)));
    let many = store.renew_many(&[renewal("job", *guard.owner_token(), MINUTE)]).await;
    assert!(matches!(many[0], Ok(Renewed::Renewed(_))));
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_released_lock_is_not_given_away_before_the_commit() {
    let store = store("released").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, MINUTE).await;
    let mut mine = administrator().await;
    let transaction = mine.transaction().await.unwrap();
    store.verify_in(&transaction, &guard).await.unwrap();
    guard.release().await.unwrap();
    assert!(is_refused(&store).await);
    transaction.commit().await.unwrap();
    assert!(!is_refused(&store).await);
}

#[tokio::test]
async fn a_stale_holder_cannot_verify() {
    let store = store("stale").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, BRIEF).await;
    until_free(&store, "job").await;
    let mut mine = administrator().await;

    let transaction = mine.transaction().await.unwrap();
    assert!(store.verify_in(&transaction, &guard).await.unwrap_err().is_lost(), "the lease is over");
    transaction.rollback().await.unwrap();

    assert!(!is_refused(&store).await);
    let transaction = mine.transaction().await.unwrap();
    assert!(store.verify_in(&transaction, &guard).await.unwrap_err().is_lost(), "another has the lock");
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn every_isolation_level_proves_the_same() {
    let store = store("isolated").await;
    let mutex = mutex(&store);
    for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        let guard = mutex.lock("job").ttl(Ttl::NEVER).acquire().await.unwrap();
        let mut mine = administrator().await;
        let transaction = mine.transaction().await.unwrap();
        transaction.batch_execute(&format!("SET TRANSACTION ISOLATION LEVEL {level}")).await.unwrap();
        transaction.batch_execute("SELECT 1").await.unwrap();
        store.verify_in(&transaction, &guard).await.unwrap();
        transaction.commit().await.unwrap();

        // A snapshot from before the loss must not prove anything.
        let transaction = mine.transaction().await.unwrap();
        transaction.batch_execute(&format!("SET TRANSACTION ISOLATION LEVEL {level}; SELECT 1")).await.unwrap();
        transaction.query("SELECT count(*) FROM pg_class", &[]).await.unwrap();
        assert!(mutex.force_release("job").await.unwrap());
        assert!(store.verify_in(&transaction, &guard).await.is_err(), "{level}: an old snapshot proved a lost lock");
        drop(guard);
        assert!(mutex.shutdown(MINUTE).await.is_empty());
    }
}

/// `FOR KEY SHARE` returns the row as its snapshot saw it, also when the lock was given away before the row was locked. The
/// time between the two is stretched here; a process that loses the processor does the same.
#[tokio::test]
async fn a_lock_lost_between_snapshot_and_row_lock_is_not_verified() {
    let store = store("stretched").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, MINUTE).await;
    let mut mine = administrator().await;
    let mut transaction = mine.transaction().await.unwrap();
    let force = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        mutex.force_release("job").await.unwrap()
    };
    let mut answers = Vec::new();
    let verify = store.verify_with(&mut transaction, &guard, async |transaction, query| {
        let slow = query.sql.replacen("lock_id = $1", "lock_id = $1 AND pg_sleep(1.5) IS NOT NULL", 1);
        assert_ne!(slow, query.sql);
        let sql = if answers.is_empty() { &slow } else { query.sql };
        let answer = transaction.query_opt(sql, &[&query.lock_id, &query.owner]).await?.map(|row| row.get("verified"));
        answers.push(answer);
        Ok::<_, tokio_postgres::Error>(answer)
    });
    let (verified, forced) = tokio::join!(verify, force);
    assert!(forced);
    let error = verified.expect_err("a lost lock was verified");
    assert!(error.is_lost(), "{error:?}");
    assert_eq!(answers, [Some(guard.fence().get()), None], "a single run is no proof: it returns the fencing token");
}

#[tokio::test]
async fn another_driver_verifies_the_same() {
    let store = store("other_driver").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, BRIEF).await;
    let mut mine = administrator().await;
    let mut transaction = mine.transaction().await.unwrap();
    let send = async |transaction: &mut Transaction<'_>, query: VerifyQuery<'_>| {
        let row = transaction.query_opt(query.sql, &[&query.lock_id, &query.owner]).await?;
        Ok::<_, tokio_postgres::Error>(row.map(|row| row.get("verified")))
    };
    assert_eq!(store.verify_with(&mut transaction, &guard, send).await.unwrap(), guard.fence());
    until_free(&store, "job").await;
    assert!(is_refused(&store).await);
    assert!(store.verify_with(&mut transaction, &guard, send).await.unwrap_err().is_lost(), "the lease is over");
    transaction.commit().await.unwrap();
    assert!(!is_refused(&store).await);
}

/// What the closure of a driver that blocks returns decides, and its error is there to be looked at.
#[tokio::test]
async fn both_answers_of_a_driver_that_blocks_count() {
    let store = store("blocking").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, MINUTE).await;
    let verify = |mut answers: Vec<Result<Option<i64>, std::fmt::Error>>| {
        let verified = store.blocking_verify_with(&mut answers, &guard, |answers, _| answers.remove(0));
        assert!(answers.is_empty(), "the query was not run as often as it has to be");
        verified
    };
    let fence = Some(guard.fence().get());
    assert_eq!(verify(vec![Ok(fence), Ok(fence)]).unwrap(), guard.fence());
    for answers in [vec![Ok(fence), Err(std::fmt::Error)], vec![Err(std::fmt::Error)]] {
        let error = verify(answers).unwrap_err();
        let Error::Store { source, .. } = error else { panic!("{error:?}") };
        assert!(std::error::Error::source(&source).unwrap().is::<std::fmt::Error>());
    }
    assert!(verify(vec![Ok(fence), Ok(None)]).unwrap_err().is_lost());
    assert!(verify(vec![Ok(None)]).unwrap_err().is_lost());
}

#[tokio::test]
async fn one_verified_row_does_not_hold_up_a_batch() {
    let store = store("batch").await;
    let mutex = mutex(&store);
    let guard = guard(&mutex, BRIEF).await;
    let mut mine = administrator().await;
    let transaction = mine.transaction().await.unwrap();
    store.verify_in(&transaction, &guard).await.unwrap();
    until_free(&store, "job").await;

    let requests: Vec<_> =
        ["a", "job", "z"].map(|name| crate::database::insert(name, crate::database::owner(), MINUTE)).into();
    let answers = store.insert_many(&requests).await;
    assert!(matches!(answers[0], Ok(Inserted::Granted(_))));
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), StoreErrorKind::Busy);
    assert!(matches!(answers[2], Ok(Inserted::Granted(_))));
    assert!(store.find(&id("z")).await.unwrap().unwrap().is_taken());
}
