//! Connections that are not ours: a pool of the application.

use std::collections::BTreeMap;
use std::time::Duration;

use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{DbMutex, Ttl};
use db_mutex_postgres::PostgresStore;
use db_mutex_postgres::deadpool_postgres::{Client, Manager, Pool};
use db_mutex_postgres::tokio_postgres::{NoTls, SimpleQueryMessage};
use tokio::task::JoinSet;

use crate::{fresh, fresh_table, request, server};

/// The answer as text, without preparing a statement.
async fn simple(client: &Client, sql: &str) -> Vec<(String, String)> {
    let messages = client.simple_query(sql).await.unwrap();
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0).unwrap().to_owned(), row.get(1).unwrap_or("").to_owned())),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

async fn settings(client: &Client) -> BTreeMap<String, String> {
    simple(client, "SHOW ALL").await.into_iter().collect()
}

/// A little of everything.
async fn work(store: &PostgresStore) {
    let one = request(&fresh("one"));
    assert!(matches!(store.insert_if_absent(&one).await.unwrap(), Inserted::Granted(_)));
    assert!(matches!(store.insert_if_absent(&request(one.lock_id.as_str())).await.unwrap(), Inserted::Held(_)));
    let renewal = RenewRequest::new(one.lock_id.clone(), one.owner, Ttl::DEFAULT);
    assert!(matches!(store.renew(&renewal).await.unwrap(), Renewed::Renewed(_)));
    assert!(store.find(&one.lock_id).await.unwrap().unwrap().owned);
    let release = DeleteRequest::by_owner(one.lock_id, one.owner);
    assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
    let many = [request(&fresh("many")), request(&fresh("many"))];
    let granted = store.insert_many(&many).await;
    assert!(granted.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))), "{granted:?}");
    let releases = many.map(|of| DeleteRequest::by_owner(of.lock_id, of.owner));
    for answer in store.delete_many(&releases).await {
        assert_eq!(answer.unwrap(), Deleted::Released);
    }
}

#[tokio::test]
async fn the_sessions_of_an_applications_pool_stay_as_they_were() {
    // Neither side of what a statement sets for itself may stay behind.
    for (level, seqscan, commit) in [("serializable", "on", "off"), ("repeatable read", "off", "on")] {
        let config = server::url("postgres").parse().unwrap();
        let pool = Pool::builder(Manager::new(config, NoTls)).max_size(1).build().unwrap();
        let hostile = format!(
            "SET default_transaction_isolation = '{level}'; SET enable_seqscan = {seqscan};
             SET synchronous_commit = {commit}; SET statement_timeout = 7777; SET lock_timeout = 3333;
             SET search_path = public, pg_catalog"
        );
        let before = {
            let client = pool.get().await.unwrap();
            client.batch_execute(&hostile).await.unwrap();
            settings(&client).await
        };
        assert_eq!(before["statement_timeout"], "7777ms");
        assert_eq!(before["synchronous_commit"], commit);

        // A connection that does not answer in time is given up, and with it what was set there.
        let builder = PostgresStore::builder().table(fresh_table("foreign")).statement_timeout(Duration::from_secs(60));
        let store = builder.from_pool(pool.clone()).await.unwrap();
        work(&store).await;
        store.migrate().await.unwrap();
        store.list(&ListFilter::all()).await.unwrap();
        store.purge_expired(Duration::ZERO).await.unwrap();

        let client = pool.get().await.unwrap();
        assert_eq!(settings(&client).await, before);
        let prepared = simple(&client, "SELECT name, statement FROM pg_prepared_statements").await;
        assert!(prepared.is_empty(), "{prepared:?}");
        let begun = "SELECT state, xact_start = query_start FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        let begun = simple(&client, begun).await;
        assert_eq!(begun, [("active".to_owned(), "t".to_owned())], "no transaction was left open");
    }
}

/// In version 1 up to eight of the rows stayed held for half an hour, with no guard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_was_not_acquired_over_an_applications_pool_nothing_stays_held() {
    let config = server::url("postgres").parse().unwrap();
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(4).build().unwrap();
    let table = fresh_table("given_up");
    let store = PostgresStore::builder().table(table.clone()).statement_timeout(Duration::from_secs(2));
    let mutex = DbMutex::new(store.from_pool(pool).await.unwrap()).unwrap();
    let mut other = server::administrator().await;
    let transaction = other.transaction().await.unwrap();
    transaction.batch_execute(&format!("LOCK TABLE {table} IN EXCLUSIVE MODE")).await.unwrap();
    let mut acquiring = JoinSet::new();
    for number in 0..20 {
        let lock = mutex.lock(format!("job-{number}"));
        acquiring.spawn(async move { lock.acquire().await });
    }
    while let Some(outcome) = acquiring.join_next().await {
        let error = outcome.unwrap().expect_err("the table is locked");
        assert!(error.is_transient(), "{error:?}");
    }
    transaction.commit().await.unwrap();
    assert!(mutex.shutdown(Duration::from_secs(60)).await.is_empty());
    let held = format!("SELECT lock_id FROM {table} WHERE owner IS NOT NULL");
    assert!(crate::texts(&server::administrator().await, &held).await.is_empty());
}

/// The application keeps the only connection of its pool. What the mutex asks for fails in time, and is done later.
#[tokio::test]
async fn a_pool_that_the_application_has_emptied_is_not_waited_for_without_end() {
    let config = server::url("postgres").parse().unwrap();
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(1).build().unwrap();
    let limit = Duration::from_secs(1);
    let store = PostgresStore::builder().table(fresh_table("emptied")).statement_timeout(limit);
    let mutex = DbMutex::new(store.from_pool(pool.clone()).await.unwrap()).unwrap();
    let guard = mutex.lock("job").acquire().await.unwrap();
    let taken = pool.get().await.unwrap();
    let error = tokio::time::timeout(30 * limit, guard.release()).await.expect("the wait has a limit").unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    drop(taken);
    assert!(mutex.shutdown(30 * limit).await.is_empty());
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
}
