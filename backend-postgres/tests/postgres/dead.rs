//! Connections and servers that do not answer, while a new connection works.

use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::Ttl;
use db_mutex_core::store::{Deleted, Inserted, LockStore};
use db_mutex_postgres::PostgresStore;
use db_mutex_postgres::deadpool_postgres::{Manager, Pool};
use db_mutex_postgres::tokio_postgres::NoTls;
use db_mutex_test_servers::{OwnServer, Proxy};
use tokio::time::sleep;

use crate::database::{MINUTE, builder, insert, owner, release, table, until};
use crate::server::{connection, url, with_parameters};

/// Opens all connections of a store.
async fn warm(store: &PostgresStore) {
    let warm = |number| {
        let store = store.clone();
        tokio::spawn(async move { store.insert_if_absent(&insert(&format!("warm {number}"), owner(), MINUTE)).await })
    };
    let all: Vec<_> = (0..16).map(warm).collect();
    for one in all {
        assert!(matches!(one.await.unwrap(), Ok(Inserted::Granted(_))));
    }
}

/// Version 1 waited its whole time for each of the dead ones, one request after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_though_all_connections_are_dead() {
    let proxy = Proxy::to(&url("postgres")).await;
    let store = builder("dead").connect(proxy.url()).await.unwrap();
    warm(&store).await;
    let (before, after) = (owner(), owner());
    store.insert_if_absent(&insert("before", before, MINUTE)).await.unwrap();
    proxy.forget();
    assert_eq!(store.delete(&release("before", before)).await.unwrap(), Deleted::Released);
    assert!(matches!(store.insert_if_absent(&insert("after", after, MINUTE)).await.unwrap(), Inserted::Granted(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_ten_seconds_outlives_its_connections() {
    let proxy = Proxy::to(&url("postgres")).await;
    let mutex = DbMutex::new(builder("dead_lease").connect(proxy.url()).await.unwrap()).unwrap();
    let guard = mutex.lock("job").ttl(Duration::from_secs(10)).keep_alive(true).acquire().await.unwrap();
    // Until it was renewed once, so that there are connections for that.
    sleep(Duration::from_secs(4)).await;
    for _ in 0..2 {
        proxy.forget();
        sleep(Duration::from_secs(8)).await;
        assert!(guard.is_valid(), "{:?}", guard.lost_reason());
    }
    guard.release().await.unwrap();
}

/// As after a failover that a load balancer has not noticed on the connections that there are.
#[tokio::test]
async fn a_connection_that_accepts_no_writes_is_left() {
    let url = with_parameters(&url("postgres"), "sslmode=disable");
    let manager = Manager::new(url.parse().unwrap(), NoTls);
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let store = builder("read_only_connection").from_pool(pool.clone()).await.unwrap();
    pool.get().await.unwrap().batch_execute("SET default_transaction_read_only = on").await.unwrap();
    let answer = store.insert_if_absent(&insert("job", owner(), MINUTE)).await.unwrap();
    assert!(matches!(answer, Inserted::Granted(_)));
}

/// In version 1 the lock was held forever, by a process that had said it could not acquire it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_standby_that_is_gone_is_given_up_and_leaves_nothing_held() {
    let server = OwnServer::start("postgres");
    let store = builder("standby").statement_timeout(Duration::from_secs(4)).connect(server.url()).await.unwrap();
    let administrator = connection(server.url()).await;
    administrator.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'").await.unwrap();
    administrator.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let is_set = "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = 'gone'";
    until(&administrator, is_set, &[], 1).await;
    let mutex = DbMutex::new(store).unwrap();
    let error = mutex.lock("job").ttl(Ttl::NEVER).acquire().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("released in the background"), "{error}");
    let left = mutex.shutdown(Duration::from_secs(60)).await;
    let held = format!("SELECT count(*) FROM {} WHERE owner IS NOT NULL", table("standby"));
    until(&administrator, &held, &[], 0).await;
    println!("{left:?}");
}
