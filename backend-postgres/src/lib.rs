//! The PostgreSQL store of [db-mutex](https://docs.rs/db-mutex).
//!
//! | file | the one idea |
//! |---|---|
//! | `lib` | [`PostgresStore`] |
//! | `builder` | its options, and how it is opened |
//! | `store` | the operations of the contract |
//! | `sql` | every statement: granting, changing, waking |
//! | `batch` | many requests in one statement: none waits for a row, and each gets its own answer |
//! | `places`, `hosts` | which hosts a URL names; which of them is tried when, and for how long |
//! | `opening` | opening a store: the time limit, and what it waits for |
//! | `current` | which server is in use, and which connections lead to another one |
//! | `unreachable` | why no host could be used |
//! | `pool` | the connections that requests are sent on |
//! | `send` | sending a statement: bounded, repeated where that is safe |
//! | `session` | the settings of a connection |
//! | `connect` | how the store's own connections are opened |
//! | `listener` | the connection that learns of releases in other processes |
//! | `waiters` | who waits for which lock, and what the listener still has to do for them |
//! | `url`, `tls` | what a URL says, and how a connection is protected |
//! | `migrate` | the table, and whether locks can be kept in it |
//! | `engine` | which engine the server is, and whether it can keep locks |
//! | `verify` | proving the lock inside the user's own transaction |
//! | `row` | reading rows |
//! | `error` | what an error of PostgreSQL means |
//!
//! # Rights
//!
//! At run time the role needs `SELECT, INSERT, UPDATE` on the table, `SELECT` on its companion table `<table>_versions`, and
//! `USAGE` on their schema. Only [`purge_expired`](db_mutex_core::store::LockStore::purge_expired) needs
//! `DELETE` too, and only [`migrate`](PostgresStore::migrate) `CREATE` on the schema.
//!
//! # Poolers
//!
//! Some poolers give a connection to other clients between transactions, as PgBouncer does in transaction mode. They are
//! detected when the store is opened, because they refuse or ignore the settings that are sent with the login. Each request
//! is then a single statement that neither depends on session settings nor changes any. A pooler that keeps the settings of
//! a login is not detected: use `pooler=yes` in the URL. With `pooler=no`, a pooler is an error.
//!
//! # Locked rows
//!
//! A request never waits for another transaction to end. If the row of its lock is locked, by an administrator or by a
//! transaction that has verified the lock under a strict isolation level, it fails within a few milliseconds with
//! [`Busy`](db_mutex_core::StoreErrorKind::Busy), and the other requests of the same statement continue.
//!
//! # Standbys
//!
//! A grant or renewal waits for the disk, and for the synchronous standbys if the server has any
//! (`synchronous_standby_names`), regardless of the `synchronous_commit` of the role or the database. So the promotion of a
//! synchronous standby loses nothing. With asynchronous replication, a promotion may lose the latest grants, and two
//! holders are possible. If an administrator cancels the wait for the standbys, PostgreSQL reports success with a warning.
//! On its own connections the store does not rely on that: it repeats the request until a commit is confirmed. On the
//! connections of an application's pool the store does not see such warnings.
//!
//! # Waiting
//!
//! While a process waits for a lock, the release of that lock sends a notification. The lock's channel is named by a hash,
//! because every role can see the channels of a database. A store with its own connections listens on one extra connection,
//! which it opens for its waiters and closes a few seconds after the last one. If there are no waiters, nothing is sent or
//! written. Through a pooler, or on an application's pool, waiters poll instead, at least twice a second.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod builder;
mod connect;
mod current;
mod engine;
mod error;
mod hosts;
mod listener;
mod migrate;
mod opening;
mod places;
mod pool;
mod row;
mod send;
mod session;
mod sql;
mod store;
#[cfg(feature = "_rustls")]
mod tls;
mod unreachable;
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
use crate::pool::Pooled;
use crate::send::Client;
use crate::session::PoolOptions;
use crate::sql::Sql;

pub use builder::PostgresStoreBuilder;
/// Re-export of the crate whose pool [`PostgresStore::from_pool`] accepts.
pub use deadpool_postgres;
/// Re-export of the driver whose transactions [`PostgresStore::verify_in`] accepts.
pub use tokio_postgres;

