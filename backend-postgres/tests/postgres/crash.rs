//! Connections and servers that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use db_mutex_core::DbMutex;
use db_mutex_core::store::{Inserted, LockStore, Renewed};
use db_mutex_postgres::PostgresStore;
use tokio::task::JoinHandle;

use crate::database::{MINUTE, ask, builder, grant, insert, owner, renewal, until_free};
use crate::server::{administrator, connection, url};
use db_mutex_test_servers::OwnServer;

/// Eight workers on two locks, each sure that it is alone.
#[derive(Default)]
pub(crate) struct Workers {
    alone: [AtomicBool; 2],
    double_grants: AtomicUsize,
    fences: [AtomicI64; 2],
    fences_that_did_not_rise: AtomicUsize,
    rounds: [AtomicUsize; 8],
    done: AtomicBool,
}

impl Workers {
    /// Each with connections of its own, as eight processes have.
    pub(crate) async fn start(self: &Arc<Self>, table: &str, url: &str) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for number in 0..8 {
            let store = builder(table).pool_size(1).connect(url).await.unwrap();
            let mutex = DbMutex::new(Arc::new(store)).unwrap();
            tasks.push(tokio::spawn(Arc::clone(self).work(mutex, number)));
        }
        tasks
    }

    /// Ends them, and checks what they have seen.
    pub(crate) async fn end(&self, tasks: Vec<JoinHandle<()>>) {
        self.done.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(self.double_grants.load(Ordering::SeqCst), 0);
        assert_eq!(self.fences_that_did_not_rise.load(Ordering::SeqCst), 0);
    }

    /// How often they have held a lock, in all.
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.iter().map(|rounds| rounds.load(Ordering::SeqCst)).sum()
    }

    async fn work(self: Arc<Self>, mutex: DbMutex, number: usize) {
        let at = number % 2;
        while !self.done.load(Ordering::SeqCst) {
            let lock = mutex.lock(format!("job-{at}")).ttl(Duration::from_secs(3)).wait(Duration::from_secs(1));
            // Held, or a server that is away: both pass.
            let Ok(guard) = lock.acquire().await else { continue };
            if self.alone[at].swap(true, Ordering::SeqCst) {
                self.double_grants.fetch_add(1, Ordering::SeqCst);
            }
            let fence = guard.fence().get();
            if self.fences[at].fetch_max(fence, Ordering::SeqCst) >= fence {
                self.fences_that_did_not_rise.fetch_add(1, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.alone[at].store(false, Ordering::SeqCst);
            let _ = guard.release().await;
            self.rounds[number].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waits until every worker has gone on, and answers how long that took.
    pub(crate) async fn all_go_on(&self) -> Duration {
        let begun = Instant::now();
        let before: Vec<_> = self.rounds.iter().map(|rounds| rounds.load(Ordering::SeqCst)).collect();
        while self.rounds.iter().zip(&before).any(|(rounds, before)| rounds.load(Ordering::SeqCst) <= *before) {
            assert!(begun.elapsed() < Duration::from_secs(60), "a worker does not go on by itself");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_go_on_after_the_server_was_killed() {
    let server = OwnServer::start("postgres-plain");
    let workers = Arc::new(Workers::default());
    let tasks = workers.start("crash", server.url()).await;
    workers.all_go_on().await;
    for round in 1..=3 {
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.start_again();
        let took = workers.all_go_on().await;
        println!("kill {round}: all eight workers went on {took:?} after the server's return");
    }
    workers.end(tasks).await;
}

async fn terminate_all(application: &str) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    administrator().await.query(sql, &[&application]).await.unwrap();
}

async fn named(table: &str, application: &str) -> PostgresStore {
    let url = format!("{}&application_name={application}", url("postgres"));
    builder(table).connect(&url).await.unwrap()
}

#[tokio::test]
async fn a_terminated_connection_is_replaced_without_a_word() {
    let store = named("terminated", "db-mutex-terminated").await;
    let (owner, lease) = grant(&store, "job", MINUTE).await;
    for _ in 0..5 {
        terminate_all("db-mutex-terminated").await;
        let Inserted::Granted(again) = store.insert_if_absent(&insert("job", owner, MINUTE)).await.unwrap() else {
            panic!("the owner's own lock was refused to it")
        };
        assert_eq!(again.fence, lease.fence);
        terminate_all("db-mutex-terminated").await;
        let renewed = store.renew(&renewal("job", owner, MINUTE)).await.unwrap();
        assert!(matches!(renewed, Renewed::Renewed(_)));
        terminate_all("db-mutex-terminated").await;
        assert!(matches!(ask(&store, "job", MINUTE).await.unwrap(), Inserted::Held(_)));
    }
}

/// A statement that waits in the server goes on there when its future is dropped: it must not become a ghost.
#[tokio::test]
async fn an_acquire_dropped_at_any_moment_leaves_no_ghost() {
    let store = named("dropped", "db-mutex-dropped").await;
    let mutex = DbMutex::new(Arc::new(store.clone())).unwrap();
    grant(&store, "job", Duration::from_millis(100)).await;
    until_free(&store, "job").await;
    for polls in 0..40 {
        let lock = mutex.lock("job").ttl(600 * MINUTE / 60);
        drop_after(polls, lock.acquire()).await;
        until_free(&store, "job").await;
    }

    // The same while the statement has to wait in the server for another's lock on the table.
    let mut other = administrator().await;
    let transaction = other.transaction().await.unwrap();
    let table = crate::database::table("dropped");
    transaction.batch_execute(&format!("LOCK TABLE {table} IN EXCLUSIVE MODE")).await.unwrap();
    let lock = mutex.lock("job");
    assert!(tokio::time::timeout(Duration::from_millis(300), lock.acquire()).await.is_err());
    transaction.commit().await.unwrap();
    assert!(mutex.shutdown(MINUTE).await.is_empty());
    until_free(&store, "job").await;
}

/// Polls a future so often, and drops it.
async fn drop_after<F: Future>(polls: usize, future: F) {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        if tokio::time::timeout(Duration::ZERO, &mut future).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// A cancelled wait for a synchronous replica answers success with a warning, although nothing was replicated.
#[tokio::test]
async fn a_grant_that_no_replica_has_confirmed_is_not_a_grant() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    let store = builder("replica").statement_timeout(Duration::from_secs(1)).connect(server.url()).await.unwrap();
    grant(&store, "warm", MINUTE).await;
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    // The setting reaches the other processes by a signal.
    let mut answer = Ok(());
    for number in 0..100 {
        let owner = owner();
        answer = store.insert_if_absent(&insert(&format!("job-{number}"), owner, MINUTE)).await.map(|_| ());
        if answer.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = answer.expect_err("grants were reported that no replica had confirmed");
    assert!(error.is_transient(), "{error:?}");
}
