//! Opening a store: for how long, and what is waited for meanwhile.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use tokio::time::{Instant, sleep};

use crate::hosts::Hosts;
use crate::unreachable::Unreachable;

/// Until when a store has to be open. Afterwards nothing: later connections have limits of their own.
#[derive(Debug, Default)]
pub(crate) struct Opening(Mutex<Option<Instant>>);

impl Opening {
    pub(crate) fn until(&self) -> Option<Instant> {
        *self.lock()
    }

    pub(crate) fn set(&self, until: Option<Instant>) {
        *self.lock() = until;
    }

    /// Nothing that can panic runs under this mutex.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was learnt of the hosts of a URL when a store was opened there before. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<Mutex<Remembered>>);

/// The hosts of the last URL.
type Remembered = Option<(Key, Arc<Hosts>)>;

/// What hosts depend on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) url: String,
    pub(crate) read_only: bool,
    pub(crate) statement_timeout: Duration,
}

impl Known {
    /// The hosts that are known by this key, or else these.
    pub(crate) fn or(&self, key: Key, hosts: Arc<Hosts>) -> Arc<Hosts> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((same, hosts)) if *same == key => Arc::clone(hosts),
            _ => {
                *known = Some((key, Arc::clone(&hosts)));
                hosts
            }
        }
    }
}

/// Without the URL, which may have a password.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

/// Waits for a server that accepts no writes yet, or no client. During a failover, the name of the primary leads to a standby for a
/// while, or to a server that starts.
pub(crate) struct Waiting {
    until: Instant,
    pause: Duration,
    /// What the last such server said.
    reason: Option<StoreError>,
}

impl Waiting {
    pub(crate) fn new(until: Instant) -> Self {
        Self { until, pause: Duration::from_millis(50), reason: None }
    }

    /// Pauses before the next attempt. Returns the error if that is not worth it.
    pub(crate) async fn after(&mut self, error: StoreError) -> Result<(), StoreError> {
        if may_become_a_primary(&error) {
            self.reason = Some(error.clone());
        } else if !error.is_transient() {
            return Err(error);
        }
        // It says more than that there was no time for another attempt.
        let Some(reason) = &self.reason else { return Err(error) };
        if Instant::now() + self.pause >= self.until {
            return Err(reason.clone());
        }
        tracing::debug!(%error, "waiting for a server that accepts writes");
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_millis(500));
        Ok(())
    }
}

fn may_become_a_primary(error: &StoreError) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<Unreachable>());
    error.kind() == Kind::ReadOnly || cause.is_some_and(Unreachable::may_become_a_primary)
}
