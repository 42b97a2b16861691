//! Prints how many pairs of acquire and release a mutex does per second, with batching and without.
//!
//! ```sh
//! cargo run --release --features all-backends --example throughput -- sqlite:/tmp/locks.db postgres://… mysql://…
//! ```
//!
//! Each round takes `DB_MUTEX_ROUND_MS` (default 1000) milliseconds; the best and the median of `DB_MUTEX_ROUNDS` (default 5)
//! rounds are printed. Each task takes locks of its own, whose ids are used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use db_mutex::{Connector, DbMutex, TableName};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TASKS: [usize; 3] = [1, 32, 1024];

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let rounds = number("DB_MUTEX_ROUNDS", 5);
    let length = Duration::from_millis(number("DB_MUTEX_ROUND_MS", 1_000));
    println!("{:<12} {:>6} {:>9} {:>12} {:>12} {:>12}", "store", "tasks", "batching", "median/s", "best/s", "p50 pair");
    for url in std::env::args().skip(1) {
        let scheme = url.split(':').next().unwrap_or_default().to_owned();
        let mut mutexes = Vec::new();
        for batching in [true, false] {
            mutexes.push((
                batching,
                Connector::new(&url)?
                    .table(TableName::new("throughput")?)
                    .builder()
                    .await?
                    .batching(batching)
                    .build()?,
            ));
        }
        for tasks in TASKS {
            let mut results = [Vec::new(), Vec::new()];
            for _ in 0..rounds {
                // In turn, so that a noisy moment of the machine meets both.
                for ((_, mutex), results) in mutexes.iter().zip(&mut results) {
                    results.push(round(mutex, tasks, length).await?);
                }
            }
            for ((batching, _), mut results) in mutexes.iter().zip(results) {
                results.sort_by(|one, two| one.0.total_cmp(&two.0));
                let (median, pair) = results[results.len() / 2];
                let best = results.last().map_or(0.0, |result| result.0);
                let batching = if *batching { "on" } else { "off" };
                println!("{scheme:<12} {tasks:>6} {batching:>9} {median:>12.0} {best:>12.0} {pair:>12.0?}");
            }
        }
        for (_, mutex) in mutexes {
            mutex.shutdown(Duration::from_secs(5)).await;
        }
    }
    Ok(())
}

/// The pairs per second of a round, and the time of a pair in the middle of all.
async fn round(mutex: &DbMutex, tasks: usize, length: Duration) -> Result<(f64, Duration), Failure> {
    let pairs = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let workers: Vec<_> = (0..tasks)
        .map(|task| {
            let (mutex, pairs) = (mutex.clone(), Arc::clone(&pairs));
            tokio::spawn(async move {
                let mut times = Vec::new();
                let lock = mutex.lock(format!("throughput {task}")).ttl(Duration::from_secs(60));
                while begun.elapsed() < length {
                    let started = Instant::now();
                    lock.acquire().await?.release().await?;
                    times.push(started.elapsed());
                    pairs.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, db_mutex::Error>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await??);
    }
    let per_second = pairs.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok((per_second, times[times.len() / 2]))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
