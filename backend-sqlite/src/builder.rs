use std::path::Path;
use std::time::Duration;

use db_mutex_core::{StoreError, TableName};

use crate::SqliteStore;
use crate::connect::Place;
use crate::send::Worker;
use crate::sql::Sql;

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
    pub(crate) fn new() -> Self {
        Self {
            table: TableName::default(),
            busy_timeout: Duration::from_secs(5),
            create_if_missing: true,
            read_only: false,
        }
    }

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
