//! The crates distributed-lock-postgres (advisory locks) and distributed-lock-mysql (`GET_LOCK`). Both keep nothing on disk and
//! need a connection for each lock.

use std::time::Duration;

use distributed_lock_core::traits::{DistributedLock, LockHandle, LockProvider};
use distributed_lock_mysql::MySqlLockProvider;
use distributed_lock_postgres::PostgresLockProvider;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};

use super::{Subject, advisory, connections};
use crate::spec::{Failure, Spec};

pub(crate) struct Distributed<P>(P);

pub(crate) async fn postgres(spec: &Spec) -> Result<Distributed<PostgresLockProvider>, Failure> {
    let pool = advisory::pool(spec).await?;
    Ok(Distributed(PostgresLockProvider::builder().pool(pool).build().await?))
}

pub(crate) async fn mysql(spec: &Spec) -> Result<Distributed<MySqlLockProvider>, Failure> {
    let size = connections(spec.tasks);
    let options = MySqlPoolOptions::new().min_connections(size).max_connections(size).test_before_acquire(false);
    // Without TLS, as all others here; it is the default of sqlx where the server has it.
    let connect = spec.url.parse::<MySqlConnectOptions>()?.ssl_mode(MySqlSslMode::Disabled);
    let pool = options.connect_with(connect).await?;
    Ok(Distributed(MySqlLockProvider::builder().pool(pool).build().await?))
}

impl<P: LockProvider + 'static> Subject for Distributed<P> {
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        _task: usize,
        id: &str,
        wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        let lock = self.0.create_lock(id);
        let handle = if wait {
            lock.acquire(Some(Duration::from_secs(30))).await?
        } else {
            lock.try_acquire().await?.ok_or("held")?
        };
        held().await;
        Ok(handle.release().await?)
    }
}
