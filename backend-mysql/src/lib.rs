//! Keeps the locks of [db-mutex](https://docs.rs/db-mutex) in MySQL or MariaDB.
//!
//! | file | the one idea |
//! |---|---|
//! | `lib` | [`MySqlStore`] |
//! | `builder` | its options, and how it is opened |
//! | `store` | the contract |
//! | `insert`, `renew`, `delete` | asking for locks, renewing leases, releasing locks |
//! | `operations` | what these share; reading and purging |
//! | `sql` | every statement |
//! | `statement` | a statement and its values, prepared or as text |
//! | `send` | sending statements, and sending them again if a connection broke |
//! | `session` | what a connection has to be set to |
//! | `connect` | the first connection |
//! | `url`, `tls` | what a URL says, and how a connection is protected |
//! | `migrate` | the table, and whether it is ours |
//! | `verify` | proving the lock inside the user's own transaction |
//! | `row` | reading what the server answers |
//! | `error` | what an error of the server means |
//!
//! # Rights
//!
//! At run time the user needs `SELECT`, `INSERT` and `UPDATE` on the table of locks and `SELECT` on its `…_versions`;
//! `DELETE` on the table of locks only to purge; `CREATE` (and `SELECT`, `INSERT`, `UPDATE` on `…_versions`) only to
//! migrate.
//!
//! # Locked rows
//!
//! No request waits for a row. If another transaction has the row of a lock locked, or has inserted it and not committed
//! yet, the request fails at once with [`Busy`](db_mutex_core::StoreErrorKind::Busy), and the others of the same batch go
//! on. Two cases remain in which an insert waits, for a second at most: another transaction inserts the row after this one
//! has found it absent, in the same moment; or one has deleted the row and not committed yet, as a purge does.
//!
//! # Server settings
//!
//! An acknowledged acquisition has to survive a crash of the server: keep `innodb_flush_log_at_trx_commit = 1`. Failover to
//! an asynchronous replica may lose acknowledged locks. `binlog_format` has to be `ROW` or `MIXED`.

mod builder;
mod connect;
mod delete;
mod error;
mod insert;
mod migrate;
mod operations;
mod renew;
mod row;
mod send;
mod session;
mod sql;
mod statement;
mod store;
#[cfg(feature = "_rustls")]
mod tls;
mod url;
mod verify;

use std::fmt;

use db_mutex_core::store::Limits;
use db_mutex_core::{Invalid, StoreError, TableName};
use db_mutex_sql_support::ServerAddress;
use mysql_async::Pool;
use tokio::runtime::Handle;

use crate::operations::Operations;

pub use builder::MySqlStoreBuilder;
/// The driver, in the version that [`MySqlStore::verify_in`] takes transactions of.
pub use mysql_async;

/// Keeps locks in a table of a MySQL (8.0 or newer) or MariaDB (10.6 or newer) database.
///
/// The server's clock decides, in UTC and to the microsecond. Clones share their connections. Use a store in one tokio
/// runtime: the driver's pool cannot be shared between several. (A mutex does that for you.)
///
/// ```no_run
/// use std::sync::Arc;
/// use db_mutex_core::DbMutex;
/// use db_mutex_mysql::MySqlStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MySqlStore::connect("mysql://app:secret@db.example/app").await?;
/// let mutex = DbMutex::new(Arc::new(store))?;
/// let guard = mutex.lock("report").acquire().await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Cancellation safety
///
/// When the future of a request is dropped, the server does it or not. A mutex lets its requests run to their end.
#[derive(Clone)]
pub struct MySqlStore {
    operations: Operations,
    /// The runtime that an application's pool belongs to. Connections of our own are opened where they are used.
    home: Option<Handle>,
    table: TableName,
    limits: Limits,
}

impl MySqlStore {
    /// A few connections that are not lent out to others, opened in the runtime that uses them.
    fn with_connections_of_its_own(&self) -> Option<Self> {
        let connections = self.operations.client.connections.apart()?;
        let mut store = self.clone();
        store.operations.client.connections = connections;
        Some(store)
    }

    /// Connects to the server that `url` names, and creates the table if there is none.
    ///
    /// `mysql://user:password@host:3306/database`, or `mariadb://…`, with special characters as `%xx` and an IPv6 address in
    /// brackets. After a `?`, with `&` between them:
    ///
    /// | parameter | meaning |
    /// |---|---|
    /// | `ssl-mode=disabled` | no TLS; the default for this machine (`localhost`, loopback, `socket=…`) |
    /// | `ssl-mode=preferred` | TLS if the server has it, nothing verified |
    /// | `ssl-mode=required` | TLS, nothing verified: safe from those who only listen |
    /// | `ssl-mode=verify_ca` | TLS with a certificate of a known authority |
    /// | `ssl-mode=verify_identity` | the same, for this very host; the default for other machines |
    /// | `ssl-ca=FILE` | the known authorities, in PEM; default: those that the operating system trusts |
    /// | `socket=PATH` | connects through a Unix socket |
    /// | `compression` | `fast`, `on`, `best`, or a level from 0 to 9 |
    /// | `tcp_keepalive`, `tcp_nodelay` | of the connection: milliseconds; `true` or `false` |
    /// | `max_allowed_packet` | bytes |
    /// | `enable_cleartext_plugin`, `secure_auth` | of the login: `true` or `false` |
    ///
    /// Upper case, `-` for `_`, and PostgreSQL's words are understood too. Other parameters are refused. TLS needs one of the
    /// features `tls-ring` (on by default) and `tls-aws-lc-rs`. The driver uses the process's default provider of
    /// cryptography; the first connection with TLS installs one if there is none.
    ///
    /// # Errors
    /// [`Config`](db_mutex_core::StoreErrorKind::Config), with an [`Invalid`] as its source, when the URL is invalid.
    /// Otherwise when the server cannot be reached, refuses the login, is read-only, or has a table of that name in which locks
    /// would not hold. No error contains the password.
    ///
    /// # Cancellation safety
    /// When the future is dropped the table may have been created.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// Uses connections of your own pool, and creates the table if there is none.
    ///
    /// Each request sets what it needs of the session and sets it back, in the same round trip: the pool may have whatever
    /// defaults it has. User variables named `@db_mutex_…` and `LAST_INSERT_ID()` change. Keep at least one connection
    /// free of long transactions.
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
    pub fn builder() -> MySqlStoreBuilder {
        MySqlStoreBuilder::default()
    }

    /// Creates the table, or brings it up to date; does nothing when it is. Any number of processes may do so at once.
    ///
    /// Opening a store does this already.
    ///
    /// # Errors
    /// When there is a table of that name which is not ours, or the user lacks the rights and the table is not there.
    ///
    /// # Cancellation safety
    /// When the future is dropped the table may have been created.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let client = &self.operations.client;
        let (connection, _) = client.connections.get().await.map_err(error::store_error)?;
        client.session.on(connection, async |connection| migrate::migrate(connection, &self.table).await).await
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
        url::Url::parse(url).map(|url| url.address)
    }

    /// The SQL that creates the table, for people whose administrator does so.
    pub fn schema_sql(table: &TableName) -> String {
        migrate::schema_sql(table)
    }
}

impl fmt::Debug for MySqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlStore").field("table", &self.table).finish_non_exhaustive()
    }
}
