use std::time::Duration;

/// How long to wait for a lock that another holder has.
///
/// The default is not to wait: if the previous run of a periodic job is still working, the next one has nothing to do. The
/// limit applies only to waiting for the lock; how long a single request may take is a setting of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WaitLimit {
    /// Try once.
    #[default]
    DontWait,
    /// Try until this much time has passed.
    AtMost(Duration),
    /// Try until the lock is granted.
    Forever,
}

impl From<Duration> for WaitLimit {
    fn from(limit: Duration) -> Self {
        Self::AtMost(limit)
    }
}
