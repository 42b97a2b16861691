use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::Limits;
use db_mutex_core::{StoreError, StoreErrorKind, TableName};
use db_mutex_sql_support::hosts::none_usable;
use db_mutex_sql_support::{Password, Sending};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Pool};
use tokio::runtime::Handle;

use crate::MySqlStore;
use crate::cluster::Cluster;
use crate::connect::{Connections, Servers};
use crate::engine::Server;
use crate::error::store_error;
use crate::in_use::InUse;
use crate::migrate::{check, is_migrated, migrate};
use crate::operations::{BATCH, Operations};
use crate::row::{first, text};
use crate::send::{Client, query, within};
use crate::session::{LOCK_TIMEOUT, Session};
use crate::skew;
use crate::sql::Sql;
use crate::url::Url;

/// Builds a [`MySqlStore`]. Options that are not set use the default documented on each method.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `connect` or `from_pool` is called"]
pub struct MySqlStoreBuilder {
    table: TableName,
    migrate: bool,
    read_only: bool,
    password: Option<Password>,
    pool_size: usize,
    statement_timeout: Duration,
    allow_unsupported_engine: bool,
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
            allow_unsupported_engine: false,
        }
    }
}

impl MySqlStoreBuilder {
    /// Sets the name of the table. Default: `db_mutex_locks`.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// Sets whether a missing or old table is created or updated. If not, it is an error. Default: yes.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets whether the store only reads. `SELECT` on the two tables is then enough. Default: no. Implies
    /// [`migrate(false)`](Self::migrate).
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets whether the store may be opened on an unsupported engine that speaks MySQL's protocol, such as Vitess. There
    /// may be two holders then. Default: no. The parameter `allow_unsupported_engine=true` of a URL does the same.
    pub fn allow_unsupported_engine(mut self, allow: bool) -> Self {
        self.allow_unsupported_engine = allow;
        self
    }

    /// Sets the password to log in with if the URL has none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Password(password.into()));
        self
    }

    /// Sets the maximum number of connections that the store opens; at least 1. Default: 8. Your own pool keeps its size.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections.max(1);
        self
    }

    /// Sets how long one request may take before it fails as unavailable, including the wait for a connection and
    /// repetitions. Default: 10 s.
    ///
    /// On the server, a statement does not wait for rows, and waits at most 2 s for a table that is being altered. With a
    /// shorter timeout, a request that has failed here may still take effect there.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Opens the store; see [`MySqlStore::connect`].
    ///
    /// # Errors
    /// Same as [`MySqlStore::connect`].
    ///
    /// # Cancellation safety
    /// Same as [`MySqlStore::connect`].
    pub async fn connect(mut self, url: &str) -> Result<MySqlStore, StoreError> {
        let url = Url::parse(url)
            .map_err(|invalid| StoreError::new(StoreErrorKind::Config, invalid.to_string()).with_source(invalid))?;
        let url = url.with_password(self.password.clone());
        self.allow_unsupported_engine |= url.allow_unsupported_engine;
        let limit = self.statement_timeout;
        let opening = async move {
            let servers = Arc::new(Servers::of(url, limit)?);
            let (first, cluster) = self.first_usable(&servers).await?;
            if servers.len() > 1 {
                tokio::spawn(skew::warn(Arc::clone(&servers)));
            }
            let limits = Limits::new().concurrency(self.pool_size);
            let connections = Connections::own(servers, first, self.pool_size, &Session::setup(cluster));
            Ok(self.store(connections, Session::Own, limits, None, cluster))
        };
        within(limit, opening).await
    }

    /// The first server that can be used, and what it is a part of.
    async fn first_usable(&self, servers: &Servers) -> Result<(usize, Cluster), StoreError> {
        let mut failures = Vec::new();
        for server in 0..servers.len() {
            let opening = async {
                let mut connection = InUse::new(servers.open(server).await.map_err(|failed| failed.error)?);
                let cluster = self.cluster(&mut connection).await?;
                connection.query_drop(Session::setup(cluster)).await.map_err(store_error)?;
                self.prepare(&mut connection, cluster).await?;
                Ok(cluster)
            };
            // A server that accepts the login and then does not respond leaves time for the next one.
            let limit = if server + 1 < servers.len() { self.statement_timeout / 2 } else { self.statement_timeout };
            match within(limit, opening).await {
                Ok(cluster) => return Ok((server, cluster)),
                Err(error) => failures.push((servers.name(server).to_owned(), error)),
            }
        }
        Err(none_usable(failures))
    }

    /// Opens the store on your pool; see [`MySqlStore::from_pool`].
    ///
    /// # Errors
    /// Same as [`MySqlStore::connect`].
    ///
    /// # Cancellation safety
    /// Same as [`MySqlStore::connect`].
    pub async fn from_pool(self, pool: Pool) -> Result<MySqlStore, StoreError> {
        let opening = async {
            let mut connection = pool.get_conn().await.map_err(store_error)?;
            let variables = query(&mut connection, &["SHOW VARIABLES LIKE 'transaction_isolation'"]).await;
            let modern = variables.map_err(store_error)?.iter().any(|answer| !answer.rows.is_empty());
            let cluster = self.cluster(&mut connection).await?;
            let session = Session::borrowed(modern, cluster);
            session.on(connection, async |connection| self.prepare(connection, cluster).await).await?;
            Ok((session, cluster))
        };
        let (session, cluster) = within(self.statement_timeout, opening).await?;
        let home = Handle::try_current().map_err(|error| {
            let message = "a pool can be used in a tokio runtime only; call this inside of one";
            StoreError::new(StoreErrorKind::Config, message).with_source(error)
        })?;
        // How many connections it has is not known. The application needs some of them.
        Ok(self.store(Connections::borrowed(pool), session, Limits::new().concurrency(8), Some(home), cluster))
    }

    /// Refuses an engine that cannot keep locks. This comes before the session settings, which such an engine may not know.
    async fn cluster(&self, connection: &mut Conn) -> Result<Cluster, StoreError> {
        let server = Server::of(connection).await.map_err(store_error)?;
        server.verdict().enforce(self.allow_unsupported_engine)?;
        Ok(server.cluster())
    }

    async fn prepare(&self, connection: &mut Conn, cluster: Cluster) -> Result<(), StoreError> {
        // Who only looks at locks needs no more than the table of locks.
        let cluster = if self.read_only { Cluster::One } else { cluster };
        let database = query(connection, &["SELECT DATABASE()"]).await.map_err(store_error)?;
        if text(first(database.into_iter().flat_map(|answer| answer.rows).collect())).is_none() {
            return Err(StoreError::new(StoreErrorKind::Config, "the connection has no database; name one"));
        }
        if self.migrate && !self.read_only {
            migrate(connection, &self.table, cluster).await?;
        } else if !is_migrated(connection, &self.table, cluster).await? {
            let message =
                "the table is missing or old; run `db-mutex migrate`, or what `db-mutex migrate --print` prints";
            return Err(StoreError::new(StoreErrorKind::Schema, message));
        }
        check(connection, &self.table, self.read_only, cluster).await
    }

    fn store(
        self,
        connections: Connections,
        session: Session,
        limits: Limits,
        home: Option<Handle>,
        cluster: Cluster,
    ) -> MySqlStore {
        let limits = limits.batch(BATCH).call(self.statement_timeout);
        let client = Client { connections, session, sending: Sending::new(self.statement_timeout, LOCK_TIMEOUT) };
        let operations = Operations { client, sql: Arc::new(Sql::for_table(&self.table, cluster)), cluster };
        MySqlStore { operations, home, table: self.table, limits }
    }
}
