//! The statements of db-mutex's MySQL store through mysql_async and nothing else, for MySQL and MariaDB. Their text is what the
//! store was seen to prepare (see `work/statements.rs`), and the sessions are set as the store sets its own.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Value};
use tokio::sync::Mutex;

use super::{HOLDER, Subject, TTL_MICROS, owner};
use crate::spec::{Failure, Spec};

pub(crate) struct Bare {
    connections: Vec<Mutex<Conn>>,
    insert: String,
    delete: String,
}

/// The connections of the store's pool.
const POOL: usize = 16;

pub(super) async fn connect(url: &str) -> Result<Conn, Failure> {
    let mut connection = Conn::new(Opts::from_url(url)?).await?;
    let settings = [
        "SET SESSION autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 1",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ WRITE",
    ];
    for setting in settings {
        connection.query_drop(setting).await?;
    }
    Ok(connection)
}

impl Bare {
    pub(crate) async fn new(spec: &Spec) -> Result<Self, Failure> {
        super::db_mutex::connect(spec).await?.shutdown(std::time::Duration::ZERO).await; // which creates the table
        let text = |name: &str| {
            let text = spec.statements.get(name).ok_or_else(|| format!("the statement {name:?} was not seen"))?;
            Ok::<_, Failure>(text.replace("{table}", &spec.table))
        };
        let mut connections = Vec::new();
        for _ in 0..spec.tasks.min(POOL) {
            let mut connection = connect(&spec.url).await?;
            if super::is_uncommitted(spec) {
                connection.query_drop("START TRANSACTION").await?;
            }
            connections.push(Mutex::new(connection));
        }
        Ok(Self { connections, insert: text("insert")?, delete: text("delete")? })
    }

    async fn run(&self, task: usize, sql: &str, values: Vec<Value>) -> Result<(), Failure> {
        let mut connection = self.connections[task % self.connections.len()].lock().await;
        // prepared once a connection; the driver keeps it
        connection.exec_drop(sql, values).await?;
        match connection.last_insert_id() {
            None | Some(0) => Err("nothing was granted or released".into()),
            Some(_) => Ok(()),
        }
    }
}

impl Subject for Bare {
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        task: usize,
        id: &str,
        _wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        let owner = owner().to_vec();
        let values = vec![id.into(), owner.clone().into(), HOLDER.into(), TTL_MICROS.into()];
        self.run(task, &self.insert, values).await?;
        held().await;
        self.run(task, &self.delete, vec![id.into(), owner.into(), 0_i64.into()]).await
    }
}
