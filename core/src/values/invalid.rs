use std::time::Duration;

use thiserror::Error as ThisError;

/// An invalid argument, and what would be valid instead.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Invalid {
    /// A lock id.
    #[error("invalid lock id {id:?}: {reason}")]
    LockId {
        /// The id, cut to its first 40 characters.
        id: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A TTL.
    #[error("ttl {value} is {reason}; give 100ms to 365 days, or never")]
    Ttl {
        /// The value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The name of a holder.
    #[error("invalid holder name: {reason}")]
    HolderName {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A duration for `hold_at_least`.
    #[error("hold-at-least {hold_at_least:?} is longer than the ttl {ttl}; make it shorter, or the ttl longer")]
    HoldAtLeast {
        /// The value.
        hold_at_least: Duration,
        /// The TTL, which must be at least as long.
        ttl: super::Ttl,
    },
    /// An environment variable.
    #[error("environment variable {variable} is {value:?}: {reason}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A URL. The error does not contain the URL, because it may contain a password.
    #[error("invalid database url: {reason}")]
    Url {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A URL scheme for a store.
    #[error("invalid url scheme {scheme:?}: {reason}")]
    Scheme {
        /// The scheme, up to the first character that is not allowed in one.
        scheme: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The global mutex of the feature `macros`.
    #[error("the global mutex {reason}")]
    GlobalMutex {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A call of the module `blocking` where blocking could deadlock.
    #[error("cannot block here: {reason}")]
    Blocking {
        /// Why not, and what to do.
        reason: String,
    },
    /// The name of a table.
    #[error("invalid table name {name:?}: {reason}")]
    Table {
        /// The name.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl From<std::convert::Infallible> for Invalid {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
