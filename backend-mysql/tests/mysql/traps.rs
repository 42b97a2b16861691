//! What MySQL, MariaDB and their driver have done to others.

use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{HolderName, OwnerToken, StoreErrorKind, Ttl};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::prelude::Queryable;

use crate::database::{MINUTE, ask, both, busy, granted, id, request, until, until_free, waits_for_no_lock};
use crate::servers::{open_hostile, pool_with};

/// Which statement of a round trip has failed decides what is known: here the write itself, before anything was done.
#[tokio::test]
async fn a_write_that_the_server_has_undone_is_busy_on_all_connections() {
    for database in both() {
        let own = database.store().await;
        let pool = pool_with(&database.url, "");
        let borrowed = MySqlStore::builder().table(database.table.clone()).from_pool(pool).await.unwrap();
        let signal = "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213";
        database.run(&format!("CREATE TRIGGER {{t}}_undo AFTER INSERT ON {{t}} FOR EACH ROW {signal}")).await;
        for store in [own, borrowed] {
            let many = store.insert_many(&[request("one", MINUTE), request("two", MINUTE)]).await;
            for answer in many.into_iter().chain([ask(&store, "job", MINUTE).await]) {
                let error = answer.unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
                assert!(error.is_undone(), "{error:?}");
            }
        }
    }
}

/// Assigned in another order, `expires_at` first, a refused attempt prolonged the holder's lease.
#[tokio::test]
async fn a_refused_attempt_leaves_every_column_alone() {
    for database in both() {
        let store = database.store().await;
        let holder = request("job", MINUTE);
        granted(store.insert_if_absent(&holder).await.unwrap());
        let columns = "SELECT HEX(owner), fence, holder, acquired_at, released_at, expires_at FROM {t}";
        type Columns = (String, i64, String, i64, Option<i64>, i64);
        let before: Vec<Columns> = database.rows(columns).await;
        let other =
            InsertRequest::new(id("job"), OwnerToken::mint().unwrap(), Ttl::NEVER, HolderName::new("x").unwrap());
        assert!(matches!(store.insert_if_absent(&other).await.unwrap(), Inserted::Held(_)));
        assert_eq!(database.rows::<Columns>(columns).await, before);
    }
}

/// An upsert locks the row before it finds that it has nothing to do.
#[tokio::test]
async fn a_refused_attempt_locks_nothing() {
    for database in both() {
        let store = database.store().await;
        granted(ask(&store, "job", MINUTE).await.unwrap());
        let mut other = database.connection().await;
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop(format!("SELECT fence FROM {} FOR UPDATE", database.table)).await.unwrap();
        waits_for_no_lock(async |_| {
            assert!(matches!(ask(&store, "job", MINUTE).await.unwrap(), Inserted::Held(_)));
            assert!(matches!(store.insert_many(&[request("job", MINUTE)]).await[0], Ok(Inserted::Held(_))));
        })
        .await;
        other.query_drop("COMMIT").await.unwrap();
    }
}

/// The plain read sees what is not committed; what is reported is what is committed.
#[tokio::test]
async fn an_attempt_during_an_uncommitted_takeover_is_busy_and_then_refused() {
    for database in both() {
        let store = database.store().await;
        let first = request("job", MINUTE);
        granted(store.insert_if_absent(&first).await.unwrap());
        store.delete(&DeleteRequest::by_owner(id("job"), first.owner)).await.unwrap();

        let mut overtaking = database.connection().await;
        overtaking.query_drop("START TRANSACTION").await.unwrap();
        let take = format!("UPDATE {} SET owner = REPEAT('x', 16), expires_at = {}", database.table, i64::MAX);
        overtaking.query_drop(take).await.unwrap();
        let before: Option<i64> =
            overtaking.query_first(format!("SELECT fence FROM {}", database.table)).await.unwrap();
        waits_for_no_lock(async |_| {
            busy(ask(&store, "job", MINUTE).await);
            busy(store.insert_many(&[request("job", MINUTE)]).await.remove(0));
        })
        .await;
        overtaking.query_drop("COMMIT").await.unwrap();
        assert!(matches!(ask(&store, "job", MINUTE).await.unwrap(), Inserted::Held(_)));
        assert_eq!(database.rows::<Option<i64>>("SELECT fence FROM {t}").await, [before]);
    }
}

