//! A store behind a pointer is a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, ListFilter, LockId, LockRow, LockStore, RenewRequest,
    Renewed, StoreError,
};

/// Forwards every method: a method left to its default would silently lose the store's batches, or its way of waiting.
macro_rules! forward {
    ($pointer:ty) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: LockStore + ?Sized> LockStore for $pointer {
            async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
                (**self).insert_if_absent(request).await
            }

            async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
                (**self).delete(request).await
            }

            async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
                (**self).renew(request).await
            }

            async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
                (**self).purge_expired(older_than).await
            }

            async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
                (**self).find(id).await
            }

            async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
                (**self).list(filter).await
            }

            async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
                (**self).insert_many(requests).await
            }

            async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
                (**self).delete_many(requests).await
            }

            async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
                (**self).renew_many(requests).await
            }

            async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
                (**self).wait_for_release(id, at_most).await
            }

            fn limits(&self) -> Limits {
                (**self).limits()
            }

            fn for_background(&self) -> Option<Arc<dyn LockStore>> {
                (**self).for_background()
            }
        }
    };
}

forward!(Arc<S>);
forward!(Box<S>);
