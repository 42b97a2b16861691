//! Transactions of the user's own on a node that lags.

use std::env;
use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Inserted, LockStore};
use db_mutex_mysql::mysql_async::prelude::Queryable;
use db_mutex_mysql::mysql_async::{Error, TxOpts};

use crate::cluster::{Cluster, MINUTE, id, request};

/// The row locks of the lagging node block no one elsewhere, and what was granted elsewhere has not arrived there. Half of the
/// leases are ended by an operator, the others by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_committed_on_a_node_that_lags_after_the_grant_of_a_successor() {
    let rounds = env::var("DB_MUTEX_GALERA_ROUNDS").map_or(2, |rounds| rounds.parse().expect("a number of rounds"));
    let cluster = Cluster::new().await;
    cluster.prepare_lag().await;
    cluster.run(0, "CREATE TABLE {t}_work (round INTEGER PRIMARY KEY)").await;
    let (elsewhere, here, holder) = (cluster.store(1).await, cluster.store(2).await, cluster.mutex(2).await);
    let mut mine = cluster.connection(2).await;
    let (mut committed, mut refused) = (0, 0);
    for round in 0..rounds {
        let lock_id = format!("job {round}");
        let is_forced = round % 2 == 0;
        let ttl = if is_forced { MINUTE } else { Duration::from_secs(1) };
        let guard = holder.lock(&lock_id).ttl(ttl).acquire().await.unwrap();
        let mut transaction = mine.start_transaction(TxOpts::new()).await.unwrap();
        here.verify_in(&mut transaction, &guard).await.unwrap();
        transaction.query_drop(format!("INSERT INTO {}_work VALUES ({round})", cluster.table)).await.unwrap();
        cluster.lag(1.5).await;
        if is_forced {
            let forced = DeleteRequest::by_fence(id(&lock_id), guard.fence());
            elsewhere.delete(&forced).await.unwrap();
        }
        let successor = request(&lock_id, MINUTE);
        loop {
            match elsewhere.insert_if_absent(&successor).await {
                Ok(Inserted::Granted(lease)) => break assert!(lease.fence > guard.fence()),
                Ok(Inserted::Held(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) if error.is_transient() => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other:?}"),
            }
        }
        match transaction.commit().await {
            Ok(()) => committed += 1,
            Err(Error::Server(server)) if server.code == 1213 => refused += 1,
            Err(error) => panic!("{error}"),
        }
        drop(guard);
    }
    println!("{committed} of {rounds} commits after the successor's grant, {refused} refused");
    assert_eq!(committed, 0);
    let done: Vec<i64> = cluster.rows(2, "SET SESSION wsrep_sync_wait = 7; SELECT round FROM {t}_work").await;
    assert!(done.is_empty(), "{done:?}");
}

/// With one row for both, a renewal would make the commit fail, or fail itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_on_another_node_go_on_beside_a_verified_transaction() {
    let cluster = Cluster::new().await;
    cluster.run(0, "CREATE TABLE {t}_work (round INTEGER PRIMARY KEY)").await;
    let (here, holder) = (cluster.store(2).await, cluster.mutex(1).await);
    let mut mine = cluster.connection(2).await;
    for round in 0..3 {
        let guard = holder.lock("job").ttl(Duration::from_secs(20)).acquire().await.unwrap();
        mine.query_drop("SET SESSION wsrep_sync_wait = 7; SELECT 1").await.unwrap();
        let mut transaction = mine.start_transaction(TxOpts::new()).await.unwrap();
        here.verify_in(&mut transaction, &guard).await.unwrap();
        for _ in 0..10 {
            guard.extend(MINUTE).await.unwrap();
        }
        transaction.query_drop(format!("INSERT INTO {}_work VALUES ({round})", cluster.table)).await.unwrap();
        here.verify_in(&mut transaction, &guard).await.unwrap();
        transaction.commit().await.unwrap();
        guard.release().await.unwrap();
    }
}

/// The rows that verifying needs go with those of the locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_removes_both_rows_of_a_lock_and_none_that_is_young() {
    let cluster = Cluster::new().await;
    let store = cluster.store(0).await;
    for number in 0..3 {
        let one = request(&format!("job {number}"), MINUTE);
        store.insert_if_absent(&one).await.unwrap();
        store.delete(&DeleteRequest::by_owner(one.lock_id, one.owner)).await.unwrap();
    }
    assert_eq!(store.purge_expired(Duration::ZERO).await.unwrap(), 0, "they are younger than a minute");
    cluster.run(0, "UPDATE {t} SET fence = fence - 90000000, released_at = released_at - 90000000 LIMIT 2").await;
    assert_eq!(store.purge_expired(Duration::ZERO).await.unwrap(), 2);
    let left: Vec<(i64, i64)> =
        cluster.rows(0, "SELECT (SELECT count(*) FROM {t}), (SELECT count(*) FROM {t}_verified)").await;
    assert_eq!(left, [(1, 1)]);
}