/// A renewal to the same value affects no row.
#[tokio::test]
async fn a_renewal_that_changes_nothing_is_renewed() {
    for database in both() {
        let store = database.store().await;
        let holder = request("job", MINUTE);
        granted(store.insert_if_absent(&holder).await.unwrap());
        for _ in 0..2 {
            let renewed = store.renew(&RenewRequest::new(id("job"), holder.owner, Ttl::NEVER)).await.unwrap();
            assert!(matches!(renewed, Renewed::Renewed(_)));
        }
    }
}

/// With `NOW()` a lock acquired from one time zone is expired, or hours too long, in another.
#[tokio::test]
async fn sessions_in_other_time_zones_see_the_same_lease() {
    for database in both() {
        let name = database.table.to_string();
        let east = open_hostile(&database.url, name.clone(), "SET SESSION time_zone = '+13:00'").await;
        let west = open_hostile(&database.url, name, "SET SESSION time_zone = '-12:00'").await;
        let lease = granted(ask(&east, "job", MINUTE).await.unwrap());
        let Inserted::Held(holder) = ask(&west, "job", MINUTE).await.unwrap() else { panic!("taken over") };
        assert!(holder.expires_in.unwrap() <= MINUTE && holder.expires_in.unwrap() > MINUTE / 2);
        assert_eq!(west.find(&id("job")).await.unwrap().unwrap().expires_at, lease.expires_at);
    }
}

#[tokio::test]
async fn a_connection_of_the_users_pool_is_given_back_as_it_was() {
    for (database, isolation) in both().into_iter().zip(["tx_isolation", "transaction_isolation"]) {
        let set = format!(
            "SET SESSION autocommit = 0, sql_mode = 'PIPES_AS_CONCAT', innodb_lock_wait_timeout = 33, \
             lock_wait_timeout = 44, {isolation} = 'SERIALIZABLE', time_zone = '+05:30'"
        );
        let pool = pool_with(&database.url, &set);
        let read = format!(
            "SELECT @@autocommit, @@sql_mode, @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@{isolation}, @@time_zone"
        );
        type Settings = (i64, String, i64, i64, String, String);
        let store = MySqlStore::builder().table(database.table.clone()).from_pool(pool.clone()).await.unwrap();
        granted(ask(&store, "job", MINUTE).await.unwrap());
        let releases = ["job", "x"].map(|name| DeleteRequest::by_owner(id(name), OwnerToken::mint().unwrap()));
        for answer in store.delete_many(&releases).await {
            assert_eq!(answer.unwrap(), Deleted::NotHeld);
        }
        // An error half-way, too.
        database.run("RENAME TABLE {t} TO {t}_gone").await;
        assert!(ask(&store, "job", MINUTE).await.is_err());
        assert!(store.delete_many(&releases).await.iter().all(Result::is_err));
        // All that the pool has.
        let mut connections = Vec::new();
        for _ in 0..8 {
            let mut connection = pool.get_conn().await.unwrap();
            let settings: Settings = connection.query_first(&read).await.unwrap().unwrap();
            let expected = (0, "PIPES_AS_CONCAT".into(), 33, 44, "SERIALIZABLE".to_owned(), "+05:30".to_owned());
            assert_eq!(settings, expected);
            connections.push(connection);
        }
    }
}

/// With `autocommit = 0` a lock vanished when its connection was closed.
#[tokio::test]
async fn what_is_acquired_through_a_pool_without_autocommit_stays() {
    for database in both() {
        let pool = pool_with(&database.url, "SET SESSION autocommit = 0");
        let store = MySqlStore::builder().table(database.table.clone()).from_pool(pool.clone()).await.unwrap();
        granted(ask(&store, "job", MINUTE).await.unwrap());
        drop(store);
        pool.disconnect().await.unwrap();
        assert!(database.store().await.find(&id("job")).await.unwrap().unwrap().is_taken());
    }
}

