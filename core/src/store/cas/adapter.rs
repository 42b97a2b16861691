use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::attempt::{Limit, apply};
use super::requests::Find;
use super::{CompareAndSwap, Page, Stored, Swapped};
use crate::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, ListFilter, LockId, LockRow, LockStore, RenewRequest,
    Renewed, StoreError, rules,
};

/// A store of locks on a database that can [compare and swap](CompareAndSwap); see [the module](crate::store::cas).
#[derive(Debug, Clone, Default)]
pub struct CasStore<T> {
    inner: T,
}

impl<T: CompareAndSwap> CasStore<T> {
    /// A store on these operations.
    pub fn new(operations: T) -> Self {
        Self { inner: operations }
    }

    /// The operations.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    async fn page(&self, from: Option<&str>) -> Result<Page<T::Version>, StoreError> {
        Limit::new(self.limits().call).of(self.inner.scan(from)).await.map_err(StoreError::undone)
    }
}

#[async_trait]
impl<T: CompareAndSwap> LockStore for CasStore<T> {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        apply(&self.inner, &request.lock_id, request).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        apply(&self.inner, &request.lock_id, request).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        apply(&self.inner, &request.lock_id, request).await
    }

    /// Each page and each removal is bounded by [`Limits::call`], not all of them together.
    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let (mut removed, mut next) = (0, None);
        loop {
            let page = self.page(next.as_deref()).await?;
            for entry in &page.entries {
                let stored = Stored::from_bytes(&entry.value)?;
                if !rules::is_purgeable(&stored.row, older_than, page.now) {
                    continue;
                }
                // One that was acquired in between has another version.
                let removal = self.inner.remove(&stored.lock_id, &entry.version);
                removed += u64::from(Limit::new(self.limits().call).of(removal).await? == Swapped::Done);
            }
            next = page.next;
            if next.is_none() {
                return Ok(removed);
            }
        }
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        apply(&self.inner, id, Find(id)).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let (mut rows, mut next) = (BTreeMap::new(), None);
        loop {
            let page = self.page(next.as_deref()).await?;
            for entry in &page.entries {
                let Stored { lock_id, row, .. } = Stored::from_bytes(&entry.value)?;
                rows.insert(lock_id.clone(), row.read(lock_id, page.now));
            }
            next = page.next;
            if next.is_none() {
                return Ok(rows.into_values().filter(|row| filter.include_free || row.is_taken()).collect());
            }
        }
    }

    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        self.inner.wait_for_release(id, at_most).await
    }

    fn limits(&self) -> Limits {
        self.inner.limits().batch(1)
    }

    fn for_background(&self) -> Option<Arc<dyn LockStore>> {
        self.inner.for_background().map(|inner| Arc::new(Self { inner }) as Arc<dyn LockStore>)
    }
}
