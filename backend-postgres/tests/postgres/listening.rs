//! The connection that listens: when it is there, what it costs, and what its end does to waiters.

use std::fs;
use std::time::{Duration, Instant};

use db_mutex_core::WaitLimit;
use db_mutex_core::store::{Inserted, LockStore};
use db_mutex_postgres::PostgresStore;
use tokio_postgres::{AsyncMessage, NoTls};

use crate::database::{MINUTE, ask, builder, grant, id, mutex, release, store, table, until, until_wanted};
use crate::server::{administrator, connection, url};
use db_mutex_test_servers::OwnServer;

const LONG: Duration = Duration::from_secs(20);
const WOKEN: Duration = Duration::from_secs(10);
const LISTENING: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";

/// A store whose connections have a name of their own, and the name of the one that listens.
async fn named(name: &str) -> (PostgresStore, String) {
    let url = format!("{}&application_name={name}", url("postgres"));
    (builder(name).connect(&url).await.unwrap(), format!("{name} wake-ups"))
}

/// Begins to wait for a lock that is held, and answers how long it waited.
fn wait(store: &PostgresStore, lock_id: &'static str) -> tokio::task::JoinHandle<Duration> {
    let store = store.clone();
    tokio::spawn(async move {
        assert!(matches!(ask(&store, lock_id, MINUTE).await.unwrap(), Inserted::Held(_)));
        let begun = Instant::now();
        store.wait_for_release(&id(lock_id), LONG).await.unwrap();
        begun.elapsed()
    })
}

#[tokio::test]
async fn no_one_is_notified_where_no_one_waits() {
    let (one, two) = (store("silent").await, store("silent").await);
    let (admin, table) = (administrator().await, table("silent"));
    let (client, mut connection) = tokio_postgres::connect(&url("postgres"), NoTls).await.unwrap();
    let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(_) = message {
                heard.send(()).unwrap();
            }
        }
    });
    let channel = format!("SELECT 'db_mutex_' || md5('{table}'::regclass::oid || ':job')");
    let channel: String = client.query_one(&channel, &[]).await.unwrap().get(0);
    client.batch_execute(&format!("LISTEN {channel}")).await.unwrap();

    for _ in 0..200 {
        let (owner, _) = grant(&one, "job", MINUTE).await;
        one.delete_many(&[release("job", owner)]).await[0].as_ref().unwrap();
        let (owner, _) = grant(&one, "job", MINUTE).await;
        one.delete(&release("job", owner)).await.unwrap();
    }
    // An answer follows all notifications that were sent before it.
    client.batch_execute("SELECT 1").await.unwrap();
    assert!(hearing.try_recv().is_err(), "a release notified, and there was no waiter");

    // A waiter is the only one to be notified; after the grant no one is.
    let (owner, _) = grant(&one, "job", MINUTE).await;
    let waiter = wait(&two, "job");
    until_wanted(&admin, &table, "job").await;
    one.delete(&release("job", owner)).await.unwrap();
    assert!(waiter.await.unwrap() < WOKEN);
    hearing.recv().await.unwrap();
    for _ in 0..10 {
        let (owner, _) = grant(&one, "job", MINUTE).await;
        one.delete(&release("job", owner)).await.unwrap();
    }
    client.batch_execute("SELECT 1").await.unwrap();
    assert!(hearing.try_recv().is_err(), "the mark outlived the grant");
}

#[tokio::test]
async fn a_waiter_listens_before_it_marks() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    admin.batch_execute("ALTER SYSTEM SET log_statement = 'all'").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let store = builder("order").connect(server.url()).await.unwrap();
    grant(&store, "job", MINUTE).await;
    let waiter = wait(&store, "job");
    until_wanted(&admin, &table("order"), "job").await;
    waiter.abort();
    let log = fs::read_to_string(server.log()).unwrap();
    let (listens, marks) = (log.find("LISTEN db_mutex_").unwrap(), log.find("SET wanted_until =").unwrap());
    assert!(listens < marks, "a release between the two would be missed");
}

