//! Keeps the locks of [db-mutex](https://docs.rs/db-mutex) in PostgreSQL.
//!
//! | file | the one idea |
//! |---|---|
//! | `lib` | [`PostgresStore`] |
//! | `builder` | its options, and how it is opened |
//! | `store` | the operations of the contract |
//! | `sql` | every statement: granting, changing, waking |
//! | `batch` | requests in one statement, none of which waits for a row, and each gets its own answer |
//! | `send` | sending a statement: bounded, repeated where that is safe |
//! | `session` | what a connection has to be set to |
//! | `connect` | how a connection of our own is opened |
//! | `listener` | the connection that learns of releases in other processes |
//! | `waiters` | who waits for which lock, and what the listener has yet to do for them |
//! | `url`, `tls` | what a URL says, and how a connection is protected |
//! | `migrate` | the table, and whether locks can be kept in it |
//! | `verify` | proving the lock inside the user's own transaction |
//! | `row` | reading rows |
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
//! Poolers that give a connection to others between transactions, as PgBouncer does in transaction mode, are found out when
//! the store is opened, because they refuse the settings that are sent with the login or take no notice of them. Each request
//! is then one statement, sent in one go, that depends on no setting of the session and leaves none behind. See
//! [`prepared_statements`](PostgresStoreBuilder::prepared_statements).
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

mod batch;
mod builder;
mod connect;
mod error;
mod listener;
mod migrate;
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

use db_mutex_core::{Invalid, StoreError, TableName};
use db_mutex_sql_support::{Sending, ServerAddress};
use deadpool_postgres::Pool;

use crate::connect::Connector;
use crate::listener::Listener;
use crate::migrate::Table;
use crate::send::Client;
use crate::session::PoolOptions;
use crate::sql::Sql;

pub use builder::PostgresStoreBuilder;
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
    client: Client,
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
        let pool = session::make_pool(connector, options)?;
        let timeout = options.statement_timeout;
        let listener = options.direct.then(|| Listener::new(connector.clone(), &sql, timeout));
        let sending = Sending::new(timeout, options.lock_timeout);
        let connector = Some(connector.clone());
        let client = Client { pool, prepared: options.direct, sending, connector, home: None };
        Ok(Self { client, listener, sql, table, own: Some(own) })
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
    /// [`Config`](db_mutex_core::StoreErrorKind::Config), with an [`Invalid`] as its source, when the URL is invalid. Otherwise when the
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
        PostgresStoreBuilder::new()
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
        self.shared.client.connection().await
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("table", &self.shared.table).finish_non_exhaustive()
    }
}
