//! Ten thousand locks, and ten thousand waiters, cost as many statements as a few.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use db_mutex_core::{DbMutex, Guard};
use tokio_postgres::Client;

use crate::database::{MINUTE, builder};
use crate::server::connection;
use db_mutex_test_servers::OwnServer;

/// Parts of the statements that renew and insert, in all their forms.
const RENEWAL: &str = "SET expires_at = greatest(held.expires_at";
const INSERT: &str = "asked AS MATERIALIZED";

/// How often statements with this text in them were run.
async fn calls(client: &Client, text: &str) -> i64 {
    let sql = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements
               WHERE query LIKE '%' || $1 || '%' AND query NOT LIKE '%pg_stat_statements%'";
    client.query_one(sql, &[&text]).await.unwrap().get(0)
}

async fn counting(server: &OwnServer) -> Client {
    let client = connection(server.url()).await;
    client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_leases_are_renewed_with_a_few_statements() {
    let server = OwnServer::start("postgres-plain");
    let client = counting(&server).await;
    let store = builder("many").connect(server.url()).await.unwrap();
    let mutex = DbMutex::builder(Arc::new(store)).ttl(Duration::from_secs(30)).keep_alive(true).build().unwrap();
    let mut guards: Vec<Guard> = Vec::new();
    for chunk in 0..100 {
        let acquiring: Vec<_> = (0..100)
            .map(|number| {
                let lock = mutex.lock(format!("job-{chunk}-{number}"));
                tokio::spawn(async move { lock.acquire().await.unwrap() })
            })
            .collect();
        for guard in acquiring {
            guards.push(guard.await.unwrap());
        }
    }
    assert_eq!(guards.len(), 10_000);
    // Until all have found into the same statements.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = calls(&client, RENEWAL).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let statements = calls(&client, RENEWAL).await - before;
    println!("10000 leases: {statements} statements to renew them, in two intervals");
    assert!((1..=8).contains(&statements), "{statements} statements in two intervals");
    assert!(guards.iter().all(Guard::is_valid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_waiters_one_talks_to_the_server() {
    let server = OwnServer::start("postgres-plain");
    let client = counting(&server).await;
    let store = builder("queue").connect(server.url()).await.unwrap();
    let mutex = DbMutex::builder(Arc::new(store)).ttl(MINUTE).build().unwrap();
    let _guard = mutex.lock("job").acquire().await.unwrap();
    let ask = async |waiters: usize| {
        let before = calls(&client, INSERT).await;
        let refused = Arc::new(AtomicUsize::new(0));
        let waiting: Vec<_> = (0..waiters)
            .map(|_| {
                let (lock, refused) = (mutex.lock("job").wait(Duration::from_secs(5)), Arc::clone(&refused));
                tokio::spawn(async move {
                    assert!(lock.acquire().await.unwrap_err().is_held());
                    refused.fetch_add(1, Ordering::SeqCst);
                })
            })
            .collect();
        for waiter in waiting {
            waiter.await.unwrap();
        }
        assert_eq!(refused.load(Ordering::SeqCst), waiters);
        calls(&client, INSERT).await - before
    };
    let (one, many) = (ask(1).await, ask(10_000).await);
    println!("asked in five seconds: {one} times for one waiter, {many} times for ten thousand");
    assert!(one > 0 && many <= 3 * one, "{many} against {one}");
}
