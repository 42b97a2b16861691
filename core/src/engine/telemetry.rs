//! Events of `tracing` and, with the feature `metrics`, metrics of the crate of that name.
//!
//! Events have the lock id and the fence. Metrics have no lock id, because there may be any number of them. Neither has an
//! owner token or a password.

use std::time::Duration;

use crate::engine::holding::Holding;
use crate::{Holder, LockId, LostReason, StoreError};

/// Counts an event, adds to a gauge, or notes a duration; does nothing without the feature.
macro_rules! metric {
    (count $name:literal, $label:literal = $value:expr) => {
        #[cfg(feature = "metrics")]
        metrics::counter!($name, $label => $value).increment(1);
    };
    (seconds $name:literal, $duration:expr) => {
        #[cfg(feature = "metrics")]
        metrics::histogram!($name).record($duration.as_secs_f64());
    };
    (gauge $name:literal, $change:literal) => {
        #[cfg(feature = "metrics")]
        metrics::gauge!($name).increment(f64::from($change));
    };
}

pub(crate) fn acquired(holding: &Holding, waited: Duration) {
    tracing::debug!(lock_id = %holding.lock_id, fence = %holding.fence(), ?waited, "acquired");
    metric!(count "db_mutex_acquire_total", "outcome" = "granted");
    metric!(seconds "db_mutex_wait_seconds", waited);
    metric!(gauge "db_mutex_held", 1);
}

pub(crate) fn refused(lock_id: &LockId, holder: &Holder, waited: Duration) {
    tracing::debug!(%lock_id, %holder, fence = %holder.fence, ?waited, "refused");
    metric!(count "db_mutex_acquire_total", "outcome" = "held");
}

pub(crate) fn acquiring_failed(lock_id: &LockId, error: &StoreError) {
    tracing::warn!(%lock_id, %error, "acquiring failed");
    metric!(count "db_mutex_acquire_total", "outcome" = "failed");
}

/// A waiter has begun to wait.
pub(crate) fn waiting(lock_id: &LockId, holder: &Holder) {
    tracing::debug!(%lock_id, %holder, "waiting");
}

pub(crate) fn renewed(holding: &Holding) {
    tracing::debug!(lock_id = %holding.lock_id, fence = %holding.fence(), "renewed");
    metric!(count "db_mutex_renew_total", "outcome" = "renewed");
}

pub(crate) fn renewal_failed(holding: &Holding, error: &StoreError) {
    tracing::warn!(lock_id = %holding.lock_id, fence = %holding.fence(), %error, "renewal failed; trying again");
    metric!(count "db_mutex_renew_total", "outcome" = "failed");
}

pub(crate) fn lost(holding: &Holding, reason: LostReason) {
    tracing::warn!(lock_id = %holding.lock_id, fence = %holding.fence(), %reason, "the lock was lost");
    metric!(count "db_mutex_lost_total", "reason" = reason.as_str());
}

/// A guard is gone: it was released, dropped, or handed over.
pub(crate) fn ended(holding: &Holding, held: Duration, how: &'static str) {
    tracing::debug!(lock_id = %holding.lock_id, fence = %holding.fence(), ?held, how, "released");
    metric!(seconds "db_mutex_hold_seconds", held);
    metric!(gauge "db_mutex_held", -1);
}

pub(crate) fn drained(left: usize) {
    tracing::debug!(left, "drained");
}
