//! How long an answer is waited for, and which connections are not used any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How requests are sent to a server: the policy that both backends have. Clones share what was learnt.
///
/// A connection that was used before may be dead without a word, as when a load balancer has forgotten it. Its answer is waited
/// for only for a part of the time that a request has; then the request is repeated on a new connection, and all those that
/// were opened before the failure are suspects, which are closed and not used. The same goes for a connection that broke, and
/// for one to a server that accepts no writes any more.
///
/// A request for a grant that was not answered is not repeated: it may still arrive, and grant the lock once more when it was
/// released. Its outcome is not known then, and whoever asked has it released.
#[derive(Debug, Clone)]
pub struct Sending {
    timeout: Duration,
    /// How long a statement may wait for a locked table.
    lock_timeout: Duration,
    failed: Arc<Mutex<Option<Instant>>>,
}

impl Sending {
    /// How long a request is given in all, and how long its statement may wait for a locked table.
    #[must_use]
    pub fn new(timeout: Duration, lock_timeout: Duration) -> Self {
        Self { timeout, lock_timeout, failed: Arc::default() }
    }

    /// How long a request is given in all.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long the answer of a connection is waited for by a request that began at `begun`.
    #[must_use]
    pub fn patience(&self, is_new: bool, begun: Instant) -> Duration {
        let left = self.timeout.saturating_sub(begun.elapsed());
        if is_new {
            return left;
        }
        // Longer than a healthy server takes that makes a statement wait.
        let used = (self.timeout / 4).max(self.lock_timeout + self.lock_timeout / 4);
        used.min(left)
    }

    /// Notes that a connection has failed on which a request was sent then, so that those of before are not used.
    pub fn failed(&self, sent: Instant) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = failed.map_or(Some(sent), |failed| Some(failed.max(sent)));
    }

    /// Whether a connection that was opened then may be dead.
    #[must_use]
    pub fn is_suspect(&self, opened: Instant) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|failed| opened <= failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_used_connection_has_a_part_of_the_time() {
        let sending = Sending::new(10 * SECOND, SECOND);
        let begun = Instant::now();
        assert_eq!(sending.patience(false, begun), 10 * SECOND / 4);
        assert!(sending.patience(true, begun) > 9 * SECOND);
        let slow = Sending::new(10 * SECOND, 4 * SECOND);
        assert_eq!(slow.patience(false, begun), 5 * SECOND);
        let late = begun.checked_sub(20 * SECOND).unwrap();
        assert_eq!((slow.patience(false, late), slow.patience(true, late)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn what_was_opened_before_a_failure_is_suspect() {
        let sending = Sending::new(SECOND, SECOND);
        let before = Instant::now();
        assert!(!sending.is_suspect(before));
        sending.clone().failed(Instant::now());
        assert!(sending.is_suspect(before));
        std::thread::sleep(Duration::from_millis(2));
        assert!(!sending.is_suspect(Instant::now()));
    }
}
