//! Runs core under thousands of random scenarios over a store that fails. Each can be repeated from its seed.
//!
//! Every run has some processes with clocks and store limits of their own and some tasks each, which acquire, wait, give up,
//! hold, extend and release; meanwhile calls fail, hang and panic, requests take effect after their error was returned, twice
//! or out of order, single requests of a batch fail, rows are locked, processes pause, the store's clock steps within the
//! margin, an operator releases by force and purges. What is promised is checked all along. All of it happens on tokio's
//! paused clock in one thread, and all chance comes from the seed; only owner tokens are the operating system's, and they
//! are compared for equality alone.
//!
//! `DB_MUTEX_SEEDS=1000000 cargo test --release -p db-mutex-core --test simulation` runs more scenarios,
//! `DB_MUTEX_SEEDS_FROM=5000000` begins with another seed, and `DB_MUTEX_SEED=4711` runs a single one, whose events it prints.
//! With `DB_MUTEX_COUNT=1` it goes on after a violation, and lists them all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod checks;
mod effects;
mod faults;
mod gate;
mod jobs;
mod ledger;
mod quiet;
mod random;
mod run;
mod store;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

#[test]
fn no_scenario_breaks_a_promise() {
    if let Some(seed) = number("DB_MUTEX_SEED") {
        let (violation, trace) = run::run(seed, true);
        println!("{}", trace.join("\n"));
        assert_eq!(violation, None, "seed {seed}");
        return;
    }
    let first = number("DB_MUTEX_SEEDS_FROM").unwrap_or(0);
    let last = first + number("DB_MUTEX_SEEDS").unwrap_or(10_000);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(None);
    let (counts, failures) = (number("DB_MUTEX_COUNT").is_some(), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last {
                        return;
                    }
                    if let (Some(violation), _) = run::run(seed, false) {
                        if counts {
                            println!("seed {seed}: {violation}");
                            failures.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        next.store(last, Ordering::Relaxed);
                        failed.lock().unwrap().get_or_insert((seed, violation));
                    }
                }
            });
        }
    });
    assert_eq!(failures.into_inner(), 0, "so many of the seeds from {first} to {last} broke a promise");
    if let Some((seed, violation)) = failed.into_inner().unwrap() {
        let (_, trace) = run::run(seed, true);
        panic!(
            "{}\n\nseed {seed} broke a promise {violation}\nrepeat it: DB_MUTEX_SEED={seed} cargo test -p \
             db-mutex-core --test simulation -- --nocapture",
            trace.join("\n")
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..50 {
        let (first, second) = (run::run(seed, true), run::run(seed, true));
        let differs = first.1.iter().zip(&second.1).position(|(one, two)| one != two);
        assert_eq!(differs, None, "seed {seed}: {:?}", differs.map(|at| (&first.1[at], &second.1[at])));
        assert_eq!(first, second, "seed {seed}");
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, which is no number")))
}
