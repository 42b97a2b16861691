//! The statements of db-mutex's PostgreSQL store through tokio-postgres and nothing else. Their text is what the store was seen to
//! prepare (see `work/statements.rs`), and the sessions are set as the store sets its own.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, NoTls, Row, Statement};

use super::{HOLDER, Subject, TTL_MICROS, owner};
use crate::spec::{Failure, Spec};

pub(crate) struct Bare(Vec<Connection>);

struct Connection {
    client: Client,
    insert: Statement,
    delete: Statement,
}

/// The connections of the store's pool.
const POOL: usize = 16;

pub(super) async fn connect(url: &str) -> Result<Client, Failure> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.options(
        r"-c default_transaction_isolation=read\ committed -c enable_seqscan=off -c plan_cache_mode=force_generic_plan -c jit=off",
    );
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl Bare {
    pub(crate) async fn new(spec: &Spec) -> Result<Self, Failure> {
        super::db_mutex::connect(spec).await?.shutdown(std::time::Duration::ZERO).await; // which creates the table
        let text = |name: &str| {
            let text = spec.statements.get(name).ok_or_else(|| format!("the statement {name:?} was not seen"))?;
            Ok::<_, Failure>(text.replace("{table}", &spec.table))
        };
        let (insert, delete) = (text("insert")?, text("delete")?);
        let mut connections = Vec::new();
        for _ in 0..spec.tasks.min(POOL) {
            let client = connect(&spec.url).await?;
            let (insert, delete) = (client.prepare(&insert).await?, client.prepare(&delete).await?);
            if super::is_uncommitted(spec) {
                client.batch_execute("BEGIN").await?;
            }
            connections.push(Connection { client, insert, delete });
        }
        Ok(Self(connections))
    }
}

/// The statements give up after 5 ms if they wait for another, which happens while the server extends the table. The store then
/// sends a more careful form; here the same is sent again.
async fn query(client: &Client, statement: &Statement, values: &[&(dyn ToSql + Sync)]) -> Result<Row, Error> {
    loop {
        match client.query_one(statement, values).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {}
            done => return done,
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
        // tasks share the connections without waiting for each other: the driver pipelines
        let Connection { client, insert, delete } = &self.0[task % self.0.len()];
        let owner = &owner()[..];
        let row = query(client, insert, &[&id, &owner, &HOLDER, &TTL_MICROS]).await?;
        if row.get::<_, &str>(0) != "granted" {
            return Err(format!("{id} was not granted").into());
        }
        held().await;
        let row = query(client, delete, &[&id, &owner, &0_i64]).await?;
        if row.get::<_, &str>(0) != "released" {
            return Err(format!("{id} was not released").into());
        }
        Ok(())
    }
}
