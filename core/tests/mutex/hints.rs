//! A store that says at once, and again and again, that a lock may be free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, LockStore, RenewRequest, Renewed, async_trait,
};
use db_mutex_core::{DbMutex, LockId, StoreError};
use tokio::time::sleep;

use crate::server::{Server, runtime};

const SECOND: Duration = Duration::from_secs(1);

/// A store whose hint comes at once, again and again: the service spins without yielding, and the thread that renews is
/// blocked.
#[derive(Debug, Clone)]
struct Hinting(Server, Arc<AtomicUsize>);

#[async_trait]
impl LockStore for Hinting {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        if request.lock_id.as_str() == "job" {
            sleep(3 * SECOND).await;
        }
        self.0.insert_if_absent(request).await
    }
    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.0.delete(request).await
    }
    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.0.renew(request).await
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
    async fn wait_for_release(&self, _: &LockId, _: Duration) -> Result<(), StoreError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn hints_that_come_at_once_do_not_spin() {
    let hints = Arc::<AtomicUsize>::default();
    let mutex = DbMutex::builder(Hinting(Server::new(), Arc::clone(&hints))).build().unwrap();
    runtime().block_on(async {
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let lock = mutex.lock("job").wait(10 * SECOND);
                tokio::spawn(async move { lock.acquire().await.map(drop) })
            })
            .collect();
        sleep(2 * SECOND).await;
        let hints = hints.load(Ordering::SeqCst);
        assert!(hints < 2_000, "{hints} hints in two seconds");
        for waiter in waiters {
            waiter.abort();
        }
    });
}
