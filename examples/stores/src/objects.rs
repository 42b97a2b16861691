//! An object store with conditional writes, through the crate `object_store`: S3, Google Cloud Storage, Azure, or memory.
//!
//! - The version is the `ETag` or generation that the service gives an object; a write has the condition `If-Match` or
//!   `If-None-Match: *`. A service without these is refused by the first write: `LocalFileSystem` can create on a condition, and
//!   not replace.
//! - `object_store` has no conditional delete. So a removal writes an empty object, which counts as none, and stays.
//! - There is no clock. Those of the clients must not differ by more than a lease's safety margin: see the documentation of
//!   `db_mutex::store::cas`.
//! - A request takes some 50 ms, and a service may limit writes of one object to one a second: use long leases.

use std::sync::Arc;

use db_mutex_core::store::cas::{CompareAndSwap, Entry, Loaded, Page, Swapped, machine_clock};
use db_mutex_core::store::{LockId, async_trait};
use db_mutex_core::{StoreError, StoreErrorKind};
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, GetResult, ObjectStore, PutMode, PutPayload, UpdateVersion};

/// Locks below a prefix of an object store.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
}

impl Objects {
    /// Locks below `prefix`, where nothing else must be.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self { store, prefix: prefix.into() }
    }

    async fn get(&self, path: &Path) -> Result<Option<Entry<UpdateVersion>>, StoreError> {
        let found: GetResult = match self.store.get(path).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(failed)?,
        };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        Ok(Some(Entry::new(found.bytes().await.map_err(failed)?, version)))
    }

    async fn put(&self, path: &Path, mode: PutMode, value: &[u8]) -> Result<Swapped, StoreError> {
        match self.store.put_opts(path, PutPayload::from(value.to_vec()), mode.into()).await {
            Ok(_) => Ok(Swapped::Done),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. }) => {
                Ok(Swapped::Changed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn path(&self, id: &LockId) -> Path {
        self.prefix.child(crate::names::name(id))
    }
}

fn failed(error: Error) -> StoreError {
    let kind = match error {
        Error::NotImplemented | Error::NotSupported { .. } => StoreErrorKind::Config,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Config,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, "the object store refused a request, or did not respond").with_source(error)
}

#[async_trait]
impl CompareAndSwap for Objects {
    type Version = UpdateVersion;

    async fn load(&self, id: &LockId) -> Result<Loaded<UpdateVersion>, StoreError> {
        let entry = self.get(&self.path(id)).await?.filter(|entry| !entry.value.is_empty());
        Ok(Loaded::new(entry, machine_clock()))
    }

    async fn swap(&self, id: &LockId, expected: Option<&UpdateVersion>, value: &[u8]) -> Result<Swapped, StoreError> {
        let path = self.path(id);
        let mode = match expected {
            Some(version) => PutMode::Update(version.clone()),
            // None, or an empty one that a removal has left.
            None => match self.get(&path).await.map_err(StoreError::undone)? {
                Some(entry) if !entry.value.is_empty() => return Ok(Swapped::Changed),
                Some(entry) => PutMode::Update(entry.version),
                None => PutMode::Create,
            },
        };
        self.put(&path, mode, value).await
    }

    async fn remove(&self, id: &LockId, expected: &UpdateVersion) -> Result<Swapped, StoreError> {
        self.put(&self.path(id), PutMode::Update(expected.clone()), b"").await
    }

    async fn scan(&self, _from: Option<&str>) -> Result<Page<UpdateVersion>, StoreError> {
        let mut entries = Vec::new();
        let mut listed = self.store.list(Some(&self.prefix));
        while let Some(object) = listed.try_next().await.map_err(failed)? {
            entries.extend(self.get(&object.location).await?.filter(|entry| !entry.value.is_empty()));
        }
        Ok(Page::last(entries, machine_clock()))
    }
}
