//! Another process that has the write lock: what waits for it, for how long, and what does not.

use std::time::{Duration, Instant};

use db_mutex_core::store::{
    DeleteRequest, Deleted, Holder, InsertRequest, Inserted, ListFilter, LockStore, RenewRequest, Renewed,
};
use db_mutex_core::{HolderName, OwnerToken, StoreError, StoreErrorKind, Ttl};
use db_mutex_sqlite::SqliteStore;
use db_mutex_sqlite::rusqlite::Connection;

use crate::database::{Database, ask, id};

const MINUTE: Duration = Duration::from_secs(60);

async fn store_with_limit(database: &Database, limit: Duration) -> SqliteStore {
    drop(database.store().await);
    SqliteStore::builder().busy_timeout(limit).open(database.file()).await.unwrap()
}

/// Takes the write lock, as another process does that writes for a long time.
fn write_for_long(database: &Database) -> Connection {
    let other = database.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

fn insert(lock_id: &str, owner: OwnerToken) -> InsertRequest {
    InsertRequest::new(id(lock_id), owner, Ttl::new(MINUTE).unwrap(), HolderName::new("test").unwrap())
}

/// Sends a request, and leaves it under way.
async fn begin<T>(request: &mut (impl Future<Output = T> + Unpin)) {
    assert!(tokio::time::timeout(Duration::from_millis(50), request).await.is_err(), "it did not wait");
}

/// The limit counts from the arrival of a request, so it does not add up along the queue; and what writes nothing does not
/// wait at all.
#[tokio::test]
async fn eight_writers_and_their_readers_are_answered_within_one_limit() {
    let database = Database::new();
    let limit = Duration::from_secs(2);
    let store = store_with_limit(&database, limit).await;
    ask(&store, "held", MINUTE).await.unwrap();
    let other = write_for_long(&database);
    let begun = Instant::now();
    let writers = async {
        let mut writing = tokio::task::JoinSet::new();
        for number in 0..6 {
            let store = store.clone();
            writing.spawn(async move { ask(&store, &format!("job {number}"), MINUTE).await.unwrap_err() });
        }
        let (by, owner) = (store.clone(), OwnerToken::mint().unwrap());
        let renewal = RenewRequest::new(id("held"), owner, Ttl::new(MINUTE).unwrap());
        writing.spawn(async move { by.renew(&renewal).await.unwrap_err() });
        let by = store.clone();
        writing.spawn(async move { by.delete(&DeleteRequest::by_owner(id("held"), owner)).await.unwrap_err() });
        for error in writing.join_all().await {
            assert_eq!(error.kind(), StoreErrorKind::Busy, "{error}");
        }
        begun.elapsed()
    };
    let readers = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(store.find(&id("held")).await.unwrap().unwrap().is_taken());
        assert_eq!(store.list(&ListFilter::all()).await.unwrap().len(), 1);
        assert!(matches!(ask(&store, "held", MINUTE).await.unwrap(), Inserted::Held(_)));
        begun.elapsed()
    };
    let (written, read) = tokio::join!(writers, readers);
    other.execute_batch("ROLLBACK").unwrap();
    assert!(written >= limit, "the writers gave up after {written:?}");
    assert!(written < 3 * limit, "the last of eight writers was answered after {written:?}");
    assert!(read < limit, "what reads was answered after {read:?}, with {limit:?} to wait for writers");
}

/// One wait for a batch, also if some of its rows were written by a clock that was ahead.
#[tokio::test]
async fn a_batch_waits_once() {
    let database = Database::new();
    let limit = Duration::from_millis(500);
    let store = store_with_limit(&database, limit).await;
    let requests: Vec<_> =
        (0..20).map(|number| insert(&format!("job {number}"), OwnerToken::mint().unwrap())).collect();
    for answer in store.insert_many(&requests[..10]).await {
        answer.unwrap();
    }
    let other = database.connection();
    other.execute("UPDATE db_mutex_locks SET expires_at = expires_at + 3600000000", ()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let again: Vec<_> =
        requests.iter().map(|request| insert(request.lock_id.as_str(), OwnerToken::mint().unwrap())).collect();
    let begun = Instant::now();
    let answers = store.insert_many(&again).await;
    let elapsed = begun.elapsed();
    other.execute_batch("ROLLBACK").unwrap();
    assert!(answers[..10].iter().all(|answer| matches!(answer, Ok(Inserted::Held(_)))), "{answers:?}");
    let is_busy = |answer: &Result<_, StoreError>| answer.as_ref().is_err_and(|e| e.kind() == StoreErrorKind::Busy);
    assert!(answers[10..].iter().all(is_busy), "{answers:?}");
    assert!(elapsed < 4 * limit, "a batch was answered after {elapsed:?}");
}

/// The writer is gone in time, so what has waited for it is done, each request in its turn.
#[tokio::test]
async fn what_waits_is_done_in_the_order_of_its_arrival() {
    let database = Database::new();
    let store = database.store().await;
    let other = write_for_long(&database);
    let owner = OwnerToken::mint().unwrap();
    let (first, ttl) = (insert("job", owner), Ttl::new(MINUTE).unwrap());
    let (renewal, release) = (RenewRequest::new(id("job"), owner, ttl), DeleteRequest::by_owner(id("job"), owner));
    let (mut inserting, mut renewing) = (store.insert_if_absent(&first), store.renew(&renewal));
    let mut releasing = store.delete(&release);
    begin(&mut inserting).await;
    begin(&mut renewing).await;
    begin(&mut releasing).await;
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(inserting.await.unwrap(), Inserted::Granted(_)));
    assert!(matches!(renewing.await.unwrap(), Renewed::Renewed(_)));
    assert_eq!(releasing.await.unwrap(), Deleted::Released);
}

