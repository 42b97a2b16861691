use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;

use crate::connect::Servers;
use crate::sql::NOW;

/// A holder stops this long before its lease ends, at least: clocks that differ by more can give a lock two holders.
const MARGIN: Duration = Duration::from_millis(100);

/// Compares the clocks of all servers, and warns if two differ by more than a holder's safety margin.
pub(crate) async fn warn(servers: Arc<Servers>) {
    let begun = Instant::now();
    let mut clocks = Vec::new();
    for server in 0..servers.len() {
        if let Some(clock) = Clock::read(&servers, server, begun).await {
            clocks.push((servers.name(server), clock));
        }
    }
    let earliest = clocks.iter().min_by_key(|(_, clock)| clock.latest);
    let latest = clocks.iter().max_by_key(|(_, clock)| clock.earliest);
    if let (Some((behind, slow)), Some((ahead, fast))) = (earliest, latest)
        && let Some(apart) = fast.is_ahead_of(slow)
    {
        tracing::warn!(
            ahead,
            behind,
            ?apart,
            "the clocks of the database servers differ; a lock may have two holders for as long; synchronize the clocks"
        );
    }
}

/// When a server's clock showed zero on this machine's clock, in microseconds: between these.
#[derive(Debug, Clone, Copy)]
struct Clock {
    earliest: i64,
    latest: i64,
}

impl Clock {
    async fn read(servers: &Servers, server: usize, begun: Instant) -> Option<Self> {
        // One that accepts no writes is not asked: it has no say in who holds a lock.
        let mut connection = servers.open(server).await.ok()?;
        let sent = begun.elapsed();
        let reading = connection.query_first(format!("SELECT {NOW}"));
        let now: i64 = tokio::time::timeout(servers.time_for_one(), reading).await.ok()?.ok()??;
        let received = begun.elapsed();
        let _ = connection.disconnect().await;
        let micros = |instant: Duration| i64::try_from(instant.as_micros()).unwrap_or(i64::MAX);
        Some(Self { earliest: now - micros(received), latest: now - micros(sent) })
    }

    /// By how much at least, if it is more than the margin.
    fn is_ahead_of(&self, other: &Self) -> Option<Duration> {
        let apart = Duration::from_micros(u64::try_from(self.earliest - other.latest).ok()?);
        (apart > MARGIN).then_some(apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_reading_takes_is_no_difference() {
        let slow = Clock { earliest: 0, latest: 400_000 };
        assert!(Clock { earliest: 450_000, latest: 900_000 }.is_ahead_of(&slow).is_none());
        let apart = Clock { earliest: 600_000, latest: 900_000 }.is_ahead_of(&slow);
        assert_eq!(apart, Some(Duration::from_millis(200)));
        assert!(slow.is_ahead_of(&Clock { earliest: 600_000, latest: 900_000 }).is_none());
    }
}
