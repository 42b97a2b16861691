//! Rows that another transaction has locked: nothing waits for them, and nothing else suffers from them.

use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{StoreError, Ttl};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::Conn;
use db_mutex_mysql::mysql_async::prelude::Queryable;

use crate::database::{Database, MINUTE, ask, both, busy, granted, id, request, until_free, waits_for_no_lock};

const LOCKED: &str = "job 07";

/// The ways in which a transaction may lock a row.
const WAYS: [&str; 2] = ["FOR UPDATE", "LOCK IN SHARE MODE"];

async fn lock(database: &Database, how: &str) -> Conn {
    let mut other = database.connection().await;
    other.query_drop("START TRANSACTION").await.unwrap();
    let select = format!("SELECT fence FROM {} WHERE lock_id = '{LOCKED}' {how}", database.table);
    assert!(other.query_first::<i64, _>(select).await.unwrap().is_some());
    other
}

fn twenty() -> Vec<InsertRequest> {
    (0..20).map(|number| request(&format!("job {number:02}"), MINUTE)).collect()
}

/// All but the locked one have to be as they should.
#[track_caller]
fn all_but_one<A: std::fmt::Debug>(answers: Vec<Result<A, StoreError>>, good: impl Fn(&A) -> bool) {
    assert_eq!(answers.len(), 20);
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            answer if at == 7 => busy(answer),
            Ok(answer) if good(&answer) => {}
            other => panic!("a locked row has to leave the others alone; one got {other:?}"),
        }
    }
}

async fn insert_all(store: &MySqlStore, requests: &[InsertRequest]) {
    for answer in store.insert_many(requests).await {
        granted(answer.unwrap());
    }
}

fn releases_of(requests: &[InsertRequest]) -> Vec<DeleteRequest> {
    requests.iter().map(|request| DeleteRequest::by_owner(request.lock_id.clone(), request.owner)).collect()
}

#[tokio::test]
async fn a_held_lock_whose_row_is_locked_is_busy_for_its_owner() {
    for (database, how) in both().into_iter().flat_map(|database| WAYS.map(|how| (Database::new(&database.url), how))) {
        let store = database.store().await;
        let held = twenty();
        insert_all(&store, &held).await;
        let other = lock(&database, how).await;
        let mine = &held[7];
        let renewal = RenewRequest::new(mine.lock_id.clone(), mine.owner, Ttl::NEVER);
        let fence = store.find(&mine.lock_id).await.unwrap().unwrap().fence;
        waits_for_no_lock(async |_| {
            busy(store.insert_if_absent(mine).await);
            busy(store.renew(&renewal).await);
            busy(store.delete(&DeleteRequest::by_owner(mine.lock_id.clone(), mine.owner)).await);
            busy(store.delete(&DeleteRequest::by_fence(mine.lock_id.clone(), fence)).await);
            assert!(matches!(ask(&store, LOCKED, MINUTE).await.unwrap(), Inserted::Held(_)));
            all_but_one(store.insert_many(&held).await, |answer| matches!(answer, Inserted::Granted(_)));
            let renewals: Vec<_> =
                held.iter().map(|held| RenewRequest::new(held.lock_id.clone(), held.owner, Ttl::NEVER)).collect();
            all_but_one(store.renew_many(&renewals).await, |answer| matches!(answer, Renewed::Renewed(_)));
        })
        .await;
        all_but_one(store.delete_many(&releases_of(&held)).await, |answer| *answer == Deleted::Released);
        all_but_one(store.delete_many(&releases_of(&held)).await, |answer| *answer == Deleted::Already);
        drop(other);
    }
}

#[tokio::test]
async fn a_free_lock_whose_row_is_locked_is_busy() {
    for (database, how) in both().into_iter().flat_map(|database| WAYS.map(|how| (Database::new(&database.url), how))) {
        let store = database.store().await;
        let before = twenty();
        insert_all(&store, &before).await;
        for answer in store.delete_many(&releases_of(&before)).await {
            assert_eq!(answer.unwrap(), Deleted::Released);
        }
        let other = lock(&database, how).await;
        waits_for_no_lock(async |_| {
            busy(ask(&store, LOCKED, MINUTE).await);
            let asked = twenty();
            all_but_one(store.insert_many(&asked).await, |answer| matches!(answer, Inserted::Granted(_)));
            for (at, answer) in store.delete_many(&releases_of(&asked)).await.into_iter().enumerate() {
                // A read tells that the locked one is not held.
                assert_eq!(answer.unwrap(), if at == 7 { Deleted::NotHeld } else { Deleted::Released });
            }
        })
        .await;
        drop(other);
    }
}

