//! Clients that acquire, wait and keep leases through a [`Proxy`] that breaks their connections.
//!
//! `DB_MUTEX_FAULT_SEEDS=60` takes as many seeds as that, new ones each time; `scripts/test-long` does.
//! `DB_MUTEX_FAULT_SEED` repeats the one that a failure names.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::LockStore;
use db_mutex_core::{DbMutex, Guard, LockId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{Fault, Proxy, Schedule};

const SECOND: Duration = Duration::from_secs(1);
/// For how long there are faults.
const LENGTH: Duration = Duration::from_secs(6);
/// How long a store takes for a request at most, and what a busy machine adds to it.
const LIMIT: Duration = Duration::from_secs(10 + 5);
const LEASES: usize = 3;
const WORKERS: usize = 8;
const IDS: usize = 3;

/// The seeds that are run side by side, again and again until there are none left.
pub fn seeds() -> Vec<Vec<u64>> {
    let number = |name| env::var(name).ok().map(|text: String| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("DB_MUTEX_FAULT_SEED") {
        return vec![vec![seed]];
    }
    let seeds: Vec<u64> = match number("DB_MUTEX_FAULT_SEEDS") {
        Some(count) => {
            let first = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
            (first..first + count).collect()
        }
        None => (1..=3).collect(),
    };
    seeds.chunks(3).map(<[u64]>::to_vec).collect()
}

/// One scenario of faults.
#[derive(Debug)]
pub struct Scenario<S> {
    /// What the server is called.
    pub server: &'static str,
    /// What the faults follow from.
    pub seed: u64,
    /// Two clients that reach the server through a proxy.
    pub far: [S; 2],
    /// Another, which does nothing but to ask after a fault: all of its connections are there, and no other client has found out
    /// what has become of them.
    pub idle: S,
    /// A client that reaches it directly.
    pub near: S,
}

/// Says which seed has failed.
struct Named(&'static str, u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}: to repeat it, set DB_MUTEX_FAULT_SEED={}", self.0, self.1);
        }
    }
}

/// What the holders of one id have seen.
#[derive(Default)]
struct Seen {
    inside: AtomicBool,
    latest: AtomicI64,
}

#[derive(Default)]
struct Counts {
    granted: AtomicUsize,
    held: AtomicUsize,
    failed: AtomicUsize,
}

impl<S: LockStore + Clone> Scenario<S> {
    /// Breaks the connections of the two clients for a while. Never do two hold one lock; fences rise; leases of ten seconds
    /// are not lost; after each fault the next request is answered; and nothing stays held.
    pub async fn run(self, proxy: &Proxy) {
        let Self { server, seed, .. } = self;
        let _named = Named(server, seed);
        let mutexes = self.far.clone().map(|store| DbMutex::new(store).expect("a mutex"));
        let keepers = self.far.clone().map(|store| DbMutex::new(store).expect("a mutex"));
        let leases = leases(&keepers).await;
        let (seen, counts) = (Arc::new(<[Seen; IDS]>::default()), Arc::new(Counts::default()));
        let end = Instant::now() + LENGTH;
        let mut tasks = JoinSet::new();
        for number in 0..WORKERS {
            let mutex = mutexes[number % 2].clone();
            tasks.spawn(work(mutex, number, Arc::clone(&seen), Arc::clone(&counts), end));
        }
        for number in 0..LEASES {
            tasks.spawn(wait_in_vain(mutexes[number % 2].clone(), number));
        }

        let (mut schedule, mut faults, mut slowest) = (Schedule::new(seed), Vec::new(), Duration::ZERO);
        open_connections(&self.idle).await;
        while Instant::now() < end {
            let (pause, fault) = schedule.next_fault();
            sleep(pause).await;
            proxy.inflict(fault);
            faults.push(fault);
            // One of three comes while the last has not been noticed yet.
            if faults.len() % 3 != 1 {
                tasks.spawn(next_lock_is_answered(mutexes[faults.len() % 2].clone()));
                let sent = Instant::now();
                next_read_is_answered(&self.idle, &faults).await;
                slowest = slowest.max(sent.elapsed());
                open_connections(&self.idle).await;
            }
            for lease in &leases {
                assert!(lease.is_valid(), "{:?} of {}, after {faults:?}", lease.lost_reason(), lease.lock_id());
            }
        }
        proxy.slow_down(0);
        while let Some(ended) = tasks.join_next().await {
            ended.expect("what a client has seen");
        }
        // Here it is waited for until what was not answered is settled.
        let [one, two] = &mutexes;
        let left = tokio::join!(one.shutdown(3 * LIMIT), two.shutdown(3 * LIMIT));
        assert!(left.0.is_empty() && left.1.is_empty(), "{left:?} are not released, after {faults:?}");
        for lease in leases {
            let lock_id = lease.lock_id().clone();
            lease.release().await.unwrap_or_else(|error| panic!("{lock_id}: {error:?}, after {faults:?}"));
        }
        for keeper in &keepers {
            assert_eq!(keeper.shutdown(3 * LIMIT).await, [], "not released, after {faults:?}");
        }
        let taken = self.near.list(&ListFilter::taken()).await.expect("the rows");
        assert!(taken.is_empty(), "after {faults:?} these stay held: {taken:#?}");
        let count = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        let (granted, held, failed) = (count(&counts.granted), count(&counts.held), count(&counts.failed));
        println!(
            "{server}, seed {seed}: {granted} granted, {held} refused, {failed} failed; the slowest answer after a fault \
             took {slowest:?}; {faults:?}"
        );
        assert!(granted > 0, "there is nothing to be seen");
    }
}