/// A store that keeps locks in a PostgreSQL database. Clones share the connections.
///
/// A grant, a renewal and a release take one round trip each. So does a refusal, which writes nothing. Grants and renewals
/// wait for the disk, releases do not. Waiters are woken when another process releases the lock; see [the crate's
/// page](crate#waiting).
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
    /// Returns a store with a few separate connections, opened in the runtime that uses them.
    fn with_connections_of_its_own(&self) -> Option<Self> {
        let (connector, options) = self.shared.own.clone()?;
        let options = PoolOptions { size: 3, ..options };
        let (sql, table) = (Arc::clone(&self.shared.sql), self.shared.table.clone());
        let shared = Shared::on_own_connections((connector, options), sql, table).ok()?;
        Some(Self { shared: Arc::new(shared) })
    }

    /// Connects, and creates the table or brings it up to date if necessary.
    ///
    /// `postgres://user:password@host:5432/database`, or `postgresql://…`, with special characters as `%xx` and an IPv6
    /// address in brackets. Parameters follow after `?`, separated by `&`:
    ///
    /// | parameter | meaning |
    /// |---|---|
    /// | `sslmode=disable` | no TLS |
    /// | `sslmode=prefer` | TLS if the server has it, nothing verified; the default for this machine (`localhost`, loopback, a Unix socket) |
    /// | `sslmode=require` | TLS, nothing verified: protects only against eavesdropping. With `sslrootcert`: same as `verify-ca` |
    /// | `sslmode=verify-ca` | TLS with a certificate of a trusted authority |
    /// | `sslmode=verify-full` | the same, issued for this host; the default for other machines, and with `sslrootcert` |
    /// | `sslrootcert=FILE` | the trusted authorities, in PEM; default, and with `system`: those of the operating system |
    /// | `pooler=auto`, `yes`, `no` | whether there is a [pooler](crate#poolers); default: `auto`, which detects it |
    /// | `host`, `hostaddr`, `port`, `user`, `password`, `dbname` | as in libpq; `host=/run/postgresql` is a Unix socket |
    /// | `application_name`, `options`, `channel_binding`, `sslnegotiation`, `load_balance_hosts` | as in libpq |
    /// | `target_session_attrs=read-write` | a server that is not a standby and accepts writes; the default for several hosts |
    /// | `target_session_attrs=primary` | a server that is not a standby; the default for several hosts of a store that is [`read_only`](PostgresStoreBuilder::read_only) |
    /// | `target_session_attrs=any` | the first that responds; the default for one host. Other values of libpq are refused |
    /// | `connect_timeout` | maximum seconds for one address of a host (connection, TLS and login), and for resolving its name |
    /// | `tcp_user_timeout`, `keepalives_idle`, `keepalives_interval` | seconds |
    /// | `keepalives`, `keepalives_retries` | 0 or 1; a number |
    /// | `allow_unsupported_engine` | `true` or `false`; see [the builder](PostgresStoreBuilder::allow_unsupported_engine) |
    ///
    /// Several hosts, `host1:5432,host2:5433`, are tried in order, each for a part of the time. The one that was used last
    /// comes first. [Standbys](crate#standbys) are skipped.
    ///
    /// If a server accepts no writes or is starting, the connection is tried again for half of the [statement
    /// timeout](PostgresStoreBuilder::statement_timeout), or for the [time limit](PostgresStoreBuilder::connect_within),
    /// because during a failover the name of the primary may lead to a standby for a while. A
    /// [`read_only`](PostgresStoreBuilder::read_only) store does not wait.
    ///
    /// Other parameters are refused, and so is a URL without a database. TLS needs one of the features `tls-ring` (on by
    /// default) and `tls-aws-lc-rs`. It uses the process's default crypto provider if there is one, and installs none.
    ///
    /// # Errors
    /// [`Config`](db_mutex_core::StoreErrorKind::Config), with an [`Invalid`] as its source, if the URL is invalid. Other
    /// errors if the server cannot be reached, accepts no writes or is an unsupported engine, if the table was not made by
    /// db-mutex, or if a right is missing. No error contains the password.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the table may have been created.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder().connect(url).await
    }

    /// Uses a pool that the application already has. Its connections are used as they are: no settings are changed, and
    /// statements are planned at each call. The table is created if necessary.
    ///
    /// All requests run in the tokio runtime in which this is called, renewals too.
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
    pub fn builder() -> PostgresStoreBuilder {
        PostgresStoreBuilder::new()
    }

    /// Creates the table or brings it up to date; safe to call from any number of processes at once.
    ///
    /// # Errors
    /// If the server fails or refuses.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the table is either unchanged or up to date.
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

    /// The SQL that creates the table in the first schema of the search path, for an administrator to run. For another
    /// schema, use [the builder's](PostgresStoreBuilder::schema_sql).
    pub fn schema_sql(table: &TableName) -> String {
        Self::builder().table(table.clone()).schema_sql()
    }

    async fn connection(&self) -> Result<Pooled, StoreError> {
        self.shared.client.connection().await
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("table", &self.shared.table).finish_non_exhaustive()
    }
}
