//! Two round trips with a statement that reads nothing: what a pair of statements costs before the database has done anything.

use mysql_async::prelude::Queryable;
use tokio::sync::Mutex;

use super::{Subject, bare_mysql, bare_postgres};
use crate::spec::{Failure, Spec};

const NOTHING: &str = "SELECT 1";

pub(crate) enum Trip {
    Postgres(tokio_postgres::Client, tokio_postgres::Statement),
    MySql(Mutex<mysql_async::Conn>),
}

impl Trip {
    pub(crate) async fn new(spec: &Spec) -> Result<Self, Failure> {
        if spec.url.starts_with("postgres") {
            let client = bare_postgres::connect(&spec.url).await?;
            let statement = client.prepare(NOTHING).await?;
            return Ok(Self::Postgres(client, statement));
        }
        Ok(Self::MySql(Mutex::new(bare_mysql::connect(&spec.url).await?)))
    }

    async fn once(&self) -> Result<(), Failure> {
        match self {
            Self::Postgres(client, statement) => drop(client.query_one(statement, &[]).await?),
            Self::MySql(connection) => connection.lock().await.exec_drop(NOTHING, ()).await?,
        }
        Ok(())
    }
}

impl Subject for Trip {
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        _task: usize,
        _id: &str,
        _wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        self.once().await?;
        held().await;
        self.once().await
    }
}
