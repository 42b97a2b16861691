//! Statements that were not answered in time.

use std::time::Duration;

use db_mutex_core::store::LockStore;
use db_mutex_core::{DbMutex, StoreErrorKind, Ttl};
use db_mutex_mysql::mysql_async::prelude::Queryable;
use db_mutex_mysql::{MySqlStore, MySqlStoreBuilder};
use db_mutex_test_servers::Proxy;
use tokio::time::{Instant, sleep_until};

use crate::database::{Database, MINUTE, ask, both, granted, id, until};
use crate::servers::pool_of;

const LIMIT: Duration = Duration::from_secs(4);

fn builder(database: &Database) -> MySqlStoreBuilder {
    MySqlStore::builder().table(database.table.clone()).statement_timeout(LIMIT)
}

/// A store with connections of its own, or on an application's pool.
async fn through(database: &Database, proxy: &Proxy, is_pool: bool) -> MySqlStore {
    match is_pool {
        true => builder(database).from_pool(pool_of(1, proxy.url(), "")).await.unwrap(),
        false => builder(database).connect(proxy.url()).await.unwrap(),
    }
}

/// Keeps each insert waiting for longer than a request may take.
async fn slow_down(database: &Database) {
    database.run("CREATE TRIGGER {t}_slow AFTER INSERT ON {t} FOR EACH ROW DO SLEEP(6)").await;
}

/// Asks for a lock while inserts are slow, and returns when the insert would have been done. Whether the error says that
/// nothing has happened.
async fn not_answered(database: &Database, store: &MySqlStore, meanwhile: impl AsyncFnOnce()) -> bool {
    granted(ask(store, "before", MINUTE).await.unwrap());
    slow_down(database).await;
    let began = Instant::now();
    let asking = async {
        let error = ask(store, "job", MINUTE).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(began.elapsed() < LIMIT + Duration::from_secs(1), "{:?}", began.elapsed());
        error
    };
    let (error, ()) = tokio::join!(asking, meanwhile());
    sleep_until(began + Duration::from_secs(7)).await;
    error.is_undone()
}

/// Otherwise it would take effect when no one waits for it any more, and the lock would be held by no one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_not_answered_is_ended_in_the_server() {
    let [mariadb, mysql] = both();
    let ended = async |database: Database| {
        let store = builder(&database).connect(&database.url).await.unwrap();
        assert!(not_answered(&database, &store, async || ()).await);
        assert!(store.find(&id("job")).await.unwrap().is_none());
    };
    tokio::join!(ended(mariadb), ended(mysql));
}

/// The same on an application's pool, also if the request has the only connection. That is closed: if it was given back, the
/// application's next statement on it could be the one that is ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_on_a_pool_that_was_not_answered_is_ended_in_the_server() {
    let [mariadb, mysql] = both();
    let ended = async |database: Database| {
        let pool = pool_of(1, &database.url, "SET NAMES latin1");
        let store = builder(&database).from_pool(pool.clone()).await.unwrap();
        let number = pool.get_conn().await.unwrap().id();
        assert!(not_answered(&database, &store, async || ()).await);
        assert!(store.find(&id("job")).await.unwrap().is_none());
        assert_ne!(pool.get_conn().await.unwrap().id(), number);
    };
    tokio::join!(ended(mariadb), ended(mysql));
}

/// Where the server cannot be reached another time nothing is ended. The mutex releases the lock as soon as it can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_held_on_a_pool_when_a_reply_or_a_request_was_lost() {
    let [mariadb, mysql] = both();
    let given_up = async |database: Database| {
        let proxy = Proxy::to(&database.url).await;
        let store = builder(&database).from_pool(pool_of(2, proxy.url(), "")).await.unwrap();
        let mutex = DbMutex::new(store).unwrap();
        let forever = || mutex.lock("job").ttl(Ttl::NEVER);
        let is_held = async || database.rows::<u8>("SELECT 1 FROM {t} WHERE owner IS NOT NULL").await.len() == 1;
        forever().acquire().await.unwrap().release().await.unwrap();
        // The reply is lost after the commit.
        proxy.swallow_the_next_reply();
        forever().acquire().await.unwrap_err();
        until(async || !is_held().await).await;
        // New connections are refused while the statement runs.
        forever().acquire().await.unwrap().release().await.unwrap();
        database.run("DELETE FROM {t}").await;
        slow_down(&database).await;
        let close = async || {
            sleep_until(Instant::now() + Duration::from_secs(1)).await;
            proxy.close();
        };
        let (answer, ()) = tokio::join!(async { forever().acquire().await }, close());
        answer.unwrap_err();
        until(is_held).await;
        proxy.open();
        until(async || !is_held().await).await;
    };
    tokio::join!(given_up(mariadb), given_up(mysql));
}

/// Whose connection of the same number there is a stranger's. The error does not say that nothing has happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_ended_on_another_server_of_the_same_name() {
    let not_ended = async |is_pool: bool| {
        let [database, other] = both();
        let proxy = Proxy::to(&database.url).await;
        let login = |url: &str| url.rsplit_once('@').unwrap().0.to_owned();
        assert_eq!(login(&database.url), login(&other.url), "the side connection gets in there");
        let switch = async || {
            sleep_until(Instant::now() + Duration::from_secs(1)).await;
            proxy.lead_to(&other.url);
        };
        let through = through(&database, &proxy, is_pool).await;
        assert!(!not_answered(&database, &through, switch).await);
        assert!(database.store().await.find(&id("job")).await.unwrap().is_some_and(|row| row.is_taken()));
    };
    tokio::join!(not_ended(false), not_ended(true));
}

/// Behind a proxy that shares its connections among clients, the one that has opened the store's may serve another by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_ended_on_a_connection_that_a_proxy_shares() {
    let not_ended = async |is_pool: bool| {
        let [database, _] = both();
        let mut other = database.connection().await;
        let number: u64 = other.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        let proxy = Proxy::to(&database.url).await;
        proxy.rewrite_requests("CONNECTION_ID()", format!("{number:<15}").leak());
        let works = async || {
            let slept: Option<i64> = other.query_first("SELECT SLEEP(6)").await.unwrap();
            assert_eq!(slept, Some(0), "it was ended");
        };
        let through = through(&database, &proxy, is_pool).await;
        assert!(!not_answered(&database, &through, works).await);
    };
    tokio::join!(not_ended(false), not_ended(true));
}
