//! A memory store that does to its callers what databases do.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{
    DeleteRequest, Deleted, Fence, InsertRequest, Inserted, Limits, LockStore, RenewRequest, Renewed, StoreTime,
    async_trait,
};
use db_mutex_core::testing::{ManualClock, MemoryStore, RowLock};
use db_mutex_core::{DbMutex, DbMutexBuilder, LockId, StoreError, StoreErrorKind};

/// What happens to one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It fails, and nothing was done.
    Fails,
    /// It is done, and the reply is lost.
    ReplyLost,
    /// It is done, and the reply comes that much later.
    ReplyLate(Duration),
    /// It is done, and the reply never comes.
    ReplyNever,
}

/// The store; its clones share everything. The faults happen to the next requests, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Flaky {
    pub(crate) clock: ManualClock,
    memory: MemoryStore,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    pub(crate) asked: Arc<Asked>,
}

/// How often the store was asked.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) inserts: AtomicUsize,
    pub(crate) renewals: AtomicUsize,
}

impl Flaky {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::new();
        Self { memory: MemoryStore::with_clock(clock.clone()), clock, faults: Arc::default(), asked: Arc::default() }
    }

    /// The same, whose time goes on with tokio's, to 5 ms.
    pub(crate) fn on_tokio_time() -> Self {
        let store = Self::new();
        let clock = store.clock.clone();
        tokio::spawn(async move {
            let tick = Duration::from_millis(5);
            loop {
                tokio::time::sleep(tick).await;
                clock.advance(tick);
            }
        });
        store
    }

    /// Locks the row of a lock, as another transaction would.
    pub(crate) fn lock_row(&self, id: &str) -> RowLock {
        self.memory.lock_row(&LockId::new(id).unwrap())
    }

    /// Undoes the grant of a lock, as a failover may: the row is gone, or that of an acquisition before.
    pub(crate) async fn undo_grant(&self, id: &str, has_a_row: bool) {
        self.memory.change_row(&LockId::new(id).unwrap(), |row| {
            (row.owner, row.fence, row.expires_at) = (None, Fence::new(1), StoreTime::ZERO);
        });
        if !has_a_row {
            assert_eq!(self.memory.purge_expired(Duration::ZERO).await.unwrap(), 1);
        }
    }

    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    /// A mutex on this store, whose client clock is the store's too.
    pub(crate) fn mutex(&self) -> DbMutex {
        self.builder().build().unwrap()
    }

    pub(crate) fn builder(&self) -> DbMutexBuilder {
        DbMutex::builder(Arc::new(self.clone())).ttl(Duration::from_secs(60)).clock(self.clock.clone())
    }

    /// A mutex whose background is a thread, as it is for users.
    pub(crate) fn on_a_thread(&self) -> DbMutex {
        DbMutex::builder(self.clone()).ttl(Duration::from_secs(60)).build().unwrap()
    }

    /// Whether the lock is taken.
    pub(crate) async fn is_taken(&self, id: &str) -> bool {
        self.memory.find(&LockId::new(id).unwrap()).await.unwrap().is_some_and(|row| row.is_taken())
    }

    /// The row of a lock that was acquired.
    pub(crate) async fn row(&self, id: &str) -> LockRow {
        self.memory.find(&LockId::new(id).unwrap()).await.unwrap().unwrap()
    }

    /// Waits for what happens in the background.
    pub(crate) async fn until_free(&self, id: &str) {
        for _ in 0..6_000 {
            if !self.is_taken(id).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("lock `{id}` was not released within 30 s");
    }

    async fn suffer<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let fault = self.faults.lock().unwrap().pop_front();
        let lost = || StoreError::new(StoreErrorKind::Unavailable, "the connection broke");
        match fault {
            None => request.await,
            Some(Fault::Fails) => Err(lost()),
            Some(Fault::ReplyLost) => request.await.and(Err(lost())),
            Some(Fault::ReplyLate(by)) => {
                let answer = request.await;
                self.clock.advance(by);
                answer
            }
            Some(Fault::ReplyNever) => {
                request.await?;
                pending().await
            }
        }
    }
}

#[async_trait]
impl LockStore for Flaky {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        self.asked.inserts.fetch_add(1, Ordering::SeqCst);
        self.suffer(self.memory.insert_if_absent(request)).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.suffer(self.memory.delete(request)).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.asked.renewals.fetch_add(1, Ordering::SeqCst);
        self.suffer(self.memory.renew(request)).await
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        self.asked.renewals.fetch_add(1, Ordering::SeqCst);
        let all = async { Ok(self.memory.renew_many(requests).await) };
        self.suffer(all).await.unwrap_or_else(|error| error.for_all(requests.len()))
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.memory.purge_expired(older_than).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.memory.find(id).await
    }

    fn limits(&self) -> Limits {
        Limits::new().batch(1_000)
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        self.memory.list(filter).await
    }
}
