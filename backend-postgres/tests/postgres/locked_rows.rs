//! Rows that another transaction has locked or inserted: nothing waits for them, alone or in a batch.

use std::time::{Duration, Instant};

use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, LockStore, Renewed};
use db_mutex_core::{OwnerToken, StoreError, StoreErrorKind};
use db_mutex_postgres::PostgresStore;
use tokio_postgres::Transaction;

use crate::database::{MINUTE, ask, builder, grant, id, insert, owner, release, renewal, store, table, until};
use crate::server::{administrator, connection};
use db_mutex_test_servers::OwnServer;

/// The store's own lock timeout is 2 s: an attempt that is answered sooner has not waited for the row.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The id whose row is locked, among twenty others.
const LOCKED: &str = "job-07";

fn is_busy<A: std::fmt::Debug>(answer: &Result<A, StoreError>) -> bool {
    answer.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Busy)
}

fn names() -> impl Iterator<Item = String> {
    (0..21).map(|number| format!("job-{number:02}"))
}

/// Checks the answers of a batch: the locked one is busy, the others are as `good` says.
fn check<A: std::fmt::Debug>(answers: &[Result<A, StoreError>], good: impl Fn(&A) -> bool) {
    assert_eq!(answers.len(), 21);
    for (name, answer) in names().zip(answers) {
        match answer {
            answer if name == LOCKED => assert!(is_busy(answer), "{name} is locked: {answer:?}"),
            Ok(answer) if good(answer) => {}
            other => panic!("{name} is not locked: {other:?}"),
        }
    }
}

