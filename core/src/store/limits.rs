use std::time::Duration;

/// How many requests a store accepts at once, and how long a call may take:
/// [`LockStore::limits`](super::LockStore::limits).
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
    /// The maximum number of concurrent calls. Default: 64.
    pub concurrency: usize,
    /// The maximum number of requests in one call of a `*_many` method. With 1, the default, these methods are not called.
    pub batch: usize,
    /// The maximum duration of one call. The store returns an error by then. Default: 10 s.
    pub call: Duration,
}

impl Limits {
    /// The default limits.
    pub const fn new() -> Self {
        Self { concurrency: 64, batch: 1, call: Duration::from_secs(10) }
    }

    /// Sets the maximum number of concurrent calls; at least one.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Sets the maximum number of requests in one call; at least one.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch.max(1);
        self
    }

    /// Sets the maximum duration of one call.
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
