//! Connections and servers that do not answer, or accept no writes any more, while a new connection works.

use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, ListFilter, LockStore};
use db_mutex_core::{DbMutex, TableName};
use db_mutex_mysql::MySqlStore;
use db_mutex_test_servers::{OwnServer, Proxy};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::database::{Database, MINUTE, ask, both, granted, id, request, until};
use crate::servers::pool_of;

/// Opens all connections of a store.
async fn warm(store: &MySqlStore) {
    let warm = |number| {
        let store = store.clone();
        tokio::spawn(async move { granted(ask(&store, &format!("warm {number}"), MINUTE).await.unwrap()) })
    };
    let all: Vec<_> = (0..32).map(warm).collect();
    for one in all {
        one.await.unwrap();
    }
}

/// Version 1 waited its whole time for each of the dead ones, one request after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_answered_though_all_connections_are_dead() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let store = MySqlStore::builder().table(database.table.clone()).connect(proxy.url()).await.unwrap();
        warm(&store).await;
        let before = request("before", MINUTE);
        granted(store.insert_if_absent(&before).await.unwrap());
        proxy.forget();
        let release = DeleteRequest::by_owner(id("before"), before.owner);
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
        granted(ask(&store, "after", MINUTE).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_ten_seconds_outlives_its_connections() {
    let [database, _] = both();
    let proxy = Proxy::to(&database.url).await;
    let store = MySqlStore::builder().table(database.table.clone()).connect(proxy.url()).await.unwrap();
    let mutex = DbMutex::new(store).unwrap();
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

/// As after a planned switchover: the connections that there are lead to the old primary, new ones to its successor.
#[tokio::test]
async fn a_server_that_became_read_only_is_left() {
    let (old, [new, _]) = (OwnServer::start("mariadb"), both());
    let table = TableName::new(format!("{}_switched", new.table)).unwrap();
    let as_app = |url: &str| format!("mysql://switched:switched@{}", url.rsplit_once('@').unwrap().1);
    let old_admin = Database { url: old.url().to_owned(), table: table.clone() };
    for server in [&old_admin, &new] {
        server.run("CREATE USER IF NOT EXISTS 'switched'@'%' IDENTIFIED BY 'switched'").await;
        server.run("GRANT ALL ON dbmutex.* TO 'switched'@'%'").await;
        MySqlStore::builder().table(table.clone()).connect(&as_app(&server.url)).await.unwrap();
    }
    let proxy = Proxy::to(&as_app(old.url())).await;
    let store = MySqlStore::builder().table(table).connect(proxy.url()).await.unwrap();
    warm(&store).await;
    old_admin.run("SET GLOBAL read_only = 1").await;
    proxy.lead_to(&new.url);
    granted(ask(&store, "job", MINUTE).await.unwrap());
}

/// The driver waits for the rest of the rows before it gives the place in the pool back, however long that takes; also when it
/// disconnects the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_died_within_a_reply_has_no_place_in_the_pool() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let pool = pool_of(1, proxy.url(), "");
        let builder = MySqlStore::builder().table(database.table.clone()).statement_timeout(Duration::from_secs(6));
        let store = builder.from_pool(pool.clone()).await.unwrap();
        list_while_the_connection_dies(&store, &proxy).await;
        drop(store);
        timeout(Duration::from_secs(10), pool.disconnect()).await.expect("all connections are closed").unwrap();
    }
}

/// Otherwise each leaves a socket and a task.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_died_within_a_reply_is_closed() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let before = tasks();
        let builder = MySqlStore::builder().table(database.table.clone()).statement_timeout(Duration::from_secs(6));
        let store = builder.connect(proxy.url()).await.unwrap();
        list_while_the_connection_dies(&store, &proxy).await;
        drop(store);
        until(async || tasks() <= before).await;
    }
}

/// Lists many locks; the connection dies when a part of them was read.
async fn list_while_the_connection_dies(store: &MySqlStore, proxy: &Proxy) {
    let requests: Vec<_> = (0..500).map(|number| request(&format!("{number:0250}"), MINUTE)).collect();
    assert!(store.insert_many(&requests).await.iter().all(Result::is_ok));
    proxy.swallow_replies_after(100_000);
    assert_eq!(store.list(&ListFilter::all()).await.unwrap().len(), 500);
}