/// Renews and releases all, and acquires them again while their rows are free: the locked one is busy each time.
async fn all_but_one_go_on(store: &PostgresStore, holder: OwnerToken) {
    let renewals: Vec<_> = names().map(|name| renewal(&name, holder, MINUTE)).collect();
    let repeats: Vec<_> = names().map(|name| insert(&name, holder, MINUTE)).collect();
    let releases: Vec<_> = names().map(|name| release(&name, holder)).collect();
    let others: Vec<InsertRequest> =
        names().filter(|name| name != LOCKED).map(|name| insert(&name, owner(), MINUTE)).collect();

    let begun = Instant::now();
    assert!(is_busy(&store.renew(&renewal(LOCKED, holder, MINUTE)).await));
    assert!(is_busy(&store.insert_if_absent(&insert(LOCKED, holder, MINUTE)).await));
    assert!(is_busy(&store.delete(&release(LOCKED, holder)).await));
    let fence = store.find(&id(LOCKED)).await.unwrap().unwrap().fence;
    assert!(is_busy(&store.delete(&DeleteRequest::by_fence(id(LOCKED), fence)).await));
    check(&store.renew_many(&renewals).await, |answer| matches!(answer, Renewed::Renewed(_)));
    check(&store.insert_many(&repeats).await, |answer| matches!(answer, Inserted::Granted(_)));
    check(&store.delete_many(&releases).await, |answer| *answer == Deleted::Released);
    for answer in store.insert_many(&others).await {
        assert!(matches!(answer, Ok(Inserted::Granted(_))), "{answer:?}");
    }
    println!("all requests beside a locked row took {:?}", begun.elapsed());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

async fn with_lock(name: &str, clause: &str) {
    let store = store(name).await;
    let holder = owner();
    for name in names() {
        assert!(matches!(store.insert_if_absent(&insert(&name, holder, MINUTE)).await.unwrap(), Inserted::Granted(_)));
    }
    let mut other = administrator().await;
    let transaction = other.transaction().await.unwrap();
    let row = format!("SELECT FROM {} WHERE lock_id = $1 {clause}", table(name));
    transaction.query_one(&row, &[&LOCKED]).await.unwrap();
    all_but_one_go_on(&store, holder).await;
    // What is only read needs no lock.
    assert!(matches!(ask(&store, LOCKED, MINUTE).await.unwrap(), Inserted::Held(_)));
    transaction.rollback().await.unwrap();
    assert_eq!(store.delete(&release(LOCKED, holder)).await.unwrap(), Deleted::Released);
}

#[tokio::test]
async fn a_row_locked_for_update_is_busy_and_its_batch_goes_on() {
    with_lock("for_update", "FOR UPDATE").await;
}

/// As a REPEATABLE READ transaction locks it that has verified.
#[tokio::test]
async fn a_row_locked_for_share_is_busy_and_its_batch_goes_on() {
    with_lock("for_share", "FOR SHARE").await;
}

/// A free row that is locked cannot be granted, and is not called held.
#[tokio::test]
async fn a_free_row_that_is_locked_is_busy() {
    let store = store("free_locked").await;
    let (holder, _) = grant(&store, LOCKED, MINUTE).await;
    store.delete(&release(LOCKED, holder)).await.unwrap();
    let mut other = administrator().await;
    for clause in ["FOR UPDATE", "FOR KEY SHARE"] {
        let transaction = other.transaction().await.unwrap();
        let row = format!("SELECT FROM {} WHERE lock_id = $1 {clause}", table("free_locked"));
        transaction.query_one(&row, &[&LOCKED]).await.unwrap();
        let begun = Instant::now();
        assert!(is_busy(&ask(&store, LOCKED, MINUTE).await), "{clause}");
        let requests: Vec<_> = names().map(|name| insert(&name, owner(), MINUTE)).collect();
        let answers = store.insert_many(&requests).await;
        check(&answers, |answer| matches!(answer, Inserted::Granted(_)));
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        transaction.rollback().await.unwrap();
        for request in &requests {
            store.delete(&release(request.lock_id.as_str(), request.owner)).await.unwrap();
        }
    }
    assert!(matches!(ask(&store, LOCKED, MINUTE).await.unwrap(), Inserted::Granted(_)));
}

/// The careful form decides the whole batch: it is not divided for a row that can be skipped.
#[tokio::test]
async fn a_locked_row_costs_its_batch_one_more_statement() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    let store = builder("cost").connect(server.url()).await.unwrap();
    let holder = owner();
    let requests: Vec<_> = names().map(|name| insert(&name, holder, MINUTE)).collect();
    check_all(&store.insert_many(&requests).await);
    let mut other = connection(server.url()).await;
    let transaction = other.transaction().await.unwrap();
    let row = format!("SELECT FROM {} WHERE lock_id = $1 FOR UPDATE", table("cost"));
    transaction.query_one(&row, &[&LOCKED]).await.unwrap();
    // A statement that fails is not counted.
    let careful = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query LIKE '%SKIP LOCKED%'
                   AND query NOT LIKE '%pg_stat_statements%'";
    check(&store.insert_many(&requests).await, |answer| matches!(answer, Inserted::Granted(_)));
    assert_eq!(admin.query_one(careful, &[]).await.unwrap().get::<_, i64>(0), 1);
    let renewals: Vec<_> = names().map(|name| renewal(&name, holder, MINUTE)).collect();
    check(&store.renew_many(&renewals).await, |answer| matches!(answer, Renewed::Renewed(_)));
    assert_eq!(admin.query_one(careful, &[]).await.unwrap().get::<_, i64>(0), 2);
    transaction.rollback().await.unwrap();
}

fn check_all(answers: &[Result<Inserted, StoreError>]) {
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))), "{answers:?}");
}

/// Inserts the row of the locked id as another process does, whose transaction does not end.
async fn insert_by_hand(transaction: &Transaction<'_>, table: &str) {
    let row = format!(
        "INSERT INTO {table} (lock_id, owner, fence, holder, acquired_at, expires_at, ttl)
         VALUES ($1, decode(repeat('00', 16), 'hex'), 1, 'another', 1, 9223372036854775807, 9223372036854775807)"
    );
    transaction.execute(&row, &[&LOCKED]).await.unwrap();
}

