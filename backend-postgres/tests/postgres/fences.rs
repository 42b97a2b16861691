//! Fences in the order of the grants, while the server's processes are paused at random.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Lease, LockStore, RenewRequest, Renewed, StoreTime, async_trait,
};
use db_mutex_core::{Fence, LockId, StoreError, StoreErrorKind};
use tokio_postgres::Client;

use crate::database::{builder, insert, owner, release};
use crate::server::connection;
use db_mutex_test_servers::{OwnServer, signal};

const WORKERS: usize = 8;
const IDS: usize = 3;

/// What the workers have seen.
#[derive(Default)]
struct Seen {
    acquisitions: AtomicUsize,
    inversions: AtomicUsize,
    double_grants: AtomicUsize,
    done: AtomicBool,
    latest: Mutex<HashMap<String, (Option<Fence>, bool)>>,
}

impl Seen {
    fn note_grant(&self, name: &str, fence: Fence) {
        let mut latest = self.latest.lock().unwrap();
        let (before, held) = latest.entry(name.to_owned()).or_default();
        if before.is_some_and(|before| before >= fence) {
            self.inversions.fetch_add(1, Ordering::SeqCst);
        }
        if *held {
            self.double_grants.fetch_add(1, Ordering::SeqCst);
        }
        (*before, *held) = (Some(fence), true);
        self.acquisitions.fetch_add(1, Ordering::SeqCst);
    }

    fn note_release(&self, name: &str) {
        if let Some((_, held)) = self.latest.lock().unwrap().get_mut(name) {
            *held = false;
        }
    }
}

/// Acquires and releases until enough was seen. Each holder of a lock notes its fence: those of one id must rise.
async fn work(store: Arc<dyn LockStore>, seen: Arc<Seen>, number: usize) {
    let mut round = number;
    while !seen.done.load(Ordering::SeqCst) {
        round += 1;
        let name = format!("id-{}", round % IDS);
        let owner = owner();
        let request = insert(&name, owner, Duration::from_secs(600));
        match store.insert_if_absent(&request).await {
            Ok(Inserted::Granted(lease)) => {
                seen.note_grant(&name, lease.fence);
                seen.note_release(&name);
                while store.delete(&release(&name, owner)).await.is_err() {}
            }
            Ok(_) => {}
            // The row is locked, by a process that is paused; or the statement waited too long for one, and may have been done.
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                while store.delete(&release(&name, owner)).await.is_err() {}
            }
        }
    }
}

/// Stops processes of the server at random, each for a few milliseconds: so a statement loses the processor between any
/// two of its steps.
async fn pause_at_random(admin: Client, seen: Arc<Seen>) {
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let others = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while !seen.done.load(Ordering::SeqCst) {
        let pids: Vec<i32> = admin.query(others, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        for _ in 0..20 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let Some(pid) = pids.get(usize::try_from(random >> 33).unwrap() % pids.len().max(1)) else { break };
            signal("STOP", *pid);
            tokio::time::sleep(Duration::from_millis((random >> 60) % 8)).await;
            signal("CONT", *pid);
        }
    }
}

/// Runs the schedule until `enough` says so.
async fn run(server: &OwnServer, stores: Vec<Arc<dyn LockStore>>, enough: impl Fn(&Seen) -> bool) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    let workers: Vec<_> = stores
        .into_iter()
        .enumerate()
        .map(|(number, store)| tokio::spawn(work(store, Arc::clone(&seen), number)))
        .collect();
    let pauses = tokio::spawn(pause_at_random(connection(server.url()).await, Arc::clone(&seen)));
    while !enough(&seen) {
        assert!(workers.iter().all(|worker| !worker.is_finished()), "a worker has failed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    seen.done.store(true, Ordering::SeqCst);
    pauses.await.unwrap();
    for worker in workers {
        worker.await.unwrap();
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fences_rise_while_the_servers_processes_are_paused() {
    let server = OwnServer::start("postgres-plain");
    let mut stores: Vec<Arc<dyn LockStore>> = Vec::new();
    for _ in 0..WORKERS {
        stores.push(Arc::new(builder("fences").pool_size(1).connect(server.url()).await.unwrap()));
    }
    let seen = run(&server, stores, |seen| seen.acquisitions.load(Ordering::SeqCst) >= 5_000).await;
    let inversions = seen.inversions.load(Ordering::SeqCst);
    println!("{} acquisitions, {inversions} inversions", seen.acquisitions.load(Ordering::SeqCst));
    assert_eq!(inversions, 0);
    assert_eq!(seen.double_grants.load(Ordering::SeqCst), 0);
}

/// The schedule is able to find what it looks for: a token that a column's default draws before the statement waits for
/// the row, with rows that are deleted on release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_catches_a_token_that_is_drawn_too_early() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    admin
        .batch_execute(
            "CREATE SEQUENCE tokens;
             CREATE TABLE early (lock_id text PRIMARY KEY, owner bytea, fence bigint DEFAULT nextval('tokens'))",
        )
        .await
        .unwrap();
    let mut stores: Vec<Arc<dyn LockStore>> = Vec::new();
    for _ in 0..WORKERS {
        stores.push(Arc::new(DrawnEarly(connection(server.url()).await)));
    }
    let seen = run(&server, stores, |seen| {
        seen.inversions.load(Ordering::SeqCst) > 0 || seen.acquisitions.load(Ordering::SeqCst) > 50_000
    })
    .await;
    let inversions = seen.inversions.load(Ordering::SeqCst);
    println!("{inversions} inversions in {} acquisitions", seen.acquisitions.load(Ordering::SeqCst));
    assert!(inversions > 0, "the schedule finds nothing");
}

/// What a peer does: the token is a column's default.
#[derive(Debug)]
struct DrawnEarly(Client);

fn failed(error: tokio_postgres::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Busy, "the planted store failed").with_source(error)
}

#[async_trait]
impl LockStore for DrawnEarly {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let sql = "INSERT INTO early (lock_id, owner) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING fence";
        let rows =
            self.0.query(sql, &[&request.lock_id.as_str(), &&request.owner.as_bytes()[..]]).await.map_err(failed)?;
        Ok(match rows.first() {
            Some(row) => Inserted::Granted(Lease::new(Fence::new(row.get(0)), StoreTime::ZERO, StoreTime::ZERO)),
            None => {
                let row = LockRow::new(
                    request.lock_id.clone(),
                    request.holder.clone(),
                    Lease::new(Fence::new(1), StoreTime::ZERO, StoreTime::from_micros(1)),
                );
                Inserted::Held(row.to_holder())
            }
        })
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let db_mutex_core::store::DeleteBy::Owner(owner) = request.by else { unreachable!() };
        let sql = "DELETE FROM early WHERE lock_id = $1 AND owner = $2";
        let gone = self.0.execute(sql, &[&request.lock_id.as_str(), &&owner.as_bytes()[..]]).await.map_err(failed)?;
        Ok(if gone == 1 { Deleted::Released } else { Deleted::NotHeld })
    }

    async fn renew(&self, _: &RenewRequest) -> Result<Renewed, StoreError> {
        unreachable!()
    }

    async fn purge_expired(&self, _: Duration) -> Result<u64, StoreError> {
        unreachable!()
    }

    async fn find(&self, _: &LockId) -> Result<Option<LockRow>, StoreError> {
        unreachable!()
    }

    async fn list(&self, _: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        unreachable!()
    }
}