/// The driver's pool went on while the statement of a dropped future was still waiting in the server.
#[tokio::test(flavor = "multi_thread")]
async fn an_acquisition_that_was_dropped_while_it_waits_in_the_server_is_released() {
    for database in both() {
        let (mutex, store) = (database.mutex().await, database.store().await);
        mutex.lock("another").acquire().await.unwrap().release().await.unwrap();
        // The table is locked, as it is while it is altered, so that the acquisition waits in the server.
        let mut blocking = database.connection().await;
        blocking.query_drop(format!("LOCK TABLES {} WRITE", database.table)).await.unwrap();

        let lock = mutex.lock("job");
        let acquiring = tokio::time::timeout(Duration::from_millis(200), lock.acquire()).await;
        assert!(acquiring.is_err(), "the acquisition has to be waiting: {acquiring:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        blocking.query_drop("UNLOCK TABLES").await.unwrap();
        assert!(mutex.shutdown(Duration::from_secs(30)).await.is_empty());
        assert!(!store.find(&id("job")).await.unwrap().unwrap().owned);
        granted(ask(&store, "job", MINUTE).await.unwrap());
    }
}

#[tokio::test]
async fn a_fence_at_its_end_is_an_error_and_not_a_smaller_fence() {
    for database in both() {
        let store = database.store().await;
        granted(ask(&store, "job", Duration::from_millis(100)).await.unwrap());
        until_free(&store, "job").await;
        database.run(&format!("UPDATE {{t}} SET fence = {}", i64::MAX)).await;
        let answer = ask(&store, "job", MINUTE).await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

/// A clock that was ahead leaves a fencing token ahead. Without its row the id would start again at the clock.
#[tokio::test]
async fn a_purge_spares_a_fence_that_is_not_old_enough() {
    for database in both() {
        let store = database.store().await;
        let holder = request("job", MINUTE);
        granted(store.insert_if_absent(&holder).await.unwrap());
        store.delete(&DeleteRequest::by_owner(id("job"), holder.owner)).await.unwrap();
        let hour_us = 3_600_000_000_i64;
        database.run(&format!("UPDATE {{t}} SET released_at = released_at - {hour_us}")).await;
        assert_eq!(store.purge_expired(MINUTE).await.unwrap(), 0);
        database.run(&format!("UPDATE {{t}} SET fence = fence - {hour_us}")).await;
        assert_eq!(store.purge_expired(MINUTE).await.unwrap(), 1);
    }
}

/// A clock that stepped back must not let a released lock rest until it has caught up.
#[tokio::test]
async fn a_release_after_a_step_back_of_the_clock_leaves_no_rest() {
    for database in both() {
        let store = database.store().await;
        let holder = request("job", MINUTE);
        granted(store.insert_if_absent(&holder).await.unwrap());
        let hour_us = 3_600_000_000_i64;
        let step =
            format!("UPDATE {{t}} SET acquired_at = acquired_at + {hour_us}, expires_at = expires_at + {hour_us}");
        database.run(&step).await;
        let release = DeleteRequest::by_owner(id("job"), holder.owner);
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
        assert!(!store.find(&id("job")).await.unwrap().unwrap().is_taken());
    }
}

/// `wait_timeout`, or an administrator, ends idle connections.
#[tokio::test]
async fn connections_that_were_killed_are_replaced() {
    for database in both() {
        let alone = MySqlStore::builder().table(database.table.clone());
        let pool = pool_with(&database.url, "");
        let id_of = async || -> u64 {
            let mut connection = pool.get_conn().await.unwrap();
            connection.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap()
        };
        let store = alone.from_pool(pool.clone()).await.unwrap();
        let victim = id_of().await;
        database.run(&format!("KILL {victim}")).await;
        granted(ask(&store, "two", MINUTE).await.unwrap());
        until(async || id_of().await != victim).await;
    }
}

/// What an acquisition has begun when its future is dropped is released by the background.
#[tokio::test]
async fn an_acquire_dropped_at_any_moment_leaves_no_ghost() {
    for database in both() {
        let mutex = database.mutex().await;
        for polls in 0..20 {
            let lock = mutex.lock("job").ttl(600 * MINUTE);
            let mut acquiring = Box::pin(lock.acquire());
            for _ in 0..polls {
                if tokio::time::timeout(Duration::from_micros(300), &mut acquiring).await.is_ok() {
                    break;
                }
            }
            drop(acquiring);
            assert_eq!(mutex.shutdown(Duration::from_secs(30)).await, Vec::new());
            assert!(!mutex.find("job").await.unwrap().is_some_and(|row| row.is_taken()), "dropped after {polls} polls");
        }
    }
}
