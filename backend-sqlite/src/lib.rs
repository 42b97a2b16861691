//! The SQLite store of [db-mutex](https://docs.rs/db-mutex).
//!
//! | file | the one idea |
//! |---|---|
//! | `lib` | [`SqliteStore`] |
//! | `builder` | its options, and how it is opened |
//! | `store` | the operations of the contract, each one statement |
//! | `sql` | every statement |
//! | `send` | the thread that owns the connection |
//! | `inbox` | the order of its work, and which requests wait for other writers |
//! | `connect` | how a connection is opened, and what is refused |
//! | `identity` | noticing that the file under the connection was replaced |
//! | `migrate` | the table, and whether it is ours |
//! | `verify` | proving the lock inside the user's own transaction |
//! | `row` | stepping a statement to its end, where the commit is |
//! | `error` | what an error of SQLite means |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod connect;
mod error;
mod identity;
mod inbox;
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
/// Re-export of the driver whose transactions [`SqliteStore::verify_in`] accepts.
pub use rusqlite;

/// A store that keeps locks in an SQLite file, for all processes of a machine.
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
    /// Opens the file, creates it if it does not exist, and brings its table up to date. `:memory:` opens a database that
    /// only this handle and its clones see.
    ///
    /// # Errors
    /// If the file cannot be opened or written, is on a network file system or not an SQLite database, or if it has a table
    /// of that name that was not made by db-mutex.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the file may have been created.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder().open(path).await
    }

    /// Returns a builder with the default options.
    pub fn builder() -> SqliteStoreBuilder {
        SqliteStoreBuilder::new()
    }

    /// The SQL that creates the table, for an administrator to run.
    pub fn schema_sql(table: &TableName) -> String {
        migrate::schema_sql(table.as_str())
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}
