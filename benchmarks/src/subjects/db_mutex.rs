//! db-mutex, with all its defaults.

use std::time::Duration;

use db_mutex::{Connector, DbMutex, TableName};

use super::Subject;
use crate::spec::{Failure, Spec};

pub(crate) async fn connect(spec: &Spec) -> Result<DbMutex, Failure> {
    Ok(Connector::new(&spec.url)?.table(TableName::new(&spec.table)?).connect().await?)
}

pub(crate) struct Locks(DbMutex);

impl Locks {
    pub(crate) async fn new(spec: &Spec) -> Result<Self, Failure> {
        connect(spec).await.map(Self)
    }
}

impl Subject for Locks {
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        _task: usize,
        id: &str,
        wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        let mut lock = self.0.lock(id).ttl(Duration::from_secs(60));
        if wait {
            lock = lock.wait(Duration::from_secs(30));
        }
        let guard = lock.acquire().await?;
        held().await;
        Ok(guard.release().await?)
    }
}
