use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, ListFilter, LockId, LockRow, LockStore, RenewRequest,
    Renewed, StoreError, StoreErrorKind, async_trait,
};

use crate::MySqlStore;
use crate::operations::Operations;
use crate::send::{in_a_runtime, within};

#[async_trait]
impl LockStore for MySqlStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let request = request.clone();
        self.call(move |database| async move { database.insert(&request).await }).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let request = request.clone();
        self.call(move |database| async move { database.delete(&request).await }).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let mut answers = self.renew_many(std::slice::from_ref(request)).await;
        answers.pop().unwrap_or_else(|| Err(StoreError::new(StoreErrorKind::Other, "the database returned nothing")))
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let older_than_us = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
        // Of as many statements as there are rows to remove: each is bounded, but not all together.
        self.call_unbounded(move |database| async move { database.purge(older_than_us).await }).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let id = id.clone();
        self.call(move |database| async move { database.find(&id).await }).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let include_free = filter.include_free;
        self.call(move |database| async move { database.list(include_free).await }).await
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
        let (count, requests) = (requests.len(), requests.to_vec());
        let call = self.call(move |database| async move { Ok(database.insert_many(&requests).await) });
        call.await.unwrap_or_else(|error| error.for_all(count))
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        let (count, requests) = (requests.len(), requests.to_vec());
        let call = self.call(move |database| async move { Ok(database.delete_many(&requests).await) });
        call.await.unwrap_or_else(|error| error.for_all(count))
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        let (count, requests) = (requests.len(), requests.to_vec());
        let call = self.call(move |database| async move { Ok(database.renew_many(&requests).await) });
        call.await.unwrap_or_else(|error| error.for_all(count))
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn for_background(&self) -> Option<Arc<dyn LockStore>> {
        self.with_connections_of_its_own().map(|store| Arc::new(store) as Arc<dyn LockStore>)
    }
}

impl MySqlStore {
    /// Does `work`, which may take several round trips, within the limit for a call.
    async fn call<T, Work, Working>(&self, work: Work) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Work: FnOnce(Operations) -> Working,
        Working: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let limit = self.limits.call;
        self.call_unbounded(|database| within(limit, work(database))).await
    }

    /// Does `work` in the runtime that the connections belong to.
    async fn call_unbounded<T, Work, Working>(&self, work: Work) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Work: FnOnce(Operations) -> Working,
        Working: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let working = work(self.operations.clone());
        let Some(home) = &self.home else {
            in_a_runtime()?;
            return working.await;
        };
        home.spawn(working).await.unwrap_or_else(|error| {
            let message = "the runtime that the pool was made in has ended";
            Err(StoreError::new(StoreErrorKind::Unavailable, message).with_source(error))
        })
    }
}
