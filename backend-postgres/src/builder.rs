use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind, TableName};
use db_mutex_sql_support::{Password, Sending};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::connect::Connector;
use crate::engine::check_server;
use crate::migrate::Table;
use crate::opening::{Key, Known, Waiting};
use crate::pool::Pool;
use crate::send::Client;
use crate::session::PoolOptions;
use crate::sql::Sql;
use crate::url::Pooler;
use crate::{PostgresStore, Shared};

/// Longer than anyone waits, and short enough for a clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Builds a [`PostgresStore`]. Options that are not set use the default documented on each method.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `connect` or `from_pool` is called"]
pub struct PostgresStoreBuilder {
    schema: Option<TableName>,
    table: TableName,
    migrate: bool,
    read_only: bool,
    allow_unsupported_engine: bool,
    password: Option<Password>,
    limit: Option<Duration>,
    known: Known,
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
            allow_unsupported_engine: false,
            password: None,
            limit: None,
            known: Known::default(),
            pool: PoolOptions { size: 4, statement_timeout, lock_timeout, direct: true },
        }
    }

    /// Sets the schema of the table; the rules for table names apply. Default: the first schema of the role's search path.
    pub fn schema(mut self, schema: TableName) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Sets the name of the table. Default: `db_mutex_locks`.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// The SQL that creates the table, for an administrator to run. Like [`PostgresStore::migrate`], it expects the schema
    /// to exist.
    pub fn schema_sql(&self) -> String {
        Table::new(self.schema.as_ref(), &self.table).schema_sql()
    }

    /// Sets whether a missing or old table is created or updated. If not, it is an error. Default: yes.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets whether the store only reads. `SELECT` on the two tables is then enough, even in a read-only session. Default:
    /// no. Implies [`migrate(false)`](Self::migrate).
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets whether the store may be opened on an unsupported engine that speaks PostgreSQL's protocol, such as Amazon
    /// Redshift. There may be two holders then. Default: no. The parameter `allow_unsupported_engine=true` of a URL does
    /// the same.
    pub fn allow_unsupported_engine(mut self, allow: bool) -> Self {
        self.allow_unsupported_engine = allow;
        self
    }

    /// Sets the password to log in with if the URL has none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Password(password.into()));
        self
    }

    /// Sets the maximum number of connections. Default: 4. While there are waiters, one more connection receives
    /// notifications of releases; its `application_name` ends with `wake-ups`.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool.size = size.max(1);
        self
    }

    /// Sets how long one request may take, including the wait for a connection; rounded down to milliseconds. Default: 10
    /// s.
    ///
    /// It does not limit how long [`acquire`](db_mutex_core::Lock::acquire) waits for a lock.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.pool.statement_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Sets how long a statement may wait for a table that another session has locked; rounded down to milliseconds.
    /// Default: 2 s.
    ///
    /// It does not apply to rows: requests for locks never wait for them. See [the crate's page](crate#locked-rows).
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.pool.lock_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Sets whether a connection keeps its prepared statements and its settings. `false` is the same as `pooler=yes` in the
    /// URL; see [the crate's page](crate#poolers). Default: as in the URL; otherwise it is detected when the store is
    /// opened.
    pub fn prepared_statements(mut self, prepared: bool) -> Self {
        self.pool.direct = prepared;
        self
    }

    /// Sets how long [`connect`](Self::connect) waits for a server that accepts writes. Each host of the URL gets a part of
    /// this time. Default: half of the [statement timeout](Self::statement_timeout).
    ///
    /// Clones of a builder share what they learn about the hosts of a URL, such as which one does not respond.
    pub fn connect_within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Opens the store on its own connections; see [`PostgresStore::connect`].
    ///
    /// # Errors
    /// Same as [`PostgresStore::connect`].
    ///
    /// # Cancellation safety
    /// Same as [`PostgresStore::connect`].
    pub async fn connect(mut self, url: &str) -> Result<PostgresStore, StoreError> {
        let begun = Instant::now();
        let statement_timeout = self.pool.statement_timeout;
        let mut connector = Connector::new(url, self.password.as_ref(), statement_timeout, self.read_only)?;
        let key = Key { url: url.to_owned(), read_only: self.read_only, statement_timeout };
        connector.hosts = self.known.or(key, connector.hosts);
        self.allow_unsupported_engine |= connector.allow_unsupported_engine;
        // So that the error of the last attempt comes before the limit of the caller.
        let after = |limit: Duration| begun + limit.min(LONGEST);
        let limit = self.limit.map(|limit| limit / 10 * 9);
        connector.opening.set(limit.map(after));
        let waiting = if self.read_only { Duration::ZERO } else { limit.unwrap_or(statement_timeout / 2) };
        let mut waiting = Waiting::new(after(waiting));
        loop {
            match self.connect_once(&connector).await {
                Ok(store) => {
                    connector.opening.set(None);
                    return Ok(store);
                }
                Err(error) => waiting.after(error).await?,
            }
        }
    }

    async fn connect_once(&self, connector: &Connector) -> Result<PostgresStore, StoreError> {
        let sql = Arc::new(Sql::for_table(self.schema.as_ref(), &self.table));
        let is_direct = self.pool.direct && connector.pooler != Pooler::Yes;
        let pool = PoolOptions { direct: is_direct, ..self.pool.clone() };
        let shared = |pool: PoolOptions| {
            let table = Table::new(self.schema.as_ref(), &self.table);
            Shared::on_own_connections((connector.clone(), pool), Arc::clone(&sql), table)
        };
        let direct = shared(pool.clone())?;
        if !pool.direct || direct.client.is_direct().await? {
            return self.open(direct).await;
        }
        if connector.pooler == Pooler::No {
            let what = "there is a pooler in front of PostgreSQL that does not pass on how a session is to be set; write \
                        pooler=auto or pooler=yes in the url, or connect to the server itself";
            return Err(StoreError::new(StoreErrorKind::Config, what));
        }
        tracing::debug!("there is a pooler in front of PostgreSQL: statements are not prepared, and waiters ask");
        let pooled = shared(PoolOptions { direct: false, ..pool })?;
        self.open(pooled).await
    }

    /// Opens the store on a pool of the application; see [`PostgresStore::from_pool`].
    ///
    /// # Errors
    /// Same as [`PostgresStore::connect`].
    ///
    /// # Cancellation safety
    /// Same as [`PostgresStore::connect`].
    pub async fn from_pool(self, pool: deadpool_postgres::Pool) -> Result<PostgresStore, StoreError> {
        let home = Handle::try_current().map_err(|error| {
            let message = "a pool can be used in a tokio runtime only; call this inside of one";
            StoreError::new(StoreErrorKind::Config, message).with_source(error)
        })?;
        let shared = Shared {
            client: Client {
                pool: Pool::Lent(pool),
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

    async fn open(&self, shared: Shared) -> Result<PostgresStore, StoreError> {
        let store = PostgresStore { shared: Arc::new(shared) };
        let table = &store.shared.table;
        let connection = store.connection().await?;
        check_server(&**connection, self.read_only, self.allow_unsupported_engine).await?;
        if table.check(&**connection).await? {
            return Ok(store);
        }
        drop(connection);
        if self.migrate && !self.read_only {
            store.migrate().await?;
        }
        match table.check(&**store.connection().await?).await? {
            true => Ok(store),
            false => Err(StoreError::new(
                StoreErrorKind::Schema,
                "the table is missing or old; run `db-mutex migrate`, or what `db-mutex migrate --print` prints",
            )),
        }
    }
}