#[tokio::test]
async fn waiters_survive_their_listener_and_get_another() {
    let (store, listener) = named("ended").await;
    let (admin, table) = (administrator().await, table("ended"));
    let (holder, _) = grant(&store, "job", MINUTE).await;
    let waiter = wait(&store, "job");
    until_wanted(&admin, &table, "job").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    admin.query_one(end, &[&listener]).await.unwrap();
    until(&admin, LISTENING, &[&listener], 0).await;

    // Meanwhile others poll.
    let waiting = mutex(&store).lock("job").wait(MINUTE);
    let polling = tokio::spawn(async move { waiting.acquire().await.unwrap() });
    store.delete(&release("job", holder)).await.unwrap();
    let guard = polling.await.unwrap();

    // The new one finds out what was missed.
    until(&admin, LISTENING, &[&listener], 1).await;
    guard.release().await.unwrap();
    assert!(waiter.await.unwrap() < WOKEN, "the waiter was not woken");

    let (holder, _) = grant(&store, "job", MINUTE).await;
    let waiter = wait(&store, "job");
    until_wanted(&admin, &table, "job").await;
    store.delete(&release("job", holder)).await.unwrap();
    assert!(waiter.await.unwrap() < WOKEN, "the waiter was not woken");
}

#[tokio::test]
async fn who_leaves_is_forgotten_and_an_idle_listener_goes() {
    let (store, listener) = named("left").await;
    let (admin, table) = (administrator().await, table("left"));
    let (holder, _) = grant(&store, "job", MINUTE).await;
    let waiter = wait(&store, "job");
    until_wanted(&admin, &table, "job").await;
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());

    let last = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'UNLISTEN%'";
    until(&admin, last, &[&listener], 1).await;
    // What is left ends by itself, and with the next grant.
    let wanted = format!(
        "SELECT wanted_until - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM {table} WHERE lock_id = 'job'"
    );
    assert!(admin.query_one(&wanted, &[]).await.unwrap().get::<_, i64>(0) <= 30_000_000);
    store.delete(&release("job", holder)).await.unwrap();
    grant(&store, "job", MINUTE).await;
    assert_eq!(admin.query_one(&wanted, &[]).await.unwrap().get::<_, Option<i64>>(0), None);

    until(&admin, LISTENING, &[&listener], 0).await;
    // It comes back when it is needed, and goes with its store.
    let waiter = wait(&store, "job");
    until_wanted(&admin, &table, "job").await;
    until(&admin, LISTENING, &[&listener], 1).await;
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    drop(store);
    let begun = Instant::now();
    until(&admin, LISTENING, &[&listener], 0).await;
    println!("the listener of a dropped store was gone after {:?}", begun.elapsed());
}

#[tokio::test]
async fn many_waiters_of_a_process_cost_what_one_does() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    let mutex = mutex(&builder("crowd").connect(server.url()).await.unwrap());
    let held = mutex.lock("job").keep_alive(false).acquire().await.unwrap();
    let calls = "SELECT sum(calls)::bigint FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'";
    let mut cost = Vec::new();
    for number in [1, 200] {
        let waiters: Vec<_> = (0..number)
            .map(|_| {
                let lock = mutex.lock("job").wait(WaitLimit::Forever);
                tokio::spawn(async move { lock.acquire().await.unwrap().release().await.unwrap() })
            })
            .collect();
        until_wanted(&admin, &table("crowd"), "job").await;
        let before: i64 = admin.query_one(calls, &[]).await.unwrap().get(0);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after: i64 = admin.query_one(calls, &[]).await.unwrap().get(0);
        println!("{number} waiters: {} statements in 3 s", after - before);
        cost.push(after - before);
        for waiter in waiters {
            waiter.abort();
            let _ = waiter.await;
        }
    }
    // The pauses grow from 20 ms to half a second: some 20 questions, and a mark now and then.
    assert!(cost[1] < 60, "the statements grow with the waiters");
    held.release().await.unwrap();
}
