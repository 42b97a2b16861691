//! Nodes that are killed, and nodes that stand still, while locks are acquired and released.

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::LockStore;
use db_mutex_core::{DbMutex, Error};
use db_mutex_mysql::MySqlStore;
use db_mutex_test_servers::{process, signal, start};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use crate::cluster::Cluster;

const IDS: usize = 8;

/// What the workers have seen.
#[derive(Default)]
struct Seen {
    /// For each id whether someone is inside, and the latest fencing token.
    ids: [(AtomicBool, AtomicI64); IDS],
    runs: AtomicUsize,
    held: AtomicUsize,
    not_released: AtomicUsize,
    two_holders: AtomicUsize,
    stale_fences: AtomicUsize,
    /// In milliseconds.
    longest_run: AtomicU64,
    errors: Mutex<BTreeMap<String, usize>>,
}

impl Seen {
    fn failed(&self, what: &str, error: &Error) {
        let mut error: &dyn std::error::Error = error;
        while let Some(source) = error.source() {
            error = source;
        }
        *self.errors.lock().unwrap().entry(format!("{what}: {error}")).or_default() += 1;
    }

    async fn run(&self, mutex: &DbMutex, number: usize) {
        let (inside, latest) = &self.ids[number % IDS];
        let began = Instant::now();
        let lock = mutex.lock(format!("id {}", number % IDS)).ttl(Duration::from_secs(15));
        let guard = match lock.wait(Duration::from_secs(8)).acquire().await {
            Ok(guard) => guard,
            Err(Error::Held { .. }) => {
                self.held.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Err(error) => return self.failed("acquire", &error),
        };
        let others = usize::from(inside.swap(true, Ordering::SeqCst));
        let before = latest.swap(guard.fence().get(), Ordering::SeqCst);
        sleep(Duration::from_millis(1)).await;
        inside.store(false, Ordering::SeqCst);
        // Only as long as it counts as held.
        if guard.is_valid() {
            self.two_holders.fetch_add(others, Ordering::SeqCst);
            self.stale_fences.fetch_add(usize::from(before >= guard.fence().get()), Ordering::SeqCst);
        }
        if let Err(error) = guard.release().await {
            self.failed("release", &error);
            self.not_released.fetch_add(1, Ordering::SeqCst);
        }
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.longest_run.fetch_max(u64::try_from(began.elapsed().as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn report(&self, begun: Instant) {
        let [runs, held, two, stale, left] =
            [&self.runs, &self.held, &self.two_holders, &self.stale_fences, &self.not_released]
                .map(|number| number.load(Ordering::SeqCst));
        println!(
            "{:>4} s: {runs} runs, the longest {} ms, {held} times held, {two} with two holders, {stale} with a stale fence, \
             {left} releases failed",
            begun.elapsed().as_secs(),
            self.longest_run.load(Ordering::SeqCst),
        );
    }
}

/// Kills a node and starts it again, or stops it for longer than the others wait for it.
fn disturb(turn: usize) {
    let name = ["galera-1", "galera-2", "galera-3"][turn % 3];
    let is_killed = turn % 2 == 1;
    if is_killed {
        signal("KILL", process(name));
    } else {
        signal("STOP", process(name));
        std::thread::sleep(Duration::from_secs(4));
        signal("CONT", process(name));
    }
    println!("        {name} was {}", if is_killed { "killed" } else { "stopped for 4 s" });
    start(name);
}

/// All nodes at once. In the long form, of `DB_MUTEX_GALERA_SECONDS`, one of them is stopped or killed every ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lock_has_two_holders_while_nodes_are_killed_and_stopped() {
    let seconds =
        env::var("DB_MUTEX_GALERA_SECONDS").map_or(0, |seconds| seconds.parse().expect("a number of seconds"));
    let cluster = Cluster::new().await;
    let (seen, goes_on, begun) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(true)), Instant::now());
    let mut workers: Vec<JoinHandle<()>> = Vec::new();
    let mut mutexes = Vec::new();
    for first in 0..3 {
        let builder = MySqlStore::builder().table(cluster.table.clone());
        let mutex = DbMutex::new(builder.connect(&cluster.url_from(first)).await.unwrap()).unwrap();
        for worker in 0..4 {
            let (mutex, seen, goes_on) = (mutex.clone(), Arc::clone(&seen), Arc::clone(&goes_on));
            workers.push(tokio::spawn(async move {
                let mut number = worker;
                while goes_on.load(Ordering::SeqCst) {
                    number += 1;
                    seen.run(&mutex, number).await;
                }
            }));
        }
        mutexes.push(mutex);
    }
    sleep(Duration::from_secs(3)).await;
    let mut turn = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let next = Instant::now() + Duration::from_secs(10);
        spawn_blocking(move || disturb(turn)).await.unwrap();
        seen.report(begun);
        turn += 1;
        tokio::time::sleep_until(next.into()).await;
    }
    goes_on.store(false, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    let mut left = Vec::new();
    for mutex in mutexes {
        left.extend(mutex.shutdown(Duration::from_secs(30)).await);
    }
    seen.report(begun);
    let rows = cluster.store(0).await.list(&ListFilter::taken()).await.unwrap();
    println!("{} nodes disturbed, {} locks left behind; errors: {:#?}", turn, rows.len(), seen.errors.lock().unwrap());
    assert!(left.is_empty() && rows.is_empty(), "{left:?} could not be released; {rows:?} are held");
    assert_eq!(seen.two_holders.load(Ordering::SeqCst), 0, "locks with two holders");
    assert_eq!(seen.stale_fences.load(Ordering::SeqCst), 0, "fencing tokens that did not rise");
    assert!(seen.runs.load(Ordering::SeqCst) > 0);
}
