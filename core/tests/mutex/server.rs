//! A store whose calls go on when no one waits for them, and that has few connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, LockStore, RenewRequest, Renewed, async_trait,
};
use db_mutex_core::testing::MemoryStore;
use db_mutex_core::{LockId, StoreError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::sleep;

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A server: what was sent to it is done after a while, even if no one waits for the answer any more.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) memory: MemoryStore,
    /// How long inserts take.
    pub(crate) insert: Duration,
    /// How many of the next inserts stay on the way, without being sent.
    pub(crate) stuck: Arc<AtomicUsize>,
    /// The inserts that the server works on.
    pub(crate) under_way: Arc<AtomicUsize>,
    /// How long a find takes.
    pub(crate) find: Duration,
    pub(crate) connections: Option<Arc<Semaphore>>,
    pub(crate) behind: Option<Arc<Semaphore>>,
    pub(crate) limits: Limits,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            memory: MemoryStore::new(),
            insert: Duration::ZERO,
            stuck: Arc::default(),
            under_way: Arc::default(),
            find: Duration::ZERO,
            connections: None,
            behind: None,
            limits: Limits::new(),
        }
    }

    pub(crate) fn row(&self, id: &str) -> Option<LockRow> {
        runtime().block_on(self.memory.find(&LockId::new(id).unwrap())).unwrap()
    }

    pub(crate) fn is_taken(&self, id: &str) -> bool {
        self.row(id).is_some_and(|row| row.is_taken())
    }

    async fn connection(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        match &self.connections {
            Some(connections) => Some(connections.acquire().await.unwrap()),
            None => None,
        }
    }
}

#[async_trait]
impl LockStore for Server {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let _connection = self.connection().await;
        let stuck = self.stuck.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if stuck.is_ok() {
            std::future::pending::<()>().await;
        }
        if self.insert.is_zero() {
            return self.memory.insert_if_absent(request).await;
        }
        let (reply, answer) = oneshot::channel();
        let (server, request) = (self.clone(), request.clone());
        thread::spawn(move || {
            server.under_way.fetch_add(1, Ordering::SeqCst);
            thread::sleep(server.insert);
            server.under_way.fetch_sub(1, Ordering::SeqCst);
            let _ = reply.send(runtime().block_on(server.memory.insert_if_absent(&request)));
        });
        answer.await.unwrap()
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let _connection = self.connection().await;
        self.memory.delete(request).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let _connection = self.connection().await;
        self.memory.renew(request).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.memory.purge_expired(older_than).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let _connection = self.connection().await;
        sleep(self.find).await;
        self.memory.find(id).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let _connection = self.connection().await;
        sleep(self.find).await;
        self.memory.list(filter).await
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn for_background(&self) -> Option<Arc<dyn LockStore>> {
        let behind = Arc::clone(self.behind.as_ref()?);
        Some(Arc::new(Self { connections: Some(behind), behind: None, ..self.clone() }))
    }
}
