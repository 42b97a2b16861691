use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::events::Events;
use crate::world::Report;

/// How many scenarios are run, unless the environment sets another number.
pub(crate) fn scenarios(default: u64) -> u64 {
    number("DB_MUTEX_MODEL_SCENARIOS").unwrap_or(default)
}

/// Where the seeds begin.
pub(crate) fn first_seed() -> u64 {
    number("DB_MUTEX_MODEL_FROM").unwrap_or(0)
}

/// Runs the scenarios of so many seeds, and fails with the trace of one that breaks a promise. Returns what happened in
/// them; `None` if the environment wants a single one.
pub(crate) fn search(test: &str, scenarios: u64, run: impl Fn(u64, bool) -> (Report, Events) + Sync) -> Option<Events> {
    if let Some(seed) = number("DB_MUTEX_MODEL_SEED") {
        let (report, _) = run(seed, true);
        println!("{}", report.trace.join("\n"));
        assert_eq!(report.violations, [], "seed {seed}");
        return None;
    }
    let last = first_seed() + scenarios;
    let next = AtomicU64::new(first_seed());
    let failed = Mutex::new(None);
    let sum = Mutex::new(Events::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                let mut events = Events::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last {
                        break;
                    }
                    let (report, more) = run(seed, false);
                    events += more;
                    if !report.violations.is_empty() {
                        next.store(last, Ordering::Relaxed);
                        failed.lock().unwrap().get_or_insert(seed);
                    }
                }
                *sum.lock().unwrap() += events;
            });
        }
    });
    if let Some(seed) = failed.into_inner().unwrap() {
        let (report, _) = run(seed, true);
        panic!(
            "{}\n\nseed {seed} broke a promise: {:?}\nrepeat it: DB_MUTEX_MODEL_SEED={seed} cargo test -p \
             db-mutex-core --test model {test} -- --nocapture",
            report.trace.join("\n"),
            report.violations
        );
    }
    Some(sum.into_inner().unwrap())
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, which is no number")))
}
