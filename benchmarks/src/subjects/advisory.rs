//! `PgAdvisoryLock` of sqlx: a session lock of PostgreSQL, which keeps nothing on disk and needs a connection for each lock.

use sqlx::Either;
use sqlx::postgres::{PgAdvisoryLock, PgPool, PgPoolOptions};

use super::{Subject, connections};
use crate::spec::{Failure, Spec};

pub(crate) struct Advisory(PgPool);

/// Without the ping that sqlx sends by default before each use of a connection: the peers are to be as fast as they can be.
pub(super) async fn pool(spec: &Spec) -> Result<PgPool, Failure> {
    let size = connections(spec.tasks);
    let options = PgPoolOptions::new().min_connections(size).max_connections(size).test_before_acquire(false);
    Ok(options.connect(&spec.url).await?)
}

impl Advisory {
    pub(crate) async fn new(spec: &Spec) -> Result<Self, Failure> {
        pool(spec).await.map(Self)
    }
}

impl Subject for Advisory {
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        _task: usize,
        id: &str,
        wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        let lock = PgAdvisoryLock::new(id);
        let connection = self.0.acquire().await?;
        let guard = if wait {
            lock.acquire(connection).await?
        } else {
            match lock.try_acquire(connection).await? {
                Either::Left(guard) => guard,
                Either::Right(_) => return Err(format!("{id} is held").into()),
            }
        };
        held().await;
        guard.release_now().await?;
        Ok(())
    }
}