async fn leases(keepers: &[DbMutex; 2]) -> Vec<Guard> {
    let mut leases = Vec::with_capacity(LEASES);
    for number in 0..LEASES {
        let lock = keepers[number % 2].lock(format!("lease {number}")).ttl(10 * SECOND).keep_alive(true);
        leases.push(lock.acquire().await.expect("no one else wants it"));
    }
    leases
}

/// Asks for so many things at once that each connection of the store is used.
async fn open_connections(store: &(impl LockStore + Clone)) {
    let mut asking = JoinSet::new();
    for number in 0..16 {
        let (store, lock_id) = (store.clone(), LockId::new(format!("none {number}")).expect("a valid id"));
        asking.spawn(async move { store.find(&lock_id).await.expect("an answer").is_none() });
    }
    while let Some(asked) = asking.join_next().await {
        assert!(asked.expect("an answer"));
    }
}

/// A read is repeated until it succeeds.
async fn next_read_is_answered(store: &impl LockStore, faults: &[Fault]) {
    let lock_id = LockId::new("lease 0").expect("a valid id");
    let found = timeout(LIMIT, store.find(&lock_id)).await;
    let found = found.unwrap_or_else(|_| panic!("no answer within {LIMIT:?}, after {faults:?}"));
    let row = found.unwrap_or_else(|error| panic!("{error:?}, after {faults:?}"));
    assert!(row.is_some_and(|row| row.owned), "the lease is held, after {faults:?}");
}

/// The lock is granted, or the error says that it may be tried again.
async fn next_lock_is_answered(mutex: DbMutex) {
    let lock = mutex.lock("next").ttl(60 * SECOND);
    match timeout(LIMIT, lock.acquire()).await.expect("an answer in the time of a request") {
        Ok(guard) => drop(guard),
        Err(error) => assert!(error.is_held() || error.is_transient(), "{error:?}"),
    }
}

/// Takes and releases, half of the workers without waiting.
async fn work(mutex: DbMutex, number: usize, seen: Arc<[Seen; IDS]>, counts: Arc<Counts>, end: Instant) {
    let mut turn = number;
    while Instant::now() < end {
        turn += 1;
        let (seen, lock) = (&seen[turn % IDS], mutex.lock(format!("id {}", turn % IDS)).ttl(60 * SECOND));
        let lock = if number < WORKERS / 2 { lock } else { lock.wait(3 * SECOND) };
        let guard = match lock.acquire().await {
            Ok(guard) => guard,
            Err(error) => {
                assert!(error.is_held() || error.is_transient(), "{error:?}");
                let count = if error.is_held() { &counts.held } else { &counts.failed };
                count.fetch_add(1, Ordering::SeqCst);
                sleep(SECOND / 50).await;
                continue;
            }
        };
        counts.granted.fetch_add(1, Ordering::SeqCst);
        assert!(!seen.inside.swap(true, Ordering::SeqCst), "two hold {}", guard.lock_id());
        let before = seen.latest.swap(guard.fence().get(), Ordering::SeqCst);
        assert!(before < guard.fence().get(), "fence {} of {} came after {before}", guard.fence(), guard.lock_id());
        sleep(SECOND / 100).await;
        assert!(guard.is_valid(), "{:?} of {}", guard.lost_reason(), guard.lock_id());
        seen.inside.store(false, Ordering::SeqCst);
        match guard.release().await {
            Ok(()) => {}
            Err(error) => assert!(error.is_transient() && !error.is_lost(), "{error:?}"),
        }
    }
}

/// Waits for a lease that is kept.
async fn wait_in_vain(mutex: DbMutex, number: usize) {
    let lock = mutex.lock(format!("lease {number}")).ttl(60 * SECOND).wait(LENGTH);
    match lock.acquire().await {
        Ok(guard) => panic!("two hold {}", guard.lock_id()),
        Err(error) => assert!(error.is_held() || error.is_transient(), "{error:?}"),
    }
}
