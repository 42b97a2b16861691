use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Says that a store could not do what it was asked: never that a lock is held, which is an answer and not an error.
///
/// After an error it is unknown whether the request took effect, unless [`is_undone`](Self::is_undone) says so: a reply may
/// have been lost on the way back. Clones share the source.
#[derive(Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    /// Whether the request took no effect, where the kind does not say so.
    undone: Option<bool>,
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
    /// The store accepts no writes: a read-only file, a replica. Nothing happened.
    ReadOnly,
    /// The store has no space left. Nothing happened.
    Full,
    /// The table is missing, is not ours, or comes from another version. Nothing happened.
    Schema,
    /// The store's own settings are wrong, or it refused the login or a right. Nothing happened.
    Config,
    /// Everything else. The request may have taken effect.
    Other,
}

impl StoreError {
    /// Makes an error; `message` is lower case, without a full stop, without a password, and says what to do where there
    /// is something to do.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, undone: None, message: message.into(), source: None }
    }

    /// Adds the driver's own error, which [`source`](StdError::source) then answers.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Says that the request took no effect and will take none: nothing was sent, or the database has undone it.
    #[must_use]
    pub fn undone(mut self) -> Self {
        self.undone = Some(true);
        self
    }

    /// Says that the request may have taken effect, although the kind says that it has not: an attempt before the one that
    /// failed so had lost its reply.
    #[must_use]
    pub fn unknown(mut self) -> Self {
        self.undone = Some(false);
        self
    }

    /// Whether the request took no effect, by its kind or because the store says so. Otherwise that is not known.
    pub fn is_undone(&self) -> bool {
        let by_kind = !matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Other);
        self.undone.unwrap_or(by_kind)
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
