use std::time::Duration;

/// How long to wait for a lock that another holder has.
///
/// The default is not to wait: a periodic job that finds the previous run at work has nothing to do. A limit is about
/// waiting for the lock only; how long a single request to the store may take is the store's own setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WaitLimit {
    /// Ask once.
    #[default]
    DontWait,
    /// Ask until this much time has passed.
    AtMost(Duration),
    /// Ask until the lock is granted.
    Forever,
}

impl From<Duration> for WaitLimit {
    fn from(limit: Duration) -> Self {
        Self::AtMost(limit)
    }
}
