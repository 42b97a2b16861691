//! A proxy that leads to another server when the first one is down.

use std::time::Duration;

use db_mutex_core::store::LockStore;
use db_mutex_core::{DbMutex, LostReason};
use db_mutex_postgres::PostgresStore;
use db_mutex_test_servers::OwnServer;
use tokio::time::Instant;

use crate::{request, table, work};

/// The other server is empty: what was held on the first is not held there. New locks are granted as soon as the proxy has
/// noticed, by a store that knows nothing of the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "scripts/test-long has this server"]
async fn haproxy_leads_to_another_server() {
    let servers = OwnServer::start("haproxy");
    let builder = || PostgresStore::builder().table(table("switching"));
    let second = builder().connect(&servers.url_of("postgres-plain")).await.unwrap();
    let store = builder().connect(servers.url()).await.unwrap();
    work(&store, "job").await;
    let mutex = DbMutex::new(store.clone()).unwrap();
    let guard = mutex.lock("held").ttl(Duration::from_secs(30)).keep_alive(true).acquire().await.unwrap();

    servers.kill_server("postgres");
    let switched = Instant::now();
    // What was on its way may still be granted by the first.
    while second.find(&request("next").lock_id).await.unwrap().is_none() {
        assert!(switched.elapsed() < Duration::from_secs(60), "the other server gets nothing");
        let next = mutex.lock("next").wait(Duration::from_secs(30)).acquire().await.unwrap();
        drop(next.release().await);
    }
    println!("granted by the other server after {:?}", switched.elapsed());
    work(&store, "job").await;
    // The other server does not know the lock, so the guard learns of the loss, at the latest when its lease ends.
    let lost = tokio::time::timeout(Duration::from_secs(30), guard.lost()).await;
    println!("the lease was lost after {:?}: {lost:?}", switched.elapsed());
    assert_eq!(lost.expect("it has to be told"), LostReason::Missing);
    assert!(mutex.shutdown(Duration::from_secs(30)).await.is_empty());
}
