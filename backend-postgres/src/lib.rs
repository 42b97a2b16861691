//! Keeps the locks of [db-mutex](https://docs.rs/db-mutex) in PostgreSQL.
//!
//! | file | the one idea |
//! |---|---|
//! | `lib` | [`PostgresStore`] and its builder |
//! | `store` | the operations of the contract |
//! | `sql` | every statement: granting, changing, waking |
//! | `send` | sending requests so that none waits for a row, and each gets its own answer |
//! | `row` | reading rows |
//! | `verify` | proving the lock inside the user's own transaction |
//! | `session` | sending a statement: bounded, repeated where that is safe |
//! | `connector` | how a connection of our own is opened |
//! | `pool` | those that statements are sent on, and what they are set to |
//! | `listener` | the one that learns of releases in other processes |
//! | `waiters` | who waits for which lock, and what the listener has yet to do for them |
//! | `url`, `tls` | what a URL says, and how a connection is protected |
//! | `migrate` | the table, and whether locks can be kept in it |
//! | `error` | what an error of PostgreSQL means |
//!
//! # Rights
//!
//! At run time the role needs `SELECT, INSERT, UPDATE` on the table, `SELECT` on the one that is called after it with
//! `_versions` behind, and `USAGE` on their schema. Only [`purge_expired`](db_mutex_core::store::LockStore::purge_expired) needs
//! `DELETE` too, and only [`migrate`](PostgresStore::migrate) `CREATE` on the schema.
//!
//! # Poolers
//!
//! PgBouncer in transaction mode works with
//! [`prepared_statements(false)`](PostgresStoreBuilder::prepared_statements): each request is then one statement, sent in
//! one go, that depends on no setting of the session.
//!
//! # Locked rows
//!
//! A request never waits until another transaction ends. If the row of its lock is locked, by an administrator or by a
//! transaction that has verified the lock under a strict isolation level, it fails within some milliseconds with
//! [`Busy`](db_mutex_core::StoreErrorKind::Busy), and the other requests of the same statement go on.
//!
//! # Waiting
//!
//! While a lock is waited for, its release notifies, on a channel of its own whose name is a hash: every role can see the
//! channels of a database. A store with connections of its own listens, on one more connection for all who wait, which is
//! there only while somebody does and a few seconds longer. Where nobody waits nothing is sent or written for it.
//! Through a pooler, or over a pool of the application, waiters ask from time to time instead, twice a second and more.

mod connector;
mod error;
mod listener;
mod migrate;
mod pool;
mod row;
mod send;
mod session;
mod sql;
mod store;
#[cfg(feature = "_rustls")]
mod tls;
mod url;
mod verify;
mod waiters;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::{Invalid, StoreError, StoreErrorKind, TableName};
use db_mutex_sql_support::{Password, ServerAddress};
use deadpool_postgres::Pool;
use tokio::runtime::Handle;

use crate::connector::Connector;
use crate::listener::Listener;
use crate::migrate::Table;
use crate::pool::PoolOptions;
use crate::session::Session;
use crate::sql::Sql;

/// The pool that [`PostgresStore::from_pool`] takes.
pub use deadpool_postgres;
/// The driver, in the version that [`PostgresStore::verify_in`] takes transactions of.
pub use tokio_postgres;

/// Keeps locks in PostgreSQL. Clones share the connections.
///
/// A grant, a renewal, a release is one round trip; so is a refusal, which writes nothing. Acquiring and renewing wait for
/// the disk, releasing does not. Who waits for a lock is woken by its release in another process; see
/// [the crate's page](crate#waiting).
///
/// ```no_run
/// use std::sync::Arc;
/// use db_mutex_core::DbMutex;
/// use db_mutex_postgres::PostgresStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::connect("postgres://app:secret@db.example.org/app").await?;
/// let mutex = DbMutex::new(Arc::new(store))?;
/// let guard = mutex.lock("report").acquire().await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    shared: Arc<Shared>,
}

struct Shared {
    session: Session,
    sql: Arc<Sql>,
    table: Table,
    /// How connections of our own are made; `None` on an application's pool.
    own: Option<(Connector, PoolOptions)>,
    /// Only where the connections are ours from end to end.
    listener: Option<Listener>,
}

impl Shared {
    fn on_own_connections(own: (Connector, PoolOptions), sql: Arc<Sql>, table: Table) -> Result<Self, StoreError> {
        let (connector, options) = &own;
        let pool = pool::make_pool(connector, options)?;
        let timeout = options.statement_timeout;
        let listener = options.direct.then(|| Listener::new(connector.clone(), &sql, timeout));
        let session = Session { pool, prepared: options.direct, timeout, home: None };
        Ok(Self { session, listener, sql, table, own: Some(own) })
    }
}

impl PostgresStore {
    /// A few connections that are not lent out to others, opened in the runtime that uses them.
    fn with_connections_of_its_own(&self) -> Option<Self> {
        let (connector, options) = self.shared.own.clone()?;
        let options = PoolOptions { size: 3, ..options };
        let (sql, table) = (Arc::clone(&self.shared.sql), self.shared.table.clone());
        let shared = Shared::on_own_connections((connector, options), sql, table).ok()?;
        Some(Self { shared: Arc::new(shared) })
    }

