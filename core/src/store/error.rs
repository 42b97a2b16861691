use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Says that a store could not do what it was asked: never that a lock is held, which is an answer and not an error.
///
/// After an error it is unknown whether the request took effect, unless the [kind](StoreErrorKind) says so: a reply may
/// have been lost on the way back. Clones share the source.
#[derive(Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What went wrong in a store, as far as a caller may want to tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store could not be reached, or the way to it broke. Trying again may help.
    Unavailable,
    /// The row of the lock could not be decided at this moment, because another transaction has it locked, or the store
    /// gave up on a conflict. Nothing happened; asking again a little later helps.
    Busy,
    /// The store accepts no writes: a read-only file, a replica.
    ReadOnly,
    /// The store has no space left.
    Full,
    /// The table is missing, is not ours, or comes from another version.
    Schema,
    /// The store's own settings are wrong, or it refused the login or a right.
    Config,
    /// Everything else.
    Other,
}

impl StoreError {
    /// Makes an error; `message` is lower case, without a full stop, without a password, and says what to do where there
    /// is something to do.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the driver's own error, which [`source`](StdError::source) then answers.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The answers to a request for `requests` locks that failed as a whole.
    pub fn for_all<A>(self, requests: usize) -> Vec<Result<A, StoreError>> {
        (0..requests).map(|_| Err(self.clone())).collect()
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Busy)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("StoreError");
        debug.field("kind", &self.kind).field("message", &self.message);
        if let Some(source) = &self.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
