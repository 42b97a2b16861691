//! A lock file in a folder of its own, and the words in which the tests speak to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{InsertRequest, Inserted, LockStore};
use db_mutex_core::{DbMutex, HolderName, LockId, OwnerToken, StoreError, Ttl};
use db_mutex_sqlite::SqliteStore;
use db_mutex_sqlite::rusqlite::Connection;
use tempfile::TempDir;

pub(crate) struct Database {
    folder: TempDir,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("locks.db")
    }

    pub(crate) async fn store(&self) -> SqliteStore {
        SqliteStore::open(self.file()).await.unwrap()
    }

    pub(crate) async fn mutex(&self) -> DbMutex {
        DbMutex::new(Arc::new(self.store().await)).unwrap()
    }

    /// Another client's connection.
    pub(crate) fn connection(&self) -> Connection {
        let connection = Connection::open(self.file()).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }
}

pub(crate) fn id(text: &str) -> LockId {
    LockId::new(text).unwrap()
}

pub(crate) async fn ask(store: &SqliteStore, lock_id: &str, ttl: Duration) -> Result<Inserted, StoreError> {
    let holder = HolderName::new("test").unwrap();
    let owner = OwnerToken::mint().unwrap();
    store.insert_if_absent(&InsertRequest::new(id(lock_id), owner, Ttl::new(ttl).unwrap(), holder)).await
}

/// Waits until the store says that the lease is over.
pub(crate) async fn until_free(store: &SqliteStore, lock_id: &str) {
    while store.find(&id(lock_id)).await.unwrap().is_some_and(|row| row.is_taken()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
