//! One UPDATE of one row by its key, prepared, each task with a row of its own: what a durable write costs at the least. As the
//! second statement of a pair there is none.

use mysql_async::prelude::Queryable;
use tokio::sync::Mutex;

use super::{Subject, bare_mysql, bare_postgres};
use crate::spec::{Failure, Spec};

pub(crate) enum Update {
    Postgres(Vec<(tokio_postgres::Client, tokio_postgres::Statement)>),
    MySql(Vec<Mutex<mysql_async::Conn>>, String),
}

const POOL: usize = 16;

impl Update {
    pub(crate) async fn new(spec: &Spec) -> Result<Self, Failure> {
        let (table, connections) = (&spec.table, spec.tasks.min(POOL));
        let create = format!("CREATE TABLE {table} (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)");
        let rows: Vec<_> = (0..spec.tasks).map(|task| format!("({task}, 0)")).collect();
        let fill = format!("INSERT INTO {table} VALUES {}", rows.join(", "));
        if spec.url.starts_with("postgres") {
            let mut clients = Vec::new();
            for at in 0..connections {
                let client = bare_postgres::connect(&spec.url).await?;
                if at == 0 {
                    client.batch_execute(&format!("{create}; {fill}")).await?;
                }
                let update = client.prepare(&format!("UPDATE {table} SET n = n + 1 WHERE id = $1")).await?;
                clients.push((client, update));
            }
            return Ok(Self::Postgres(clients));
        }
        let mut clients = Vec::new();
        for at in 0..connections {
            let mut client = bare_mysql::connect(&spec.url).await?;
            if at == 0 {
                client.query_drop(&create).await?;
                client.query_drop(&fill).await?;
            }
            clients.push(Mutex::new(client));
        }
        Ok(Self::MySql(clients, format!("UPDATE {table} SET n = n + 1 WHERE id = ?")))
    }
}

impl Subject for Update {
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        task: usize,
        _id: &str,
        _wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        match self {
            Self::Postgres(clients) => {
                let (client, update) = &clients[task % clients.len()];
                client.execute(update, &[&(task as i64)]).await?;
            }
            Self::MySql(clients, update) => {
                clients[task % clients.len()].lock().await.exec_drop(update, (task,)).await?;
            }
        }
        held().await;
        Ok(())
    }
}
