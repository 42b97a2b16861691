use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::Limits;
use db_mutex_core::{StoreError, StoreErrorKind, TableName};
use db_mutex_sql_support::{Password, Sending};
use mysql_async::{Conn, Pool};
use tokio::runtime::Handle;

use crate::MySqlStore;
use crate::connect::{Connections, first_connection};
use crate::error::store_error;
use crate::migrate::{check, is_migrated, migrate};
use crate::operations::{BATCH, Operations};
use crate::row::{first, text};
use crate::send::{Client, query, within};
use crate::session::{LOCK_TIMEOUT, Session};
use crate::sql::Sql;
use crate::url::Url;

/// Builds a [`MySqlStore`]; what is not set has the default that each method tells.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `connect` or `from_pool` is called"]
pub struct MySqlStoreBuilder {
    table: TableName,
    migrate: bool,
    read_only: bool,
    password: Option<Password>,
    pool_size: usize,
    statement_timeout: Duration,
}

impl Default for MySqlStoreBuilder {
    fn default() -> Self {
        Self {
            table: TableName::default(),
            migrate: true,
            read_only: false,
            password: None,
            pool_size: 8,
            statement_timeout: Duration::from_secs(10),
        }
    }
}

impl MySqlStoreBuilder {
    /// The name of the table. Default: `db_mutex_locks`.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// Whether a table that is missing or old is created or updated. Default: yes. Otherwise it is an error.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Whether the store is only used to look at locks: `SELECT` on the two tables is then enough. Default: no. Implies
    /// [`migrate(false)`](Self::migrate).
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The password to log in with if the URL has none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Password(password.into()));
        self
    }

    /// The most connections that the store opens; at least 1. Default: 8. A pool of your own has its own size.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// How long one request may take in all, waiting for a connection and repeating it included, before it fails as
    /// unavailable. Default: 10 s.
    ///
    /// On the server a statement waits for no row, and at most 2 s for a table that is being altered. With a timeout shorter
    /// than that, a request that failed here may still take effect there.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Opens the store; see [`MySqlStore::connect`].
    ///
    /// # Errors
    /// As [`MySqlStore::connect`].
    ///
    /// # Cancellation safety
    /// As [`MySqlStore::connect`].
    pub async fn connect(self, url: &str) -> Result<MySqlStore, StoreError> {
        let url = Url::parse(url)
            .map_err(|invalid| StoreError::new(StoreErrorKind::Config, invalid.to_string()).with_source(invalid))?;
        let url = url.with_password(self.password.clone());
        let limit = self.statement_timeout;
        let opening = async move {
            let (mut connection, opts) = first_connection(&url, self.pool_size).await?;
            self.prepare(&mut connection).await?;
            let _ = connection.disconnect().await;
            let limits = Limits::new().concurrency(self.pool_size);
            Ok(self.store(Connections::own(opts), Session::Own, limits, None))
        };
        within(limit, opening).await
    }

    /// Opens the store on your pool; see [`MySqlStore::from_pool`].
    ///
    /// # Errors
    /// As [`MySqlStore::connect`].
    ///
    /// # Cancellation safety
    /// As [`MySqlStore::connect`].
    pub async fn from_pool(self, pool: Pool) -> Result<MySqlStore, StoreError> {
        let opening = async {
            let mut connection = pool.get_conn().await.map_err(store_error)?;
            let variables = query(&mut connection, &["SHOW VARIABLES LIKE 'transaction_isolation'"]).await;
            let modern = variables.map_err(store_error)?.iter().any(|answer| !answer.rows.is_empty());
            let session = Session::borrowed(modern);
            session.on(connection, async |connection| self.prepare(connection).await).await?;
            Ok(session)
        };
        let session = within(self.statement_timeout, opening).await?;
        let home = Handle::try_current().map_err(|error| {
            let message = "a pool can be used in a tokio runtime only; call this inside of one";
            StoreError::new(StoreErrorKind::Config, message).with_source(error)
        })?;
        // How many connections it has is not known. The application needs some of them.
        Ok(self.store(Connections::borrowed(pool), session, Limits::new().concurrency(8), Some(home)))
    }

    async fn prepare(&self, connection: &mut Conn) -> Result<(), StoreError> {
        let database = query(connection, &["SELECT DATABASE()"]).await.map_err(store_error)?;
        if text(first(database.into_iter().flat_map(|answer| answer.rows).collect())).is_none() {
            return Err(StoreError::new(StoreErrorKind::Config, "the connection has no database; name one"));
        }
        if self.migrate && !self.read_only {
            migrate(connection, &self.table).await?;
        } else if !is_migrated(connection, &self.table).await? {
            let message =
                "the table is missing or old; run `db-mutex migrate`, or what `db-mutex migrate --print` prints";
            return Err(StoreError::new(StoreErrorKind::Schema, message));
        }
        check(connection, &self.table, self.read_only).await
    }

    fn store(self, connections: Connections, session: Session, limits: Limits, home: Option<Handle>) -> MySqlStore {
        let limits = limits.batch(BATCH).call(self.statement_timeout);
        let client = Client { connections, session, sending: Sending::new(self.statement_timeout, LOCK_TIMEOUT) };
        let operations = Operations { client, sql: Arc::new(Sql::for_table(&self.table)) };
        MySqlStore { operations, home, table: self.table, limits }
    }
}
