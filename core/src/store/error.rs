use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The failure of a request to a store. It never means that a lock is held, which is an answer and not an error.
///
/// After an error it is unknown whether the request took effect, unless [`is_undone`](Self::is_undone) returns `true`: the
/// reply may have been lost. Clones share the source.
#[derive(Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    /// Whether the request took no effect, if the kind does not imply it.
    undone: Option<bool>,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The kinds of failures of a store that callers may want to distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store could not be reached, or the connection was lost. Trying again may help.
    Unavailable,
    /// The request could not be decided at this moment, because another transaction has locked the row, or the store gave
    /// up after a conflict. Nothing happened; trying again a little later helps.
    Busy,
    /// The store accepts no writes: a read-only file, a replica. Nothing happened.
    ReadOnly,
    /// The store has no space left. Nothing happened.
    Full,
    /// The table is missing, was not made by db-mutex, or is of another version. Nothing happened.
    Schema,
    /// The store's own settings are wrong, or it refused the login or a right. Nothing happened.
    Config,
    /// Everything else. The request may have taken effect.
    Other,
}

impl StoreError {
    /// Returns an error. `message` is in lower case, has no full stop and no password, and says what to do if something can
    /// be done.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, undone: None, message: message.into(), source: None }
    }

    /// Adds the driver's own error, which [`source`](StdError::source) then returns.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Marks the request as without effect, now and later: nothing was sent, or the database has undone it.
    #[must_use]
    pub fn undone(mut self) -> Self {
        self.undone = Some(true);
        self
    }

    /// Marks the outcome as unknown, even if the kind means that nothing happened: the reply to an earlier attempt was
    /// lost.
    #[must_use]
    pub fn unknown(mut self) -> Self {
        self.undone = Some(false);
        self
    }

    /// Whether the request took no effect, by its kind or as marked by the store. If `false`, the outcome is unknown.
    pub fn is_undone(&self) -> bool {
        let by_kind = !matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Other);
        self.undone.unwrap_or(by_kind)
    }

    /// What went wrong.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns the answers to a call with `requests` requests that failed as a whole.
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
