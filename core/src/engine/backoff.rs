use std::time::Duration;

use tokio::time::Instant;

use crate::WaitLimit;
use crate::engine::jitter::random_between;

/// When a waiter asks again: soon at first, then ever more rarely, at random within bounds so that many waiters do not
/// ask in step, and just after the holder's lease can end.
#[derive(Debug)]
pub(crate) struct Backoff {
    give_up: Option<Instant>,
    longest: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(20);
    pub(crate) const LONGEST: Duration = Duration::from_millis(500);
    const FLOOR: Duration = Duration::from_millis(5);

    /// Starts to wait.
    pub(crate) fn start(limit: WaitLimit) -> Self {
        let now = Instant::now();
        let give_up = match limit {
            WaitLimit::DontWait => Some(now),
            WaitLimit::AtMost(limit) => now.checked_add(limit),
            WaitLimit::Forever => None,
        };
        Self { give_up, longest: Self::FIRST }
    }

    /// How much of the limit is left; `None` forever.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.give_up.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// How long to pause before asking again; `None` when the limit is over. `expires_in` is what the holder has
    /// left, where it is known.
    pub(crate) fn next_pause(&mut self, expires_in: Option<Duration>) -> Option<Duration> {
        let left = self.left();
        if left == Some(Duration::ZERO) {
            return None;
        }
        let pause = self.longest.mul_f64(random_between(0.5, 1.0));
        self.longest = self.longest.mul_f64(1.5).min(Self::LONGEST);
        // The lease ends before the next question would come: ask then, a moment later than the store's clock says.
        let pause = match expires_in {
            // A zero says that it is not the lease that keeps the lock away, but a transaction that verified it.
            Some(end) if !end.is_zero() && end < pause => end + Self::FLOOR.mul_f64(random_between(0.2, 1.0)),
            _ => pause,
        };
        Some(pause.max(Self::FLOOR).min(left.unwrap_or(Duration::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_wait_asks_once() {
        assert_eq!(Backoff::start(WaitLimit::DontWait).next_pause(None), None);
        assert_eq!(Backoff::start(Duration::ZERO.into()).next_pause(None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_never_pass_the_limit() {
        let mut backoff = Backoff::start(Duration::from_secs(10).into());
        let begun = Instant::now();
        let mut last = Duration::ZERO;
        while let Some(pause) = backoff.next_pause(Some(Duration::from_secs(3600))) {
            assert!(pause <= Backoff::LONGEST);
            last = last.max(pause);
            tokio::time::sleep(pause).await;
        }
        assert!(begun.elapsed() >= Duration::from_secs(10));
        assert!(begun.elapsed() <= Duration::from_millis(10_100));
        assert!(last >= Backoff::LONGEST / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_lease_is_not_slept_through() {
        let mut backoff = Backoff::start(WaitLimit::Forever);
        for _ in 0..20 {
            backoff.next_pause(None);
        }
        let pause = backoff.next_pause(Some(Duration::from_millis(30))).unwrap();
        assert!(pause >= Duration::from_millis(30) && pause <= Duration::from_millis(40), "{pause:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_beyond_all_time_is_for_ever() {
        assert!(Backoff::start(Duration::MAX.into()).next_pause(None).is_some());
    }
}
