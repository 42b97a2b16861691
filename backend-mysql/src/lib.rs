//! The MySQL and MariaDB store of [db-mutex](https://docs.rs/db-mutex).
//!
//! | file | the one idea |
//! |---|---|
//! | `lib` | [`MySqlStore`] |
//! | `builder` | its options, and how it is opened |
//! | `store` | the contract |
//! | `insert`, `renew`, `delete` | acquiring locks, renewing leases, releasing locks |
//! | `operations` | what these share; reading and purging |
//! | `sql` | every statement |
//! | `statement` | a statement and its values, prepared or as text |
//! | `send` | sending statements, and sending them again if a connection broke |
//! | `in_use` | closing a connection whose request was dropped |
//! | `cancel` | ending a statement without a reply |
//! | `session` | the settings of a connection |
//! | `connect` | the servers of a URL, and the connections to one of them |
//! | `skew` | whether their clocks agree |
//! | `url`, `tls` | what a URL says, and how a connection is protected |
//! | `cluster` | whether several servers accept writes |
//! | `galera` | what is different then |
//! | `migrate` | the table, and whether it is ours |
//! | `engine` | which engine the server is, and whether it can keep locks |
//! | `verify` | proving the lock inside the user's own transaction |
//! | `row` | reading the server's replies |
//! | `error` | what an error of the server means |
//!
//! # Rights
//!
//! At run time the user needs `SELECT`, `INSERT` and `UPDATE` on the table of locks and `SELECT` on its `…_versions`.
//! `DELETE` on the table of locks is needed only to purge. `CREATE` (and `SELECT`, `INSERT`, `UPDATE` on `…_versions`) is
//! needed only to migrate. On a Galera cluster, the table `…_verified` needs the same rights as the table of locks, also
//! for users whose transactions verify locks.
//!
//! # Locked rows
//!
//! No request waits for a row. If another transaction has locked the row of a lock, or has inserted it and not committed
//! yet, the request fails at once with [`Busy`](db_mutex_core::StoreErrorKind::Busy), and the other requests of the batch
//! continue. In two cases an insert waits, for a second at most: if another transaction inserts the row just after this one
//! found it absent, or if another transaction has deleted the row and not committed yet, as a purge does.
//!
//! # Server settings
//!
//! An acknowledged acquisition must survive a crash of the server: keep `innodb_flush_log_at_trx_commit = 1`. A failover to
//! an asynchronous replica may lose acknowledged locks. `binlog_format` must be `ROW` or `MIXED`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod cancel;
mod cluster;
mod connect;
mod delete;
mod engine;
mod error;
mod galera;
mod in_use;
mod insert;
mod migrate;
mod operations;
mod renew;
mod row;
mod send;
mod session;
mod skew;
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

use crate::connect::{APART, Lent};
use crate::operations::Operations;

pub use builder::MySqlStoreBuilder;
/// Re-export of the driver whose transactions [`MySqlStore::verify_in`] accepts.
pub use mysql_async;

/// A store that keeps locks in a MySQL (8.0 or newer) or MariaDB (10.6 or newer) database.
///
/// The server's clock decides, in UTC and to the microsecond. Clones share their connections. Use a store only in one tokio
/// runtime, because the driver's pool cannot be shared between runtimes. (A mutex takes care of this.)
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
/// If the future of a request is dropped, the request takes effect or not. A mutex lets its requests run to completion.
#[derive(Clone)]
pub struct MySqlStore {
    operations: Operations,
    /// The runtime that an application's pool belongs to. Connections of our own are opened where they are used.
    home: Option<Handle>,
    table: TableName,
    limits: Limits,
}

impl MySqlStore {
    /// Returns a store with a few separate connections, opened in the runtime that uses them.
    fn with_connections_of_its_own(&self) -> Option<Self> {
        let connections = self.operations.client.connections.apart()?;
        let mut store = self.clone();
        store.operations.client.connections = connections;
        store.limits = store.limits.concurrency(APART);
        Some(store)
    }

