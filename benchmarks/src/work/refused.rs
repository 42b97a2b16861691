use std::time::{Duration, Instant};

use db_mutex::Error;

use crate::spec::{Failure, Sample, Spec};
use crate::subjects::db_mutex::connect;
use crate::worker::Start;

/// Attempts at a lock that another mutex holds. Nothing else happens on the server meanwhile, so what it writes is theirs.
pub(crate) async fn refused(spec: &Spec, millis: u64) -> Result<Sample, Failure> {
    let other = connect(spec).await?;
    let _held = other.lock("held").ttl(Duration::from_secs(600)).acquire().await?;
    let mutex = connect(spec).await?;
    let lock = mutex.lock("held");
    let _ = lock.acquire().await;
    // The server counts what it has written a little later; the grant above must not count.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut sample = Sample::default();
    let running = Start.wait()?;
    let end = running.begun + Duration::from_millis(millis);
    loop {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        match lock.acquire().await {
            Err(Error::Held { .. }) => sample.record(u64::try_from(begun.elapsed().as_nanos())?),
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("the lock is held, and was granted".into()),
        }
    }
    running.end(&mut sample)?;
    // The connections stay open until the runner has read the server's CPU.
    std::mem::forget(mutex);
    Ok(sample)
}
