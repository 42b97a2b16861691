use std::time::Duration;

use db_mutex_core::store::{
    DeleteBy, DeleteRequest, Deleted, InsertRequest, Inserted, Limits, ListFilter, LockId, LockRow, LockStore,
    RenewRequest, Renewed, StoreError, StoreErrorKind, async_trait,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::MySqlStore;
use crate::client::within;
use crate::operations::{Operations, busy};

#[async_trait]
impl LockStore for MySqlStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let request = request.clone();
        let on_its_way = self.in_flight.enter([request.owner]);
        self.call(move |database| async move {
            let _on_its_way = on_its_way;
            database.insert(&request).await
        })
        .await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let request = request.clone();
        // Not before an insert of the same owner whose caller has gone away.
        if let DeleteBy::Owner(owner) = &request.by {
            self.in_flight.settled(owner).await;
        }
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
        let on_their_way = self.in_flight.enter(requests.iter().map(|request| request.owner));
        let call = self.call(move |database| async move {
            let _on_their_way = on_their_way;
            Ok(database.insert_many(&requests).await)
        });
        call.await.unwrap_or_else(|error| error.for_all(count))
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        let mut answers: Vec<_> = requests.iter().map(|_| Err(busy())).collect();
        let (mut settled, mut places) = (Vec::new(), Vec::new());
        for (at, request) in requests.iter().enumerate() {
            // One whose insert is still on its way stays busy: the others do not wait for it.
            if self.is_settled(&request.by).await {
                settled.push(request.clone());
                places.push(at);
            }
        }
        let call = self.call(move |database| async move { Ok(database.delete_many(&settled).await) });
        let deleted = call.await.unwrap_or_else(|error| error.for_all(places.len()));
        for (at, answer) in places.into_iter().zip(deleted) {
            answers[at] = answer;
        }
        answers
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        let (count, requests) = (requests.len(), requests.to_vec());
        let call = self.call(move |database| async move { Ok(database.renew_many(&requests).await) });
        call.await.unwrap_or_else(|error| error.for_all(count))
    }

    fn limits(&self) -> Limits {
        self.limits
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

    /// Does `work` in a task that outlives the caller: a request is then done or not done, and its connection goes back to
    /// the pool clean, whoever drops the future.
    async fn call_unbounded<T, Work, Working>(&self, work: Work) -> Result<T, StoreError>
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

    /// Whether no insert of the owner is on its way.
    async fn is_settled(&self, by: &DeleteBy) -> bool {
        match by {
            DeleteBy::Owner(owner) => timeout(Duration::ZERO, self.in_flight.settled(owner)).await.is_ok(),
            _ => true,
        }
    }
}
