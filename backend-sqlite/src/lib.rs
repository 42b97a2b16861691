//! Keeps the locks of [db-mutex](https://docs.rs/db-mutex) in an SQLite file.
//!
//! | file | the one idea |
//! |---|---|
//! | `lib` | [`SqliteStore`] |
//! | `builder` | its options, and how it is opened |
//! | `store` | the operations of the contract, each one statement |
//! | `sql` | every statement |
//! | `send` | the thread that owns the connection |
//! | `connect` | how a connection is opened, and what is refused |
//! | `identity` | noticing that the file under the connection was replaced |
//! | `migrate` | the table, and whether it is ours |
//! | `verify` | proving the lock inside the user's own transaction |
//! | `row` | stepping a statement to its end, where the commit is |
//! | `error` | what an error of SQLite means |

mod builder;
mod connect;
mod error;
mod identity;
mod migrate;
mod row;
mod send;
mod sql;
mod store;
mod verify;

use std::fmt;
use std::path::{Path, PathBuf};

use db_mutex_core::{StoreError, TableName};

use crate::send::Worker;

pub use builder::SqliteStoreBuilder;
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
        SqliteStoreBuilder::new()
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