/// Its row still names the owner, and is not taken.
#[tokio::test]
async fn an_ended_lease_whose_row_is_locked_is_busy() {
    for database in both() {
        let store = database.store().await;
        granted(ask(&store, LOCKED, Duration::from_millis(100)).await.unwrap());
        until_free(&store, LOCKED).await;
        let other = lock(&database, "FOR UPDATE").await;
        waits_for_no_lock(async |_| {
            busy(ask(&store, LOCKED, MINUTE).await);
            all_but_one(store.insert_many(&twenty()).await, |answer| !matches!(answer, Inserted::Spent));
        })
        .await;
        drop(other);
    }
}

/// What is not committed can be seen, but not be skipped: without a look an insert waits for it.
#[tokio::test]
async fn a_lock_that_another_transaction_has_inserted_is_busy() {
    for database in both() {
        let store = database.store().await;
        let mut other = database.connection().await;
        other.query_drop("START TRANSACTION").await.unwrap();
        let insert =
            format!("INSERT INTO {} VALUES ('{LOCKED}', REPEAT('x', 16), NULL, 5, 'h', 1, NULL, ?, 1)", database.table);
        other.exec_drop(insert, (i64::MAX,)).await.unwrap();
        waits_for_no_lock(async |_| {
            busy(ask(&store, LOCKED, MINUTE).await);
            let asked = twenty();
            all_but_one(store.insert_many(&asked).await, |answer| matches!(answer, Inserted::Granted(_)));
            for answer in store.delete_many(&releases_of(&asked)).await {
                answer.unwrap();
            }
            // Nothing that is not committed is shown.
            assert!(store.find(&id(LOCKED)).await.unwrap().is_none());
        })
        .await;
        other.query_drop("COMMIT").await.unwrap();
        assert!(matches!(ask(&store, LOCKED, MINUTE).await.unwrap(), Inserted::Held(_)));
    }
}

/// A row that is locked stays, and the others go.
#[tokio::test]
async fn a_purge_leaves_locked_rows() {
    for database in both() {
        let store = database.store().await;
        let before = twenty();
        insert_all(&store, &before).await;
        store.delete_many(&releases_of(&before)).await;
        let other = database.lock_row(LOCKED).await;
        waits_for_no_lock(async |_| {
            store.purge_expired(Duration::ZERO).await.unwrap();
        })
        .await;
        assert_eq!(database.rows::<String>("SELECT CAST(lock_id AS CHAR) FROM {t}").await, [LOCKED]);
        drop(other);
    }
}

/// A grant that waits for a replica is not committed yet. "Not held" would leave it behind, with no one to release it.
#[tokio::test]
async fn a_release_while_the_grant_is_not_committed_is_busy() {
    for database in both() {
        let store = database.store().await;
        granted(ask(&store, "template", MINUTE).await.unwrap());
        let mine = request("job", MINUTE);
        let release = DeleteRequest::by_owner(mine.lock_id.clone(), mine.owner);
        let mut granting = database.connection().await;
        granting.query_drop("START TRANSACTION").await.unwrap();
        let grant = format!(
            "INSERT INTO {t} (lock_id, owner, fence, holder, acquired_at, expires_at, ttl)
             SELECT 'job', X'{owner}', fence, holder, acquired_at, expires_at, ttl FROM {t} WHERE lock_id = 'template'",
            t = database.table,
            owner = mine.owner.to_hex()
        );
        granting.query_drop(grant).await.unwrap();
        busy(store.delete(&release).await);
        busy(store.delete_many(std::slice::from_ref(&release)).await.remove(0));
        granting.query_drop("COMMIT").await.unwrap();
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
    }
}

/// In version 1 the whole batch of renewals failed, and all of these leases were lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_loses_no_unrelated_lease() {
    for database in both() {
        let mutex = database.mutex().await;
        let mut guards = Vec::new();
        for number in 0..20 {
            let lock = mutex.lock(format!("job {number:02}")).ttl(Duration::from_secs(9)).keep_alive(true);
            guards.push(lock.acquire().await.unwrap());
        }
        let locked = lock(&database, "FOR UPDATE").await;
        tokio::time::sleep(Duration::from_secs(12)).await;
        let lost: Vec<_> =
            guards.iter().filter(|guard| !guard.is_valid()).map(|guard| guard.lock_id().as_str()).collect();
        assert_eq!(lost, [LOCKED]);
        drop(locked);
        drop(guards.remove(7));
        for guard in guards {
            guard.release().await.unwrap();
        }
    }
}
