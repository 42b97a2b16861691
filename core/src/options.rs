use std::time::Duration;

use crate::{HolderName, Invalid, Ttl, WaitLimit};

/// The options of a lock. A mutex has them as defaults for its locks.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) ttl: Result<Ttl, Invalid>,
    /// Whether the TTL was set in code, and not by the environment or the default.
    pub(crate) ttl_is_chosen: bool,
    pub(crate) holder: Result<HolderName, Invalid>,
    pub(crate) wait: WaitLimit,
    pub(crate) hold_at_least: Duration,
    pub(crate) hold_at_most: Option<Duration>,
    pub(crate) keep_alive: bool,
    pub(crate) on_lost: OnLost,
}

/// What [`Lock::run`](crate::Lock::run) does with its closure when the lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnLost {
    /// Lets it finish, and returns its output in [`RunError::Lost`](crate::RunError::Lost).
    #[default]
    Finish,
    /// Drops it at its current await point. Work in progress may be left incomplete.
    Drop,
}

impl Options {
    pub(crate) fn new() -> Self {
        Self {
            ttl: Ok(Ttl::DEFAULT),
            ttl_is_chosen: false,
            holder: Ok(HolderName::of_this_process()),
            wait: WaitLimit::DontWait,
            hold_at_least: Duration::ZERO,
            hold_at_most: None,
            keep_alive: false,
            on_lost: OnLost::Finish,
        }
    }

    pub(crate) fn set_ttl<V>(&mut self, ttl: V)
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        (self.ttl, self.ttl_is_chosen) = (ttl.try_into().map_err(Invalid::from), true);
    }

    /// The TTL and the holder's name, if all options are valid.
    pub(crate) fn validated(&self) -> Result<(Ttl, HolderName), Invalid> {
        let (ttl, holder) = (self.ttl.clone()?, self.holder.clone()?);
        // A lease that ends before its "hold at least" could not keep that promise when its holder crashes.
        let longest = ttl.duration().unwrap_or(Ttl::MAX);
        if self.hold_at_least > longest {
            return Err(Invalid::HoldAtLeast { hold_at_least: self.hold_at_least, ttl });
        }
        Ok((ttl, holder))
    }
}
