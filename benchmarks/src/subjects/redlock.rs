//! The crate rslock, with one Redis and one manager, which has one connection that all tasks share.

use std::time::Duration;

use rslock::LockManager;

use super::Subject;
use crate::spec::{Failure, Spec};

pub(crate) struct Redlock(LockManager);

impl Redlock {
    pub(crate) fn new(spec: &Spec) -> Self {
        Self(LockManager::new(vec![spec.url.clone()]))
    }
}

impl Subject for Redlock {
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        _task: usize,
        id: &str,
        wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        let ttl = Duration::from_secs(60);
        let lock = if wait { self.0.acquire_no_guard(id, ttl).await } else { self.0.lock(id, ttl).await }
            .map_err(|e| e.to_string())?;
        held().await;
        self.0.unlock(&lock).await;
        Ok(())
    }
}