    /// Connects to the server that `url` names, and creates the table if it does not exist.
    ///
    /// `mysql://user:password@host:3306/database`, or `mariadb://…`, with special characters as `%xx` and an IPv6 address
    /// in brackets. With several hosts, `host1:3306,host2:3307`, the store uses the first one that accepts the login and
    /// has `read_only` off, and the next one if that fails or becomes read-only. Parameters follow after `?`, separated by
    /// `&`:
    ///
    /// | parameter | meaning |
    /// |---|---|
    /// | `ssl-mode=disabled` | no TLS; the default for this machine (`localhost`, loopback, `socket=…`) |
    /// | `ssl-mode=preferred` | TLS if the server has it, nothing verified |
    /// | `ssl-mode=required` | TLS, nothing verified: protects only against eavesdropping |
    /// | `ssl-mode=verify_ca` | TLS with a certificate of a trusted authority |
    /// | `ssl-mode=verify_identity` | the same, issued for this host; the default for other machines |
    /// | `ssl-ca=FILE` | the trusted authorities, in PEM; default: those of the operating system |
    /// | `socket=PATH` | connects through a Unix socket |
    /// | `compression` | `fast`, `on`, `best`, or a level from 0 to 9 |
    /// | `tcp_keepalive`, `tcp_nodelay` | of the connection: milliseconds; `true` or `false` |
    /// | `max_allowed_packet` | bytes |
    /// | `enable_cleartext_plugin`, `secure_auth` | of the login: `true` or `false` |
    /// | `allow_unsupported_engine` | `true` or `false`; see [the builder](MySqlStoreBuilder::allow_unsupported_engine) |
    ///
    /// Upper case, `-` instead of `_`, and PostgreSQL's names are accepted too. Other parameters are refused. TLS needs one
    /// of the features `tls-ring` (on by default) and `tls-aws-lc-rs`. The driver uses the process's default crypto
    /// provider; if there is none, the first TLS connection installs one.
    ///
    /// # Errors
    /// [`Config`](db_mutex_core::StoreErrorKind::Config), with an [`Invalid`] as its source, if the URL is invalid. Other
    /// errors if the server cannot be reached, refuses the login, is read-only or an unsupported engine, or has a table of
    /// that name that cannot keep locks. No error contains the password.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the table may have been created.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// Uses connections of your own pool, and creates the table if it does not exist.
    ///
    /// Each request applies the session settings that it needs and restores the previous ones, in the same round trip, so
    /// the pool may have any defaults. User variables named `@db_mutex_…` and `LAST_INSERT_ID()` change. Keep at least one
    /// connection free of long transactions.
    ///
    /// All requests run in the tokio runtime in which this is called, renewals too.
    ///
    /// If the server does not reply to a grant in time, the statement is cancelled, over a new connection with the options
    /// of the pool. The connection of an abandoned request is closed, and not returned to the pool.
    ///
    /// # Errors
    /// Same as [`connect`](Self::connect).
    ///
    /// # Cancellation safety
    /// Same as [`connect`](Self::connect).
    pub async fn from_pool(pool: Pool) -> Result<Self, StoreError> {
        Self::builder().from_pool(pool).await
    }

    /// Returns a builder with the default options.
    pub fn builder() -> MySqlStoreBuilder {
        MySqlStoreBuilder::default()
    }

    /// Creates the table or brings it up to date. Any number of processes may do so at once.
    ///
    /// Opening a store already does this.
    ///
    /// # Errors
    /// If there is a table of that name that was not made by db-mutex, or the table is missing and the user may not create
    /// it.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the table may have been created.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let client = &self.operations.client;
        let Lent { connection, place: _place, .. } = client.connections.get().await.map_err(|failed| failed.error)?;
        client
            .session
            .on(connection, async |connection| migrate::migrate(connection, &self.table, self.operations.cluster).await)
            .await
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
