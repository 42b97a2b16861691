//! How long to wait for a reply, and which connections are no longer used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The policy of both backends for sending requests to a server. Clones share their state.
///
/// A connection that was used before may be dead without an error, for example if a load balancer has dropped it. A request
/// on such a connection waits for the reply only for a part of its time limit. Then it is repeated on a new connection, and
/// all connections that were opened before the failure are suspect: they are closed, and not used again. The same applies
/// to a connection that broke, and to a server that no longer accepts writes.
///
/// A request for a grant is not repeated if there was no reply: it may still arrive, and grant the lock again after its
/// release. Its outcome is then unknown, and the caller has the lock released.
#[derive(Debug, Clone)]
pub struct Sending {
    timeout: Duration,
    /// How long a statement may wait for a locked table.
    lock_timeout: Duration,
    failed: Arc<Mutex<Option<Instant>>>,
}

impl Sending {
    /// A policy with the time limit of a request, and the time for which a statement may wait for a locked table.
    #[must_use]
    pub fn new(timeout: Duration, lock_timeout: Duration) -> Self {
        Self { timeout, lock_timeout, failed: Arc::default() }
    }

    /// The time limit of a request.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long a request that began at `begun` waits for a reply on a connection.
    #[must_use]
    pub fn answer_limit(&self, is_new: bool, begun: Instant) -> Duration {
        let left = self.timeout.saturating_sub(begun.elapsed());
        if is_new {
            return left;
        }
        // Longer than a healthy server lets a statement wait.
        let used = (self.timeout / 4).max(self.lock_timeout + self.lock_timeout / 4);
        used.min(left)
    }

    /// Notes that a connection has failed on which a request was sent at `sent`, so that older connections are not used.
    pub fn failed(&self, sent: Instant) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = failed.map_or(Some(sent), |failed| Some(failed.max(sent)));
    }

    /// Whether a connection that was opened at `opened` may be dead.
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
        assert_eq!(sending.answer_limit(false, begun), 10 * SECOND / 4);
        assert!(sending.answer_limit(true, begun) > 9 * SECOND);
        let slow = Sending::new(10 * SECOND, 4 * SECOND);
        assert_eq!(slow.answer_limit(false, begun), 5 * SECOND);
        let late = begun.checked_sub(20 * SECOND).unwrap();
        assert_eq!((slow.answer_limit(false, late), slow.answer_limit(true, late)), (Duration::ZERO, Duration::ZERO));
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
