//! A cron worker of apalis. Start it in two processes, or on ten machines: each tick runs once.
//!
//! The lock's id has the time of the tick in it, and `hold_at_least` keeps it taken. So a process that is late, or whose
//! clock is, finds that the tick is done.
//!
//! Both processes together print lines such as these, until Ctrl-C or SIGTERM:
//!
//! ```text
//! report-1767225600: written
//! report-1767225600: skipped
//! report-1767225602: skipped
//! report-1767225602: written
//! ```

use std::str::FromStr;
use std::time::Duration;

use apalis::prelude::*;
use apalis_cron::{CronScheduler, Tick};
use db_mutex::tower::LockLayer;
use tokio::signal::unix::{SignalKind, signal};

/// Longer than a process may be late.
const LATE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<(), BoxDynError> {
    let mutex = db_mutex::connect("sqlite:locks.db").await?;
    // Each tick leaves a row. Those of an hour ago go when a worker starts; `db-mutex purge` in crontab does so more often.
    mutex.purge_expired(Duration::from_secs(3600)).await?;

    let locks = mutex.clone();
    let each_tick_once = LockLayer::new(move |task: &Task<Tick>| {
        locks.lock(format!("report-{}", task.args.get_timestamp())).ttl(LATE).hold_at_least(LATE).keep_alive(true)
    })
    .skip_with(|held| println!("{}: skipped", held.lock_id().map_or("", |id| id.as_str())));

    let every_two_seconds = cron::Schedule::from_str("*/2 * * * * *")?;
    WorkerBuilder::new("report")
        .backend(CronScheduler::new(every_two_seconds))
        .layer(each_tick_once)
        .build(report)
        .run_until(stopped())
        .await?;

    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

async fn report(tick: Tick) -> Result<(), BoxDynError> {
    println!("report-{}: written", tick.get_timestamp());
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
async fn stopped() -> Result<(), std::io::Error> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminated.recv() => Ok(()),
    }
}