    /// Connects, and creates the table or brings it up to date if it has to be.
    ///
    /// `postgres://user:password@host:5432/database`, or `postgresql://…`, with special characters as `%xx` and an IPv6 address
    /// in brackets. After a `?`, with `&` between them:
    ///
    /// | parameter | meaning |
    /// |---|---|
    /// | `sslmode=disable` | no TLS |
    /// | `sslmode=prefer` | TLS if the server has it, nothing verified; the default for this machine (`localhost`, loopback, a Unix socket) |
    /// | `sslmode=require` | TLS, nothing verified: safe from those who only listen. With `sslrootcert`: as `verify-ca` |
    /// | `sslmode=verify-ca` | TLS with a certificate of a known authority |
    /// | `sslmode=verify-full` | the same, for this very host; the default for other machines, and with `sslrootcert` |
    /// | `sslrootcert=FILE` | the known authorities, in PEM; default, and with `system`: those that the operating system trusts |
    /// | `host`, `hostaddr`, `port`, `user`, `password`, `dbname` | as in libpq; `host=/run/postgresql` is a Unix socket |
    /// | `application_name`, `options`, `target_session_attrs`, `channel_binding`, `sslnegotiation`, `load_balance_hosts` | as in libpq |
    /// | `connect_timeout`, `tcp_user_timeout`, `keepalives_idle`, `keepalives_interval` | seconds |
    /// | `keepalives`, `keepalives_retries` | 0 or 1; a number |
    ///
    /// Other parameters are refused, and so is a URL without a database. TLS needs one of the features `tls-ring` (on by
    /// default) and `tls-aws-lc-rs`. It uses the process's default provider of cryptography if there is one, and installs none.
    ///
    /// # Errors
    /// [`Config`](StoreErrorKind::Config), with an [`Invalid`] as its source, when the URL is invalid. Otherwise when the
    /// server cannot be reached or accepts no writes, the table is not ours, or a right is missing. No error contains the
    /// password.
    ///
    /// # Cancellation safety
    /// When the future is dropped the table may have been created.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// Takes a pool that the application already has. Its connections are used as they are: nothing is set on them, and
    /// statements are planned at each call. The table is created if it has to be.
    ///
    /// All requests run in the tokio runtime in which this is called, renewals too.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancellation safety
    /// As [`connect`](Self::connect).
    pub async fn from_pool(pool: Pool) -> Result<Self, StoreError> {
        Self::builder().from_pool(pool).await
    }

    /// Begins a store with options of its own.
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder {
            schema: None,
            table: TableName::default(),
            migrate: true,
            read_only: false,
            password: None,
            pool: PoolOptions {
                size: 4,
                statement_timeout: Duration::from_secs(10),
                lock_timeout: Duration::from_secs(2),
                direct: true,
            },
        }
    }

    /// Creates the table or brings it up to date; safe to call from any number of processes at once.
    ///
    /// # Errors
    /// When the server fails or refuses.
    ///
    /// # Cancellation safety
    /// When the future is dropped the table is as it was or as it should be.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        self.shared.table.migrate(&mut connection).await
    }

    /// Checks a URL without connecting. [`connect`](Self::connect) does so too.
    ///
    /// # Errors
    /// [`Invalid::Url`], which names the part of the URL that is wrong, and never contains a password.
    pub fn check_url(url: &str) -> Result<(), Invalid> {
        url::Url::parse(url).map(drop)
    }

    /// Returns where a URL leads, without its password.
    ///
    /// # Errors
    /// Same as [`check_url`](Self::check_url).
    pub fn address(url: &str) -> Result<ServerAddress, Invalid> {
        url::Url::parse(url).map(|url| url.address())
    }

    /// The SQL that creates the table in the first schema of the search path, for people whose administrator does so. With
    /// a schema, use [the builder's](PostgresStoreBuilder::schema_sql).
    pub fn schema_sql(table: &TableName) -> String {
        Self::builder().table(table.clone()).schema_sql()
    }

    async fn connection(&self) -> Result<deadpool_postgres::Object, StoreError> {
        self.shared.session.connection().await
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("table", &self.shared.table).finish_non_exhaustive()
    }
}

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

    /// Whether a connection keeps its statements prepared and its settings. Default: yes. Turn it off behind a pooler that
    /// gives a connection to others between transactions, as PgBouncer in transaction mode does.
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
        let own = (Connector::new(url, self.password.as_ref(), self.pool.statement_timeout)?, self.pool.clone());
        let sql = Arc::new(Sql::for_table(self.schema.as_ref(), &self.table));
        let shared = Shared::on_own_connections(own, sql, Table::new(self.schema.as_ref(), &self.table))?;
        self.open(shared).await
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
            session: Session { pool, prepared: false, timeout: self.pool.statement_timeout, home: Some(home) },
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
