use std::fmt;
use std::time::Duration;

use thiserror::Error as ThisError;

use crate::{Holder, Invalid, LockId, LostReason, StoreError};

/// Says why a lock was not had, or not kept.
///
/// `T` is what the body returned where a closure was run under the lock, so that no finished work is lost; elsewhere it
/// is `()`.
#[derive(ThisError)]
#[non_exhaustive]
pub enum Error<T = ()> {
    /// Somebody else holds the lock, and did so for as long as the caller was willing to wait.
    #[error("lock `{lock_id}` is held by {holder} ({})", match expires_in {
        Some(left) => format!("for at most {left:.0?} more"),
        None => "it never expires".to_owned(),
    })]
    Held {
        /// Which lock.
        lock_id: LockId,
        /// Who holds it.
        holder: Holder,
        /// How long that lasts unless it is renewed or released, by the store's clock; `None` for ever.
        expires_in: Option<Duration>,
    },

    /// The lease ended before the work under it was done: it expired, or was released by force. The work may have
    /// overlapped that of a successor.
    #[error(
        "the lease on lock `{lock_id}` ended before the work under it was done; it may have overlapped a successor's"
    )]
    TimedOut {
        /// Which lock.
        lock_id: LockId,
        /// What the body returned all the same.
        output: T,
    },

    /// The lock was lost, and the work under it was dropped where it stood, as [`OnLost::Drop`](crate::OnLost::Drop) asks.
    #[error("lock `{lock_id}` was lost ({reason}), and the work under it was dropped")]
    Lost {
        /// Which lock.
        lock_id: LockId,
        /// Why it was lost.
        reason: LostReason,
    },

    /// The store could not do what it was asked.
    #[error("could not {action} lock `{lock_id}`")]
    Store {
        /// Which lock.
        lock_id: LockId,
        /// What was tried: `acquire`, `extend`, `release`, …
        action: &'static str,
        /// What the store said.
        source: StoreError,
    },

    /// The database could not be opened or reached, or its table is not ours.
    #[error("could not open the database")]
    Connect {
        /// What the store said.
        source: StoreError,
    },

    /// Something that was given is not valid; nothing was sent to the store.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl<T> Error<T> {
    pub(crate) fn store(lock_id: &LockId, action: &'static str, source: StoreError) -> Self {
        Self::Store { lock_id: lock_id.clone(), action, source }
    }

    /// Whether somebody else holds the lock.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. })
    }

    /// Whether the lock was lost before the work was done.
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Lost { .. })
    }

    /// Whether something that was given is not valid.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }

    /// Whether the store failed for a reason that may pass, so that trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store { source, .. } | Self::Connect { source } if source.is_transient())
    }

    /// Changes the type of what the body returned.
    pub fn map_output<U>(self, change: impl FnOnce(T) -> U) -> Error<U> {
        match self {
            Self::Held { lock_id, holder, expires_in } => Error::Held { lock_id, holder, expires_in },
            Self::TimedOut { lock_id, output } => Error::TimedOut { lock_id, output: change(output) },
            Self::Store { lock_id, action, source } => Error::Store { lock_id, action, source },
            Self::Lost { lock_id, reason } => Error::Lost { lock_id, reason },
            Self::Connect { source } => Error::Connect { source },
            Self::Invalid(invalid) => Error::Invalid(invalid),
        }
    }
}

// By hand: a body's output need not be `Debug` for the error to be one.
impl<T> fmt::Debug for Error<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { lock_id, holder, expires_in } => f
                .debug_struct("Held")
                .field("lock_id", lock_id)
                .field("holder", holder)
                .field("expires_in", expires_in)
                .finish(),
            Self::TimedOut { lock_id, .. } => {
                f.debug_struct("TimedOut").field("lock_id", lock_id).finish_non_exhaustive()
            }
            Self::Store { lock_id, action, source } => f
                .debug_struct("Store")
                .field("lock_id", lock_id)
                .field("action", action)
                .field("source", source)
                .finish(),
            Self::Lost { lock_id, reason } => {
                f.debug_struct("Lost").field("lock_id", lock_id).field("reason", reason).finish()
            }
            Self::Connect { source } => f.debug_struct("Connect").field("source", source).finish(),
            Self::Invalid(invalid) => f.debug_tuple("Invalid").field(invalid).finish(),
        }
    }
}
