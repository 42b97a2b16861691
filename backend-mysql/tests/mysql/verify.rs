use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, LockStore, VerifyQuery};
use db_mutex_core::{DbMutex, Error, Guard};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::prelude::Queryable;
use db_mutex_mysql::mysql_async::{self, Conn, IsolationLevel, Transaction, TxOpts};

use crate::database::{Database, MINUTE, ask, both, busy, force, granted, id, request, until_free, waits_for_no_lock};

struct Bench {
    store: MySqlStore,
    guard: Guard,
    mine: Conn,
    mutex: DbMutex,
}

/// A lock that is held for `ttl`, and a connection of the user's own with a table to work on.
async fn bench(database: &Database, ttl: Duration) -> Bench {
    let store = database.store().await;
    let mutex = database.mutex().await;
    database.run("CREATE TABLE {t}_work (done INTEGER) ENGINE = InnoDB").await;
    let guard = mutex.lock("job").ttl(ttl).acquire().await.unwrap();
    Bench { store, guard, mine: database.connection().await, mutex }
}

async fn begin(mine: &mut Conn, isolation: IsolationLevel) -> Transaction<'_> {
    let mut options = TxOpts::new();
    options.with_isolation_level(isolation);
    mine.start_transaction(options).await.unwrap()
}

/// As a user of another driver would.
async fn send(transaction: &mut Transaction<'_>, query: VerifyQuery<'_>) -> Result<Option<i64>, mysql_async::Error> {
    transaction.exec_first(query.sql, (query.lock_id, query.owner)).await
}

