//! A job of tokio-cron-scheduler that takes longer than a second, every second: while one run is at work, in any process, the
//! next ones are skipped.
//!
//! ```text
//! 1st tick: import begins
//! 2nd tick: skipped, because the lock is held
//! 1st tick: import ends
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_cron_scheduler::{Job, JobScheduler};

#[derive(Debug, PartialEq)]
enum Event {
    Begins,
    Skipped,
    Ends,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mutex = db_mutex::connect("sqlite:locks.db").await?;
    let (events, mut happened) = mpsc::unbounded_channel();
    // The import takes until this example has seen a tick that is skipped.
    let enough = Arc::new(Notify::new());

    let job = {
        let (mutex, enough) = (mutex.clone(), Arc::clone(&enough));
        Job::new_async("* * * * * *", move |_id, _scheduler| {
            let (mutex, events, enough) = (mutex.clone(), events.clone(), Arc::clone(&enough));
            Box::pin(async move {
                // Renewed, because it is not known how long an import takes; free 30 seconds after a crash.
                let lock = mutex.lock("import").ttl(Duration::from_secs(30)).keep_alive(true);
                let run = lock.run_or_skip(async |_guard| {
                    let _ = events.send(Event::Begins);
                    enough.notified().await;
                    let _ = events.send(Event::Ends);
                });
                match run.await {
                    Ok(Some(())) => {}
                    Ok(None) => _ = events.send(Event::Skipped),
                    Err(error) => eprintln!("import: {error}"),
                }
            })
        })?
    };
    let mut scheduler = JobScheduler::new().await?;
    scheduler.add(job).await?;
    scheduler.start().await?;

    let mut until = async |event| while happened.recv().await.is_some_and(|next| next != event) {};
    until(Event::Begins).await;
    println!("1st tick: import begins");
    until(Event::Skipped).await;
    println!("2nd tick: skipped, because the lock is held");
    enough.notify_one();
    until(Event::Ends).await;
    println!("1st tick: import ends");

    scheduler.shutdown().await?;
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
