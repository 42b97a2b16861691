use std::sync::Arc;
use std::time::{Duration, Instant};

use db_mutex::{DbMutex, Guard};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::spec::{Failure, Sample, Spec};
use crate::subjects::db_mutex::connect;
use crate::worker::Start;
use crate::{cpu, spec};

/// Acquires many locks, and does nothing but hold them.
pub(crate) async fn leases(spec: &Spec, count: usize, ttl_millis: u64, millis: u64) -> Result<Sample, Failure> {
    let mutex = connect(spec).await?;
    mutex.lock("warm-up").acquire().await?.release().await?;
    let mut sample = Sample::default();
    let before = cpu::memory()?;
    let begun = Instant::now();
    let guards = acquire_all(&mutex, count, Duration::from_millis(ttl_millis)).await?;
    sample.values.insert("seconds to acquire all".into(), begun.elapsed().as_secs_f64());
    sample.values.insert("bytes per held lock".into(), (cpu::memory()? - before) / count as f64);
    let running = Start.wait()?;
    sleep(Duration::from_millis(millis)).await;
    running.end(&mut sample)?;
    let lost = guards.iter().filter(|guard| !guard.is_valid()).count();
    sample.values.insert("lost".into(), lost as f64);
    sample.count = guards.len() as u64;
    // The rows stay as they are: the runner updates the same ones.
    std::mem::forget((guards, mutex));
    Ok(sample)
}

async fn acquire_all(mutex: &DbMutex, count: usize, ttl: Duration) -> Result<Vec<Guard>, Failure> {
    const AT_ONCE: usize = 256;
    let mut tasks = JoinSet::new();
    for first in 0..AT_ONCE.min(count) {
        let mutex = mutex.clone();
        tasks.spawn(async move {
            let mut guards = Vec::new();
            for number in (first..count).step_by(AT_ONCE) {
                guards.push(mutex.lock(format!("lease-{number}")).ttl(ttl).keep_alive(true).acquire().await?);
            }
            Ok::<_, spec::Failure>(guards)
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(guards) = tasks.join_next().await {
        all.extend(guards??);
    }
    Ok(all)
}

/// How much of its lease a lock has left at the worst, while many others wait for locks that are held by another mutex.
///
/// A lease is renewed when a third of its TTL is over, and one attempt may take a sixth. So a lock that has half of its TTL left
/// was renewed in time, and one with less was not.
pub(crate) async fn waiters(spec: &Spec, count: usize, one_id: bool, millis: u64) -> Result<Sample, Failure> {
    const TTL: Duration = Duration::from_secs(6);
    let ids = if one_id { 1 } else { count };
    let other = connect(spec).await?;
    let _held = acquire_all(&other, ids, Duration::from_secs(60)).await?;

    let mutex = connect(spec).await?;
    let guard = Arc::new(mutex.lock("renewed").ttl(TTL).keep_alive(true).acquire().await?);
    let mut sample = Sample::default();
    let running = Start.wait()?;
    let before = cpu::memory()?;
    let mut waiters = JoinSet::new();
    for number in 0..count {
        let lock = mutex.lock(format!("lease-{}", number % ids)).wait(Duration::from_secs(600));
        waiters.spawn(async move { lock.acquire().await.map(drop) });
    }
    let end = running.begun + Duration::from_millis(millis);
    let mut least = TTL;
    while Instant::now() < end {
        least = least.min(guard.remaining().unwrap_or_default());
        sleep(Duration::from_millis(5)).await;
        if let Some(ended) = waiters.try_join_next() {
            return Err(format!("a waiter ended, and the lock is held: {ended:?}").into());
        }
    }
    sample.values.insert("bytes per waiter".into(), (cpu::memory()? - before) / count as f64);
    sample.values.insert("least part of the TTL left".into(), least.as_secs_f64() / TTL.as_secs_f64());
    sample.values.insert("lost".into(), f64::from(u8::from(!guard.is_valid())));
    running.end(&mut sample)?;
    sample.count = count as u64;
    std::mem::forget(waiters);
    Ok(sample)
}