const ISOLATIONS: [IsolationLevel; 3] =
    [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

#[tokio::test]
async fn a_verified_commit_is_protected_beyond_the_lease() {
    for isolation in ISOLATIONS {
        for database in both() {
            let Bench { store, guard, mut mine, mutex } = bench(&database, Duration::from_secs(1)).await;
            let mut transaction = begin(&mut mine, isolation).await;
            assert_eq!(store.verify_in(&mut transaction, &guard).await.unwrap(), guard.fence());
            until_free(&store, "job").await;

            // The lease is over, but a takeover would have to change what the transaction has locked. It does not wait for
            // that (a lock wait takes a second at least), and neither do the other requests of its batch.
            waits_for_no_lock(async |round| {
                busy(ask(&store, "job", MINUTE).await);
                let [later, other] = ["later", "other"].map(|name| request(&format!("{name} {round}"), MINUTE));
                let mut answers = store.insert_many(&[request("job", MINUTE), later, other]).await;
                granted(answers.pop().unwrap().unwrap());
                granted(answers.pop().unwrap().unwrap());
                busy(answers.pop().unwrap());
            })
            .await;

            let refused = mutex.lock("job").acquire().await.unwrap_err();
            // No error says that it is held: a row that stays locked need not have a holder.
            assert!(refused.is_transient() && !refused.is_held(), "{refused:?}");
            transaction.query_drop(format!("INSERT INTO {}_work VALUES (1)", database.table)).await.unwrap();
            transaction.commit().await.unwrap();
            assert!(granted(ask(&store, "job", MINUTE).await.unwrap()).fence > guard.fence());
        }
    }
}

#[tokio::test]
async fn renewals_go_on_beside_a_verified_transaction() {
    for isolation in ISOLATIONS {
        for database in both() {
            let Bench { store, guard, mut mine, .. } = bench(&database, Duration::from_secs(20)).await;
            let mut transaction = begin(&mut mine, isolation).await;
            store.verify_in(&mut transaction, &guard).await.unwrap();
            waits_for_no_lock(async |_| guard.extend(MINUTE).await.unwrap()).await;
            // And the transaction, whose snapshot is older than the renewal, verifies by the renewed lease.
            store.verify_in(&mut transaction, &guard).await.unwrap();
            transaction.commit().await.unwrap();
            guard.release().await.unwrap();
        }
    }
}

/// At READ COMMITTED on both; what sorts just before the lock is held up on MariaDB at REPEATABLE READ.
#[tokio::test]
async fn a_verified_transaction_does_not_hold_up_other_locks() {
    for (database, by_closure) in both().into_iter().zip([false; 2]).chain(both().into_iter().zip([true; 2])) {
        let Bench { store, guard, mut mine, .. } = bench(&database, MINUTE).await;
        let earlier = request("iob", MINUTE);
        granted(store.insert_if_absent(&earlier).await.unwrap());
        let mut transaction = begin(&mut mine, IsolationLevel::ReadCommitted).await;
        if by_closure {
            // With parameters, whose types the server could compare in another way than by the index.
            store.verify_with(&mut transaction, &guard, send).await.unwrap();
        } else {
            store.verify_in(&mut transaction, &guard).await.unwrap();
        }
        waits_for_no_lock(async |round| {
            for neighbour in ["j", "jo", "joa", "job ", "job1", "joc"] {
                granted(ask(&store, &format!("{neighbour}{round}"), MINUTE).await.unwrap());
            }
        })
        .await;
        let mut owner = earlier.owner;
        waits_for_no_lock(async |_| {
            store.delete(&DeleteRequest::by_owner(id("iob"), owner)).await.unwrap();
            let again = request("iob", MINUTE);
            granted(store.insert_if_absent(&again).await.unwrap());
            owner = again.owner;
        })
        .await;
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_stale_holder_cannot_verify() {
    for isolation in ISOLATIONS {
        for database in both() {
            let Bench { store, guard, mut mine, .. } = bench(&database, Duration::from_secs(1)).await;
            let mut transaction = begin(&mut mine, isolation).await;
            // A snapshot in which the lock is still held.
            let work = format!("SELECT count(*) FROM {}_work", database.table);
            transaction.query_drop(work).await.unwrap();
            until_free(&store, "job").await;
            granted(ask(&store, "job", MINUTE).await.unwrap());
            let error = store.verify_in(&mut transaction, &guard).await.unwrap_err();
            assert!(error.is_lost(), "{error:?}");
            transaction.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_ended_lease_cannot_be_verified_even_if_no_one_took_it() {
    for database in both() {
        let Bench { store, guard, mut mine, .. } = bench(&database, Duration::from_secs(1)).await;
        until_free(&store, "job").await;
        let mut transaction = begin(&mut mine, IsolationLevel::ReadCommitted).await;
        assert!(store.verify_in(&mut transaction, &guard).await.unwrap_err().is_lost());
        transaction.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_released_by_force_cannot_be_verified() {
    for database in both() {
        let Bench { store, guard, mut mine, .. } = bench(&database, MINUTE).await;
        assert_eq!(force(&store, "job").await, Deleted::Released);
        let mut transaction = begin(&mut mine, IsolationLevel::ReadCommitted).await;
        assert!(store.verify_in(&mut transaction, &guard).await.unwrap_err().is_lost());
        transaction.rollback().await.unwrap();
    }
}

/// It cannot be given back under the transaction that counts on it: an error, and not "it was not held".
#[tokio::test]
async fn a_release_before_the_commit_is_busy_and_not_lost() {
    for database in both() {
        let Bench { store, guard, mut mine, .. } = bench(&database, MINUTE).await;
        let mut transaction = begin(&mut mine, IsolationLevel::ReadCommitted).await;
        store.verify_in(&mut transaction, &guard).await.unwrap();
        waits_for_no_lock(async |_| {
            let release = DeleteRequest::by_owner(id("job"), *guard.owner_token());
            busy(store.delete(&release).await);
            busy(store.delete_many(&[release]).await.remove(0));
            busy(store.delete(&DeleteRequest::by_fence(id("job"), guard.fence())).await);
        })
        .await;
        transaction.commit().await.unwrap();
        guard.release().await.unwrap();
    }
}

#[tokio::test]
async fn another_driver_verifies_the_same() {
    for isolation in ISOLATIONS {
        for database in both() {
            let Bench { store, guard, mut mine, .. } = bench(&database, Duration::from_secs(1)).await;
            let mut transaction = begin(&mut mine, isolation).await;
            let mut answers = Vec::new();
            let mut noted = async |transaction: &mut Transaction<'_>, query: VerifyQuery<'_>| {
                let answer = send(transaction, query).await?;
                answers.push(answer);
                Ok::<_, mysql_async::Error>(answer)
            };
            assert_eq!(store.verify_with(&mut transaction, &guard, &mut noted).await.unwrap(), guard.fence());
            until_free(&store, "job").await;
            // The statement alone would do: it still returns a row.
            let error = store.verify_with(&mut transaction, &guard, &mut noted).await.unwrap_err();
            assert!(error.is_lost(), "the lease is over: {error:?}");
            assert!(matches!(answers[..], [Some(_), Some(_)]), "{answers:?}");
            busy(ask(&store, "job", MINUTE).await);
            transaction.commit().await.unwrap();
            granted(ask(&store, "job", MINUTE).await.unwrap());
        }
    }
}

#[tokio::test]
async fn another_driver_cannot_verify_a_lost_lock() {
    for isolation in ISOLATIONS {
        for database in both() {
            let Bench { store, guard, mut mine, .. } = bench(&database, MINUTE).await;
            let mut transaction = begin(&mut mine, isolation).await;
            // A snapshot in which the lock is still held.
            transaction.query_drop(format!("SELECT count(*) FROM {}_work", database.table)).await.unwrap();
            assert_eq!(force(&store, "job").await, Deleted::Released);
            assert!(store.verify_with(&mut transaction, &guard, send).await.unwrap_err().is_lost());
            transaction.rollback().await.unwrap();
        }
    }
}

/// What the closure of a driver that blocks returns is judged alike, and its error is there to be looked at.
#[tokio::test]
async fn a_driver_that_blocks_is_judged_alike() {
    for database in both() {
        let Bench { store, guard, .. } = bench(&database, MINUTE).await;
        let ends = guard.lease().expires_at.as_micros();
        let verify =
            |answer: Result<Option<i64>, std::fmt::Error>| store.blocking_verify_with(&mut (), &guard, |(), _| answer);
        assert_eq!(verify(Ok(Some(ends - 1))).unwrap(), guard.fence());
        let error = verify(Err(std::fmt::Error)).unwrap_err();
        let Error::Store { source, .. } = error else { panic!("{error:?}") };
        assert!(std::error::Error::source(&source).unwrap().is::<std::fmt::Error>());
        assert!(verify(Ok(Some(ends))).unwrap_err().is_lost());
        assert!(verify(Ok(None)).unwrap_err().is_lost());
    }
}
