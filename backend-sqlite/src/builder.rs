use std::path::Path;
use std::time::Duration;

use db_mutex_core::{StoreError, TableName};

use crate::SqliteStore;
use crate::connect::Place;
use crate::send::Worker;
use crate::sql::Sql;

/// Builds an [`SqliteStore`]. Options that are not set use the default documented on each method.
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

    /// Sets the name of the table. Default: `db_mutex_locks`.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// Sets how long a request may wait for other writers of the file before it fails, from when it was sent. Reads do not
    /// wait, nor does an attempt that finds the lock held. Default: 5 s.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Sets whether a missing file is created. Default: yes.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// Sets whether the store only reads. The right to read the file and its log is then enough. Default: no. Implies
    /// [`create_if_missing(false)`](Self::create_if_missing).
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Opens the store; see [`SqliteStore::open`].
    ///
    /// # Errors
    /// Same as [`SqliteStore::open`].
    ///
    /// # Cancellation safety
    /// Same as [`SqliteStore::open`].
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
