use std::time::Duration;

use db_mutex_core::{
    DeleteRequest, Deleted, InsertRequest, Inserted, ListFilter, LockId, LockRow, LockStore, RenewRequest, Renewed,
    StoreError, StoreErrorKind, async_trait,
};
use tokio::runtime::Handle;

use crate::MySqlStore;
use crate::operations::{Operations, owner_of};

#[async_trait]
impl LockStore for MySqlStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        only(self.insert_many(std::slice::from_ref(request)).await?)
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        only(self.delete_many(std::slice::from_ref(request)).await?)
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        only(self.renew_many(std::slice::from_ref(request)).await?)
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let older_than_us = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
        self.call(move |database| async move { database.purge(older_than_us).await }).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let id = id.clone();
        self.call(move |database| async move { database.find(&id).await }).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let include_free = filter.include_free;
        self.call(move |database| async move { database.list(include_free).await }).await
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Result<Vec<Inserted>, StoreError> {
        let requests = requests.to_vec();
        let on_their_way = self.in_flight.enter(requests.iter().map(|request| request.owner));
        self.call(move |database| async move {
            let _on_their_way = on_their_way;
            database.insert_many(&requests).await
        })
        .await
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Result<Vec<Deleted>, StoreError> {
        let requests = requests.to_vec();
        // Not sooner than an insert of the same owner whose caller has gone away.
        for owner in requests.iter().filter_map(owner_of) {
            self.in_flight.settled(&owner).await;
        }
        self.call(move |database| async move { database.delete_many(&requests).await }).await
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Result<Vec<Renewed>, StoreError> {
        let requests = requests.to_vec();
        self.call(move |database| async move { database.renew_many(&requests).await }).await
    }
}

impl MySqlStore {
    /// Does `work` in a task that outlives the caller: a request is then done or not done, and its connection goes back to
    /// the pool clean, whoever drops the future.
    async fn call<T, Work, Working>(&self, work: Work) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Work: FnOnce(Operations) -> Working,
        Working: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let runtime = Handle::try_current().map_err(|error| {
            let message = "the store was called outside of a tokio runtime; call it inside of one";
            StoreError::new(StoreErrorKind::Config, message).with_source(error)
        })?;
        let task = runtime.spawn(work(self.operations.clone()));
        task.await.unwrap_or_else(|error| {
            let message = "the request did not end, for its tokio runtime is shutting down";
            Err(StoreError::new(StoreErrorKind::Unavailable, message).with_source(error))
        })
    }
}

/// The one answer to one request.
fn only<A>(mut answers: Vec<A>) -> Result<A, StoreError> {
    answers.pop().ok_or_else(|| StoreError::new(StoreErrorKind::Other, "the database answered nothing"))
}
