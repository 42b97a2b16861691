//! Keeps the locks of [db-mutex](https://docs.rs/db-mutex) in an SQLite file.
//!
//! | file | the one idea |
//! |---|---|
//! | `lib` | [`SqliteStore`] and its builder |
//! | `store` | the operations of the contract, each one statement |
//! | `sql` | every statement |
//! | `worker` | the thread that owns the connection |
//! | `verify` | proving the lock inside the user's own transaction |
//! | `open` | how a connection is opened, and what is refused |
//! | `one_row` | stepping a statement to its end, where the commit is |
//! | `identity` | noticing that the file under the connection was replaced |
//! | `migrate` | the table, and whether it is ours |
//! | `error` | what an error of SQLite means |

mod error;
mod identity;
mod migrate;
mod one_row;
mod open;
mod sql;
mod store;
mod verify;
mod worker;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use db_mutex_core::{StoreError, TableName};

use crate::open::Place;
use crate::sql::Sql;
use crate::worker::Worker;

/// The driver, in the version that [`SqliteStore::verify_in`] takes transactions of.
pub use rusqlite;

/// Keeps locks in an SQLite file, for all processes of a machine.
///
/// The file is in WAL mode; its clock is the machine's, to the millisecond. A thread owns the connection, so the store
/// works under any async runtime. Clones share it.
///
/// ```
/// use db_mutex_core::DbMutex;
/// use db_mutex_sqlite::SqliteStore;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("locks.db");
/// let mutex = DbMutex::new(SqliteStore::open(&file).await?)?;
/// let guard = mutex.lock("report").acquire().await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    worker: Worker,
    path: PathBuf,
    verify_sql: String,
}

impl SqliteStore {
    /// Opens the file, creates it if there is none, and brings its table up to date. `:memory:` opens a database that
    /// only this handle and its clones see.
    ///
    /// # Errors
    /// When the file cannot be opened or written, lies on a network file system, is no SQLite database, or has a table
    /// of that name which is not ours.
    ///
    /// # Cancellation safety
    /// When the future is dropped the file may have been created.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder().open(path).await
    }

    /// Begins a store with options of its own.
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder {
            table: TableName::default(),
            busy_timeout: Duration::from_secs(5),
            create_if_missing: true,
            read_only: false,
        }
    }

    /// The SQL that creates the table, for people whose administrator does so.
    pub fn schema_sql(table: &TableName) -> String {
        migrate::schema_sql(table.as_str())
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Builds an [`SqliteStore`]; what is not set has the default that each method tells.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct SqliteStoreBuilder {
    table: TableName,
    busy_timeout: Duration,
    create_if_missing: bool,
    read_only: bool,
}

impl SqliteStoreBuilder {
    /// The name of the table. Default: `db_mutex_locks`.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// How long one request may wait for other writers of the file before it fails. Default: 5 s.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Whether a file that does not exist is created. Default: yes.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// Whether the store is only used to look at locks: rights to read the file and its log are then enough. Default: no.
    /// Implies [`create_if_missing(false)`](Self::create_if_missing).
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Opens the store; see [`SqliteStore::open`].
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    ///
    /// # Cancellation safety
    /// As [`SqliteStore::open`].
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        let path = path.as_ref().to_owned();
        let sql = Sql::for_table(&self.table);
        let verify_sql = sql.verify.clone();
        let place = Place {
            path: path.clone(),
            table: self.table,
            busy_timeout: self.busy_timeout,
            create_if_missing: self.create_if_missing && !self.read_only,
            read_only: self.read_only,
        };
        Ok(SqliteStore { worker: Worker::start(place, sql).await?, path, verify_sql })
    }
}