/// A lock that no one waits for any more must not be acquired; but who sent a delete and went away counts on it.
#[tokio::test]
async fn of_what_has_lost_its_caller_only_deletes_are_done() {
    let database = Database::new();
    let store = database.store().await;
    let owner = OwnerToken::mint().unwrap();
    store.insert_if_absent(&insert("held", owner)).await.unwrap();
    let other = write_for_long(&database);
    let (abandoned, release) =
        (insert("abandoned", OwnerToken::mint().unwrap()), DeleteRequest::by_owner(id("held"), owner));
    let many = [insert("also abandoned", OwnerToken::mint().unwrap())];
    let (mut inserting, mut inserting_many) = (store.insert_if_absent(&abandoned), store.insert_many(&many));
    let mut releasing = store.delete(&release);
    begin(&mut inserting).await;
    begin(&mut inserting_many).await;
    begin(&mut releasing).await;
    drop((inserting, inserting_many, releasing));
    // The thread is not in the middle of an attempt once it has answered this.
    assert_eq!(store.list(&ListFilter::taken()).await.unwrap().len(), 1);
    other.execute_batch("ROLLBACK").unwrap();

    // Done after all of these.
    ask(&store, "later", MINUTE).await.unwrap();
    let taken: Vec<_> = store.list(&ListFilter::taken()).await.unwrap().into_iter().map(|row| row.lock_id).collect();
    assert_eq!(taken, [id("later")]);
}

/// The store does not read a lock that it has released last before it asks for it again. Another process may have been there.
mod a_lock_that_was_released_last {
    use super::*;

    async fn released(store: &SqliteStore) {
        let owner = OwnerToken::mint().unwrap();
        store.insert_if_absent(&insert("job", owner)).await.unwrap();
        assert_eq!(store.delete(&DeleteRequest::by_owner(id("job"), owner)).await.unwrap(), Deleted::Released);
    }

    /// What another process writes that acquires it.
    const TAKE: &str =
        "UPDATE db_mutex_locks SET owner = randomblob(16), holder = 'another process', released_at = NULL,
        fence = fence + 1, expires_at = 9223372036854775807, ttl = 9223372036854775807";

    fn assert_held(answer: Result<Inserted, StoreError>) {
        match answer {
            Ok(Inserted::Held(Holder { name, .. })) => assert_eq!(name.as_str(), "another process"),
            answer => panic!("the lock is another's: {answer:?}"),
        }
    }

    #[tokio::test]
    async fn is_held_if_another_process_has_it() {
        let database = Database::new();
        let store = database.store().await;
        released(&store).await;
        database.connection().execute(TAKE, ()).unwrap();
        assert_held(ask(&store, "job", MINUTE).await);
    }

    #[tokio::test]
    async fn is_held_if_another_process_takes_it_in_that_moment() {
        let database = Database::new();
        let store = database.store().await;
        released(&store).await;
        let other = write_for_long(&database);
        other.execute(TAKE, ()).unwrap();
        let request = insert("job", OwnerToken::mint().unwrap());
        let mut asking = store.insert_if_absent(&request);
        begin(&mut asking).await;
        other.execute_batch("COMMIT").unwrap();
        assert_held(asking.await);
    }

    #[tokio::test]
    async fn is_granted_if_another_process_thinks_better_of_it() {
        let database = Database::new();
        let store = database.store().await;
        released(&store).await;
        let other = write_for_long(&database);
        other.execute(TAKE, ()).unwrap();
        let request = insert("job", OwnerToken::mint().unwrap());
        let mut asking = store.insert_if_absent(&request);
        begin(&mut asking).await;
        other.execute_batch("ROLLBACK").unwrap();
        let answer = asking.await.unwrap();
        assert!(matches!(answer, Inserted::Granted(_)), "{answer:?}");
    }

    #[tokio::test]
    async fn is_busy_and_not_held_while_another_process_writes() {
        let database = Database::new();
        let store = store_with_limit(&database, Duration::from_millis(100)).await;
        released(&store).await;
        let other = write_for_long(&database);
        for _ in 0..2 {
            let error = ask(&store, "job", MINUTE).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Busy, "{error}");
        }
        other.execute_batch("ROLLBACK").unwrap();
        let answer = ask(&store, "job", MINUTE).await.unwrap();
        assert!(matches!(answer, Inserted::Granted(_)), "{answer:?}");
    }
}
