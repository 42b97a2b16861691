use std::env;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::runtime::Time;
use crate::engine::{Engine, Simulated};
use crate::mutex::Shared;
use crate::options::Options;
use crate::{CancellationToken, Clock, DbMutex, HolderName, Invalid, LockStore, SystemClock, Ttl, WaitLimit};

/// The environment variable for the TTL of a mutex that does not set one in code: a number of seconds, or `none`.
const TTL_VARIABLE: &str = "DB_MUTEX_TTL_SECONDS";

/// Builds a [`DbMutex`]. Options that are not set use the default documented on each method; a [`Lock`](crate::Lock) can
/// change them for itself.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct DbMutexBuilder {
    store: Arc<dyn LockStore>,
    options: Options,
    /// The clock of a test.
    clock: Option<Arc<dyn Clock>>,
    batching: bool,
    simulated: Option<Simulated>,
}

impl DbMutexBuilder {
    pub(crate) fn new(store: Arc<dyn LockStore>) -> Self {
        Self { store, options: Options::new(), clock: None, batching: true, simulated: None }
    }

    /// Sets how long a lease lasts: a [`Duration`] or a [`Ttl`]. Default: `DB_MUTEX_TTL_SECONDS`, else 30 minutes.
    pub fn ttl<V>(mut self, ttl: V) -> Self
    where
        V: TryInto<Ttl>,
        Invalid: From<V::Error>,
    {
        self.options.set_ttl(ttl);
        self
    }

    /// Sets how long to wait for a lock that is held: a [`Duration`] or a [`WaitLimit`]. Default: not at all.
    pub fn wait(mut self, limit: impl Into<WaitLimit>) -> Self {
        self.options.wait = limit.into();
        self
    }

    /// Sets how long a lock stays taken after its acquisition, even if it is released sooner; at most the TTL. Default: zero.
    ///
    /// It keeps a short job from running twice if the clocks of several machines' crontabs differ.
    pub fn hold_at_least(mut self, hold_at_least: Duration) -> Self {
        self.options.hold_at_least = hold_at_least;
        self
    }

    /// Sets whether leases are renewed while their guards live; see [`Lock::keep_alive`](crate::Lock::keep_alive). Default:
    /// no.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.options.keep_alive = keep_alive;
        self
    }

    /// Sets the name of the holder that others see: at most 256 characters, without control characters. Default: host name
    /// and process id.
    pub fn holder(mut self, name: impl AsRef<str>) -> Self {
        self.options.holder = HolderName::new(name);
        self
    }

    /// Sets whether requests that wait for the store are sent together, as one call. Default: yes, if the store accepts
    /// [many at once](LockStore::limits). Without it each request is a separate call, for comparison.
    pub fn batching(mut self, batching: bool) -> Self {
        self.batching = batching;
        self
    }

    /// Sets the clock that counts leases down, for tests: a [`ManualClock`](crate::testing::ManualClock). Default: the
    /// operating system's.
    ///
    /// With a test clock, the mutex also does its background work in the runtime that uses it, and on tokio's time, which
    /// the test may pause. By default that work has its own thread.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Seeds the jitter, and ends foreground requests when the token is cancelled, as if their runtime had ended. For
    /// simulations.
    #[doc(hidden)]
    pub fn simulated(mut self, seed: u64, foreground_ends: CancellationToken) -> Self {
        self.simulated = Some(Simulated { seed, foreground_ends });
        self
    }

    /// Builds the mutex.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) with [`Invalid::Ttl`], [`Invalid::HolderName`], [`Invalid::HoldAtLeast`], or
    /// [`Invalid::Environment`] if `DB_MUTEX_TTL_SECONDS` is needed and is not a TTL.
    pub fn build(mut self) -> Result<DbMutex, crate::Error> {
        if !self.options.ttl_is_chosen {
            let value = env::var_os(TTL_VARIABLE).map(|value| value.to_string_lossy().into_owned());
            self.options.ttl = ttl_of_environment(value);
        }
        self.options.validated()?;
        let (clock, time) = match self.clock {
            Some(clock) => (clock, Time::Tokio),
            None => (Arc::new(SystemClock) as Arc<dyn Clock>, Time::Real),
        };
        let engine = Engine::new(self.store, clock, time, self.batching, self.simulated);
        Ok(DbMutex { shared: Arc::new(Shared { engine, options: self.options }) })
    }
}

fn ttl_of_environment(value: Option<String>) -> Result<Ttl, Invalid> {
    let Some(value) = value else { return Ok(Ttl::DEFAULT) };
    let trimmed = value.trim();
    if trimmed.eq_ignore_ascii_case("none") {
        return Ok(Ttl::NEVER);
    }
    let refuse = |reason: String| Invalid::Environment { variable: TTL_VARIABLE, value: value.clone(), reason };
    let seconds = trimmed.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(seconds) => Ttl::new(seconds).map_err(|invalid| refuse(invalid.to_string())),
        None => Err(refuse("give a number of seconds from 0.1 to 31536000, or none".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_sets_the_ttl() {
        let ttl = |value: &str| ttl_of_environment(Some(value.into()));
        assert_eq!(ttl_of_environment(None), Ok(Ttl::DEFAULT));
        assert_eq!(ttl("90"), Ok(Ttl::new(Duration::from_secs(90)).unwrap()));
        assert_eq!(ttl("0.5"), Ok(Ttl::new(Duration::from_millis(500)).unwrap()));
        assert_eq!(ttl("none"), Ok(Ttl::NEVER));
        assert_eq!(ttl(" None "), Ok(Ttl::NEVER));
    }

    #[test]
    fn a_bad_environment_names_the_variable() {
        for bad in ["", "abc", "-1", "0", "0.05", "31536001", "1e30", "inf", "nan", "30m"] {
            let message = ttl_of_environment(Some(bad.into())).unwrap_err().to_string();
            assert!(message.contains("DB_MUTEX_TTL_SECONDS"), "{message}");
            assert!(message.contains(&format!("{bad:?}")), "{message}");
        }
    }
}
