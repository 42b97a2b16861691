//! Locks on a cluster of etcd while one of its nodes is killed every five seconds, and started again: none has two holders, and
//! fencing tokens rise.
//!
//! `scripts/test-stores etcd_kills` starts the cluster, and sets `ETCD_URLS` and `DB_MUTEX_TEST_DIR`. It takes 15 seconds, or
//! `DB_MUTEX_ETCD_SECONDS`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::LockStore as _;
use db_mutex_core::store::cas::CasStore;
use db_mutex_core::{DbMutex, Error};
use stores::etcd::Etcd;
use tokio::time::sleep;

const IDS: usize = 8;
/// A node is down for so long, and the next is killed so long after it was.
const DOWN: Duration = Duration::from_secs(2);
const TURN: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Seen {
    /// For each id whether someone is inside, and the latest fencing token.
    ids: [(AtomicBool, AtomicI64); IDS],
    acquired: AtomicUsize,
    held: AtomicUsize,
    lost: AtomicUsize,
    two_holders: AtomicUsize,
    stale_fences: AtomicUsize,
    /// In milliseconds.
    longest: AtomicUsize,
    errors: Mutex<BTreeMap<String, usize>>,
}

fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

impl Seen {
    async fn acquire_and_release(&self, mutex: &DbMutex, number: usize) {
        let (inside, latest) = &self.ids[number % IDS];
        let begun = Instant::now();
        let lock = mutex.lock(format!("id {}", number % IDS)).ttl(Duration::from_secs(15));
        let guard = match lock.wait(Duration::from_secs(8)).acquire().await {
            Ok(guard) => guard,
            Err(error) if error.is_held() => {
                self.held.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Err(error) => return self.failed("acquire", &error),
        };
        self.longest.fetch_max(begun.elapsed().as_millis().try_into().unwrap_or(usize::MAX), Ordering::SeqCst);
        let others = usize::from(inside.swap(true, Ordering::SeqCst));
        let before = latest.swap(guard.fence().get(), Ordering::SeqCst);
        sleep(Duration::from_millis(1)).await;
        inside.store(false, Ordering::SeqCst);
        // Only as long as it counts as held.
        if guard.is_valid() {
            self.two_holders.fetch_add(others, Ordering::SeqCst);
            self.stale_fences.fetch_add(usize::from(before >= guard.fence().get()), Ordering::SeqCst);
        } else {
            self.lost.fetch_add(1, Ordering::SeqCst);
        }
        self.acquired.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = guard.release().await {
            self.failed("release", &error);
        }
    }

    fn failed(&self, what: &str, error: &Error) {
        let mut error: &dyn std::error::Error = error;
        while let Some(source) = error.source() {
            error = source;
        }
        let mut errors = self.errors.lock().expect("no worker panics here");
        *errors.entry(format!("{what}: {error}")).or_default() += 1;
    }

    fn report(&self, begun: Instant, kills: usize) {
        println!(
            "{:>4} s, {kills} kills: {} acquired, the longest wait {} ms, {} times held, {} lost, {} with two holders, {} with a \
             stale fence",
            begun.elapsed().as_secs(),
            count(&self.acquired),
            count(&self.longest),
            count(&self.held),
            count(&self.lost),
            count(&self.two_holders),
            count(&self.stale_fences),
        );
    }
}

async fn databases(what: &'static str, name: &'static str) {
    let run = move || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/databases");
        let output = Command::new(script).args([what, name]).output().expect("scripts/databases can be run");
        assert!(output.status.success(), "{what} {name}: {}", String::from_utf8_lossy(&output.stderr));
    };
    tokio::task::spawn_blocking(run).await.expect("a server is killed and started");
}

/// Each client begins with another node.
fn store(first: usize) -> CasStore<Etcd> {
    let urls =
        std::env::var("ETCD_URLS").expect("ETCD_URLS names a cluster; scripts/test-stores etcd_kills starts one");
    let mut endpoints: Vec<String> = urls.split(',').map(|url| url.trim_start_matches("http://").to_owned()).collect();
    endpoints.rotate_left(first);
    CasStore::new(Etcd::new(endpoints, "kills/"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lock_has_two_holders_while_nodes_are_killed() {
    let seconds = std::env::var("DB_MUTEX_ETCD_SECONDS").map_or(15, |text| text.parse().expect("a number of seconds"));
    let (seen, goes_on, begun) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(true)), Instant::now());
    let (mut mutexes, mut workers) = (Vec::new(), Vec::new());
    for first in 0..3 {
        let mutex = DbMutex::new(store(first)).expect("valid defaults");
        for worker in 0..4 {
            let (mutex, seen, goes_on) = (mutex.clone(), Arc::clone(&seen), Arc::clone(&goes_on));
            workers.push(tokio::spawn(async move {
                let mut number = worker;
                while goes_on.load(Ordering::SeqCst) {
                    number += 1;
                    seen.acquire_and_release(&mutex, number).await;
                }
            }));
        }
        mutexes.push(mutex);
    }
    let mut kills = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let name = ["etcd-1", "etcd-2", "etcd-3"][kills % 3];
        let next = tokio::time::Instant::now() + TURN;
        databases("kill", name).await;
        kills += 1;
        sleep(DOWN).await;
        databases("start", name).await;
        tokio::time::sleep_until(next).await;
        seen.report(begun, kills);
    }
    goes_on.store(false, Ordering::SeqCst);
    for worker in workers {
        worker.await.expect("a worker does not panic");
    }
    let mut left = Vec::new();
    for mutex in mutexes {
        left.extend(mutex.shutdown(Duration::from_secs(30)).await);
    }
    seen.report(begun, kills);
    println!("errors: {:#?}", seen.errors.lock().expect("no worker panics here"));
    let rows = store(0).list(&ListFilter::taken()).await.expect("the cluster responds");
    assert!(left.is_empty() && rows.is_empty(), "{left:?} could not be released; {rows:?} are held");
    assert_eq!(count(&seen.two_holders), 0, "locks with two holders");
    assert_eq!(count(&seen.stale_fences), 0, "fencing tokens that did not rise");
    let expected = if seconds < 600 { 1 } else { 10_000 };
    assert!(count(&seen.acquired) >= expected, "{} acquisitions in {seconds} s, of {expected}", count(&seen.acquired));
}
