use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind, TableName};
use db_mutex_sql_support::{Password, Sending};
use deadpool_postgres::Pool;
use tokio::runtime::Handle;

use crate::connect::Connector;
use crate::migrate::Table;
use crate::send::Client;
use crate::session::PoolOptions;
use crate::sql::Sql;
use crate::{PostgresStore, Shared};

/// Builds a [`PostgresStore`]; what is not set has the default that each method tells.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `connect` or `from_pool` is called"]
pub struct PostgresStoreBuilder {
    schema: Option<TableName>,
    table: TableName,
    migrate: bool,
    read_only: bool,
    password: Option<Password>,
    pool: PoolOptions,
}

impl PostgresStoreBuilder {
    pub(crate) fn new() -> Self {
        let (statement_timeout, lock_timeout) = (Duration::from_secs(10), Duration::from_secs(2));
        Self {
            schema: None,
            table: TableName::default(),
            migrate: true,
            read_only: false,
            password: None,
            pool: PoolOptions { size: 4, statement_timeout, lock_timeout, direct: true },
        }
    }

    /// The schema that the table is in; its name follows the rules of a table's. Default: the first of the role's search
    /// path.
    pub fn schema(mut self, schema: TableName) -> Self {
        self.schema = Some(schema);
        self
    }

    /// The name of the table. Default: `db_mutex_locks`.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// The SQL that creates the table, for people whose administrator does so. As [`PostgresStore::migrate`], it expects that
    /// the schema exists.
    pub fn schema_sql(&self) -> String {
        Table::new(self.schema.as_ref(), &self.table).schema_sql()
    }

    /// Whether a table that is missing or old is created or updated. Default: yes. Otherwise it is an error.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Whether the store is only used to look at locks: `SELECT` on the two tables is then enough, in a session that accepts
    /// no writes too. Default: no. Implies [`migrate(false)`](Self::migrate).
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The password to log in with if the URL has none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Password(password.into()));
        self
    }

    /// How many connections there are at most. Default: 4. While somebody waits for a lock there is one more, which
    /// learns of releases; its `application_name` ends with `wake-ups`.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool.size = size.max(1);
        self
    }

    /// How long one request may take, waiting for a connection included; rounded down to milliseconds. Default: 10 s.
    ///
    /// It has nothing to do with how long [`acquire`](db_mutex_core::Lock::acquire) waits for a lock.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.pool.statement_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// How long a statement may wait for a table that another session has locked; rounded down to milliseconds.
    /// Default: 2 s.
    ///
    /// It has nothing to do with rows: requests for locks do not wait for them. See [the crate's page](crate#locked-rows).
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.pool.lock_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Whether a connection keeps its statements prepared and its settings. Default: found out when the store is opened. A
    /// pooler that gives a connection to others between transactions, as PgBouncer does in transaction mode, refuses our settings
    /// or takes no notice of them; nothing is prepared there. `false` says so beforehand.
    pub fn prepared_statements(mut self, prepared: bool) -> Self {
        self.pool.direct = prepared;
        self
    }

    /// Connects with connections of its own; see [`PostgresStore::connect`].
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    ///
    /// # Cancellation safety
    /// As [`PostgresStore::connect`].
    pub async fn connect(self, url: &str) -> Result<PostgresStore, StoreError> {
        let connector = Connector::new(url, self.password.as_ref(), self.pool.statement_timeout)?;
        let sql = Arc::new(Sql::for_table(self.schema.as_ref(), &self.table));
        let shared = |pool: PoolOptions| {
            let table = Table::new(self.schema.as_ref(), &self.table);
            Shared::on_own_connections((connector.clone(), pool), Arc::clone(&sql), table)
        };
        let direct = shared(self.pool.clone())?;
        if !self.pool.direct || direct.client.is_direct().await? {
            return self.open(direct).await;
        }
        tracing::debug!("there is a pooler in front of PostgreSQL: statements are not prepared, and waiters ask");
        let pooled = shared(PoolOptions { direct: false, ..self.pool.clone() })?;
        self.open(pooled).await
    }

    /// Takes a pool of the application; see [`PostgresStore::from_pool`].
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    ///
    /// # Cancellation safety
    /// As [`PostgresStore::connect`].
    pub async fn from_pool(self, pool: Pool) -> Result<PostgresStore, StoreError> {
        let home = Handle::try_current().map_err(|error| {
            let message = "a pool can be used in a tokio runtime only; call this inside of one";
            StoreError::new(StoreErrorKind::Config, message).with_source(error)
        })?;
        let shared = Shared {
            client: Client {
                pool,
                prepared: false,
                sending: Sending::new(self.pool.statement_timeout, self.pool.lock_timeout),
                connector: None,
                home: Some(home),
            },
            sql: Arc::new(Sql::for_table(self.schema.as_ref(), &self.table)),
            table: Table::new(self.schema.as_ref(), &self.table),
            own: None,
            listener: None,
        };
        self.open(shared).await
    }

    async fn open(self, shared: Shared) -> Result<PostgresStore, StoreError> {
        let store = PostgresStore { shared: Arc::new(shared) };
        let table = &store.shared.table;
        if table.check(&**store.connection().await?, self.read_only).await? {
            return Ok(store);
        }
        if self.migrate && !self.read_only {
            store.migrate().await?;
        }
        match table.check(&**store.connection().await?, self.read_only).await? {
            true => Ok(store),
            false => Err(StoreError::new(
                StoreErrorKind::Schema,
                "the table is missing or old; run `db-mutex migrate`, or what `db-mutex migrate --print` prints",
            )),
        }
    }
}
