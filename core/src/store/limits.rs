use std::time::Duration;

/// How many requests a store takes at once, and how long one may take: [`LockStore::limits`](super::LockStore::limits).
///
/// ```
/// use db_mutex_core::store::Limits;
///
/// let limits = Limits::new().batch(500);
/// assert_eq!((limits.concurrency, limits.batch), (64, 500));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most calls that are under way at the same time. Default: 64.
    pub concurrency: usize,
    /// The most requests in one call of a `*_many` method. With 1, the default, these methods are not called at all.
    pub batch: usize,
    /// The longest that one call may take. The store ends it with an error by then. Default: 10 s.
    pub call: Duration,
}

impl Limits {
    /// The default limits.
    pub const fn new() -> Self {
        Self { concurrency: 64, batch: 1, call: Duration::from_secs(10) }
    }

    /// Sets the most calls at the same time; at least one.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Sets the most requests in one call; at least one.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch.max(1);
        self
    }

    /// Sets the longest that one call may take.
    #[must_use]
    pub fn call(mut self, call: Duration) -> Self {
        self.call = call;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
