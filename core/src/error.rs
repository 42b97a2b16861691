use std::fmt;

use thiserror::Error as ThisError;

use crate::{Holder, Invalid, LockId, LostReason, StoreError};

/// Why a lock could not be acquired, kept or read.
///
/// The error of all methods of [`DbMutex`](crate::DbMutex), [`Lock`](crate::Lock) and [`Guard`](crate::Guard) except those
/// that run a closure. Those return [`RunError`](crate::RunError), which `?` converts into this type.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// Another holder kept the lock for the whole wait limit.
    #[error("lock `{lock_id}` is held by {holder} ({})", until(holder))]
    Held {
        /// The lock.
        lock_id: LockId,
        /// The current holder.
        holder: Holder,
    },

    /// The lock was lost while it was held. Work under it may have overlapped a successor's.
    #[error("lock `{lock_id}` was lost: {reason}; work under it may have overlapped a successor's")]
    Lost {
        /// The lock.
        lock_id: LockId,
        /// Why it was lost.
        reason: LostReason,
    },

    /// The store failed. This says nothing about who holds the lock.
    #[error(
        "could not {action} {}{}",
        lock_id.as_ref().map_or_else(|| "locks".to_owned(), |id| format!("lock `{id}`")),
        what_may_be(*action, source)
    )]
    Store {
        /// The lock; `None` if the request was not about a single one.
        lock_id: Option<LockId>,
        /// What was tried.
        action: Action,
        /// The store's error.
        source: StoreError,
    },

    /// The database could not be opened or reached, or its table is not db-mutex's.
    #[error("could not open the database")]
    Connect {
        /// The store's error.
        source: StoreError,
    },

    /// An argument is invalid; nothing was sent to the store.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// What was tried when a store failed: [`Error::Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Acquiring a lock.
    Acquire,
    /// Taking over a lock that was handed over.
    Resume,
    /// Extending a lease.
    Extend,
    /// Releasing a lock.
    Release,
    /// Verifying a lock inside a transaction.
    Verify,
    /// Reading a lock.
    Read,
    /// Listing locks.
    List,
    /// Removing the rows of free locks.
    Purge,
}

impl Action {
    /// The action as a verb in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::Resume => "resume",
            Self::Extend => "extend",
            Self::Release => "release",
            Self::Verify => "verify",
            Self::Read => "read",
            Self::List => "list",
            Self::Purge => "purge",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    pub(crate) fn store(lock_id: &LockId, action: Action, source: StoreError) -> Self {
        Self::Store { lock_id: Some(lock_id.clone()), action, source }
    }

    /// Whether another holder has the lock.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. })
    }

    /// Whether the lock was lost while it was held.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether an argument is invalid.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }

    /// Whether the store failed for a reason that may pass, so that trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store { source, .. } | Self::Connect { source } if source.is_transient())
    }

    /// The lock that the error is about, if it is about a single one.
    pub fn lock_id(&self) -> Option<&LockId> {
        match self {
            Self::Held { lock_id, .. } | Self::Lost { lock_id, .. } => Some(lock_id),
            Self::Store { lock_id, .. } => lock_id.as_ref(),
            Self::Connect { .. } | Self::Invalid(_) => None,
        }
    }
}

/// What may have been left in the store, in words.
fn what_may_be(action: Action, source: &StoreError) -> &'static str {
    match action {
        Action::Acquire if !source.is_undone() => {
            " (if it was granted after all, it is released in the background, or expires with its TTL)"
        }
        _ => "",
    }
}

fn until(holder: &Holder) -> String {
    match holder.expires_in {
        Some(left) => format!("for at most {left:.0?} more"),
        None => "it never expires".to_owned(),
    }
}
