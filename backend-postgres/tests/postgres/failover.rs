//! A primary that dies, and its synchronous standby that takes over.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use db_mutex_core::store::{Inserted, LockStore};
use db_mutex_core::{DbMutex, Guard, OwnerToken, StoreErrorKind, TableName};
use db_mutex_postgres::PostgresStore;
use db_mutex_test_servers::OwnPair;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::crash::Workers;
use crate::database::{MINUTE, ask, builder, grant, insert, owner, table};
use crate::server::connection;

/// A grant that was acknowledged.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    pub(crate) name: String,
    pub(crate) owner: OwnerToken,
    pub(crate) fence: i64,
}

/// Grants that were acknowledged, and are never released.
pub(crate) struct Grants {
    table: TableName,
    store: PostgresStore,
    pub(crate) acknowledged: Mutex<Vec<Acknowledged>>,
    done: AtomicBool,
}

impl Grants {
    pub(crate) async fn start(name: &str, url: &str) -> (Arc<Self>, JoinHandle<()>) {
        let store = builder(name).pool_size(2).connect(url).await.unwrap();
        let grants = Self { table: table(name), store, acknowledged: Mutex::default(), done: AtomicBool::new(false) };
        let grants = Arc::new(grants);
        let task = tokio::spawn(Arc::clone(&grants).collect());
        (grants, task)
    }

    async fn collect(self: Arc<Self>) {
        for number in 0.. {
            if self.done.load(Ordering::SeqCst) {
                return;
            }
            let (name, owner) = (format!("grant-{number}"), owner());
            if let Ok(Inserted::Granted(lease)) = self.store.insert_if_absent(&insert(&name, owner, 60 * MINUTE)).await
            {
                self.acknowledged.lock().await.push(Acknowledged { name, owner, fence: lease.fence.get() });
            }
        }
    }

    pub(crate) async fn end(&self, task: JoinHandle<()>) {
        self.done.store(true, Ordering::SeqCst);
        task.await.unwrap();
    }

    /// How many were acknowledged, and which of them the server does not have, with their owner and fence.
    pub(crate) async fn lost(&self, url: &str) -> (usize, Vec<Acknowledged>) {
        let acknowledged = self.acknowledged.lock().await.clone();
        let names: Vec<&str> = acknowledged.iter().map(|grant| grant.name.as_str()).collect();
        let owners: Vec<&[u8]> = acknowledged.iter().map(|grant| grant.owner.as_bytes().as_slice()).collect();
        let fences: Vec<i64> = acknowledged.iter().map(|grant| grant.fence).collect();
        let lost = format!(
            "SELECT number FROM unnest($1::text[], $2::bytea[], $3::bigint[])
                 WITH ORDINALITY AS acknowledged (lock_id, owner, fence, number)
             WHERE (lock_id, owner, fence) NOT IN (SELECT lock_id, owner, fence FROM {} WHERE owner IS NOT NULL)",
            self.table
        );
        let lost = connection(url).await.query(&lost, &[&names, &owners, &fences]).await.unwrap();
        let numbers = lost.iter().map(|row| usize::try_from(row.get::<_, i64>(0) - 1).unwrap());
        (acknowledged.len(), numbers.map(|number| acknowledged[number].clone()).collect())
    }

    /// All that was acknowledged is there, with its fence. Returns how many these are.
    async fn are_there(&self, url: &str) -> usize {
        let (acknowledged, lost) = self.lost(url).await;
        let lost: Vec<_> = lost.iter().map(|grant| &grant.name).collect();
        assert!(lost.is_empty(), "acknowledged grants are lost: {lost:?}");
        acknowledged
    }
}

/// How many promotions there are: `DB_MUTEX_PROMOTIONS`, or else this many.
pub(crate) fn promotions(short: usize) -> usize {
    env::var("DB_MUTEX_PROMOTIONS").map_or(short, |text| text.parse().expect("a number"))
}

/// A lock that is held and renewed through all failovers, and a waiter for it.
async fn held_and_waited_for(url: &str) -> (Guard, JoinHandle<Guard>) {
    let store = || builder("held").pool_size(2).statement_timeout(Duration::from_secs(4)).connect(url);
    let holder = DbMutex::new(store().await.unwrap()).unwrap();
    let waiter = DbMutex::new(store().await.unwrap()).unwrap();
    let lock = holder.lock("held").ttl(Duration::from_secs(15)).keep_alive(true);
    let guard = lock.acquire().await.unwrap();
    let waiting = tokio::spawn(async move { waiter.lock("held").wait(30 * MINUTE).acquire().await.unwrap() });
    (guard, waiting)
}

/// `DB_MUTEX_PROMOTIONS` says how often; every other time the primary is not killed, but does not get on any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_synchronous_standby_a_promotion_loses_nothing() {
    let pair = OwnPair::start();
    pair.set_synchronous(0, true);
    let url = pair.url_of_both([0, 1]);
    let workers = Arc::new(Workers::default());
    let tasks = workers.start("promotion", &url).await;
    let (grants, collecting) = Grants::start("grants", &url).await;
    let (guard, waiting) = held_and_waited_for(&url).await;
    workers.all_go_on().await;
    let (mut primary, mut standby) = (0, 1);
    for promotion in 1..=promotions(2) {
        let begun = Instant::now();
        let how = if promotion % 2 == 1 { "killed" } else { "frozen" };
        match how {
            "killed" => pair.kill(primary),
            _ => pair.freeze(primary),
        }
        pair.promote(standby);
        let promoted = begun.elapsed();
        let went_on = workers.all_go_on().await;
        let there = grants.are_there(pair.url_of(standby)).await;
        assert!(guard.is_valid(), "{:?}", guard.lost_reason());
        println!(
            "promotion {promotion}: the primary was {how}, the other promoted after {promoted:.1?}; all eight workers went on \
             {went_on:.1?} later, {} rounds; {there} grants are there",
            workers.rounds()
        );
        pair.follow(primary);
        pair.set_synchronous(standby, true);
        (primary, standby) = (standby, primary);
    }
    let released = Instant::now();
    guard.release().await.unwrap();
    let next = timeout(MINUTE, waiting).await.expect("the waiter gets its turn").unwrap();
    println!("the waiter had the lock {:.1?} after its release", released.elapsed());
    next.release().await.unwrap();
    grants.end(collecting).await;
    workers.end(tasks).await;
}

/// What is documented of an old primary that was not stopped when its standby was promoted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_goes_on_grants_nothing_if_its_standby_was_synchronous() {
    let pair = OwnPair::start();
    pair.set_synchronous(0, true);
    let old = builder("goes_on").statement_timeout(Duration::from_secs(3)).connect(pair.url_of(0)).await.unwrap();
    grant(&old, "before", MINUTE).await;
    pair.promote(1);
    let new = builder("goes_on").connect(pair.url_of(1)).await.unwrap();
    let error = ask(&old, "job", MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    grant(&new, "job", MINUTE).await;
    assert!(matches!(ask(&new, "before", MINUTE).await.unwrap(), Inserted::Held(_)));
    // Otherwise there are two holders.
    pair.set_synchronous(0, false);
    grant(&old, "other", MINUTE).await;
    grant(&new, "other", MINUTE).await;
}