#[tokio::test]
async fn an_id_inserted_and_not_committed_is_busy_and_its_batch_goes_on() {
    let store = store("uncommitted").await;
    let mut other = administrator().await;
    let transaction = other.transaction().await.unwrap();
    insert_by_hand(&transaction, table("uncommitted").as_str()).await;

    let begun = Instant::now();
    assert!(is_busy(&ask(&store, LOCKED, MINUTE).await));
    let requests: Vec<_> = names().map(|name| insert(&name, owner(), MINUTE)).collect();
    check(&store.insert_many(&requests).await, |answer| matches!(answer, Inserted::Granted(_)));
    println!("beside an insert that is not committed, two calls took {:?}", begun.elapsed());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());

    // The next attempt sees its outcome.
    transaction.rollback().await.unwrap();
    grant(&store, LOCKED, MINUTE).await;
}

/// A statement may take long to get to the row. That is no sign of a locked table.
#[tokio::test]
async fn a_slow_statement_that_meets_an_uncommitted_id_is_busy() {
    let store = store("slow").await;
    let (table, mut other) = (table("slow"), administrator().await);
    let slow = format!(
        "CREATE FUNCTION {table}_slow() RETURNS trigger LANGUAGE plpgsql AS
         $$BEGIN PERFORM pg_sleep(1.1); RETURN NEW; END$$;
         CREATE TRIGGER slow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_slow()"
    );
    other.batch_execute(&slow).await.unwrap();
    let transaction = other.transaction().await.unwrap();
    insert_by_hand(&transaction, table.as_str()).await;
    assert!(is_busy(&ask(&store, LOCKED, MINUTE).await));
}

/// The same in a batch of hundreds, with several such ids.
#[tokio::test]
async fn many_ids_are_divided_until_the_uncommitted_are_alone() {
    let store = store("divided").await;
    let mut other = administrator().await;
    let transaction = other.transaction().await.unwrap();
    let rows = format!(
        "INSERT INTO {} (lock_id, owner, fence, holder, acquired_at, expires_at, ttl)
         SELECT 'job-' || n * 100, NULL, 1, 'another', 1, 0, 1 FROM generate_series(0, 4) AS n",
        table("divided")
    );
    transaction.batch_execute(&rows).await.unwrap();
    let requests: Vec<_> = (0..500).map(|number| insert(&format!("job-{number}"), owner(), MINUTE)).collect();
    let begun = Instant::now();
    let answers = store.insert_many(&requests).await;
    println!("500 ids, 5 of them inserted and not committed: {:?}", begun.elapsed());
    for (number, answer) in answers.iter().enumerate() {
        match number % 100 {
            0 => assert!(is_busy(answer), "job-{number}: {answer:?}"),
            _ => assert!(matches!(answer, Ok(Inserted::Granted(_))), "job-{number}: {answer:?}"),
        }
    }
    transaction.rollback().await.unwrap();
}

/// A grant that waits for a synchronous replica which is gone has a row that no one else sees, and does not end.
#[tokio::test]
async fn a_grant_that_waits_for_a_replica_is_busy_to_others() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    let one = builder("replicated").connect(server.url()).await.unwrap();
    let two = builder("replicated").connect(server.url()).await.unwrap();
    grant(&two, "warm", MINUTE).await;
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // The setting reaches each process by a signal. Backends wait once the checkpointer has it; one that does not yet is
    // granted its lock, and the next is asked for.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut number = 0;
    let (stuck, grant) = loop {
        let (one, name) = (one.clone(), format!("job-{number}"));
        let mut grant = tokio::spawn({
            let name = name.clone();
            async move { ask(&one, &name, MINUTE).await }
        });
        tokio::select! {
            answer = &mut grant => assert!(matches!(answer.unwrap().unwrap(), Inserted::Granted(_))),
            () = until(&admin, waiting, &[], 1) => break (name, grant),
        }
        number += 1;
    };

    let begun = Instant::now();
    assert!(is_busy(&ask(&two, &stuck, MINUTE).await));
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    admin.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    assert!(matches!(grant.await.unwrap().unwrap(), Inserted::Granted(_)));
    assert!(matches!(ask(&two, &stuck, MINUTE).await.unwrap(), Inserted::Held(_)));
}
