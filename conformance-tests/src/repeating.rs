use std::sync::Arc;
use std::time::{Duration, Instant};

use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, ListFilter, LockId, LockRow, LockStore, RenewRequest,
    Renewed, StoreError, StoreErrorKind, async_trait,
};

/// How long a request is repeated while its row is locked. Other requests of a case lock rows only for a moment.
const LIMIT: Duration = Duration::from_secs(20);

/// The store under test, with requests repeated while they meet a locked row, as the engine above a store does.
#[derive(Debug, Clone)]
pub(crate) struct Repeating(pub(crate) Arc<dyn LockStore>);

/// Whether to send the request with this answer again; if so, sleeps first.
async fn is_busy<T: Sync>(answer: &Result<T, StoreError>, started: Instant) -> bool {
    let busy = answer.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Busy) && started.elapsed() < LIMIT;
    if busy {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    busy
}

#[async_trait]
impl LockStore for Repeating {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let started = Instant::now();
        loop {
            let answer = self.0.insert_if_absent(request).await;
            if !is_busy(&answer, started).await {
                return answer;
            }
        }
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let started = Instant::now();
        loop {
            let answer = self.0.delete(request).await;
            if !is_busy(&answer, started).await {
                return answer;
            }
        }
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let started = Instant::now();
        loop {
            let answer = self.0.renew(request).await;
            if !is_busy(&answer, started).await {
                return answer;
            }
        }
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.0.purge_expired(older_than).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.0.find(id).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        self.0.list(filter).await
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
        self.0.insert_many(requests).await
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        self.0.delete_many(requests).await
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        self.0.renew_many(requests).await
    }

    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        self.0.wait_for_release(id, at_most).await
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn for_background(&self) -> Option<Arc<dyn LockStore>> {
        self.0.for_background()
    }
}
