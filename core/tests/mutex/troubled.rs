//! A memory store some of whose locks are in trouble, and whose calls take their time.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, LockStore, RenewRequest, Renewed, async_trait,
};
use db_mutex_core::testing::{ManualClock, MemoryStore};
use db_mutex_core::{DbMutex, DbMutexBuilder, LockId, StoreError, StoreErrorKind};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Insert,
    Renew,
    Delete,
    Find,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// The row is locked.
    Busy,
    /// The store cannot be reached.
    Away,
    /// The store accepts no writes for now.
    ReadOnly,
    /// The call never returns.
    Hangs,
    /// The call fails when its limit is reached.
    TimesOut,
    /// The store panics.
    Panics,
    /// The call returns no answer for the last request.
    IsShort,
}

type Troubles = dyn Fn(Kind, &str) -> Trouble + Send + Sync;

/// The store; its clones share everything.
#[derive(Clone)]
pub(crate) struct Troubled {
    pub(crate) clock: ManualClock,
    pub(crate) memory: MemoryStore,
    pub(crate) limits: Limits,
    latency: Duration,
    trouble: Arc<Troubles>,
    pub(crate) calls: Arc<AtomicUsize>,
}

impl Troubled {
    /// A store on tokio's time, to a millisecond. Each call takes `latency`.
    pub(crate) fn new(latency: Duration, trouble: impl Fn(Kind, &str) -> Trouble + Send + Sync + 'static) -> Self {
        let clock = ManualClock::new();
        let ticking = clock.clone();
        tokio::spawn(async move {
            let tick = Duration::from_millis(1);
            loop {
                tokio::time::sleep(tick).await;
                ticking.advance(tick);
            }
        });
        Self {
            memory: MemoryStore::with_clock(clock.clone()),
            clock,
            limits: Limits::new().batch(1_000),
            latency,
            trouble: Arc::new(trouble),
            calls: Arc::default(),
        }
    }

    pub(crate) fn builder(&self) -> DbMutexBuilder {
        DbMutex::builder(self.clone()).ttl(Duration::from_secs(60)).clock(self.clock.clone())
    }

    pub(crate) async fn is_taken(&self, id: &str) -> bool {
        self.memory.find(&LockId::new(id).unwrap()).await.unwrap().is_some_and(|row| row.is_taken())
    }

    /// What befalls the requests of a call, one after the other, and how many answers it returns.
    async fn suffer(&self, kind: Kind, ids: Vec<LockId>) -> (Vec<Result<(), StoreError>>, usize) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.latency).await;
        let mut suffered = Vec::with_capacity(ids.len());
        let mut answers = ids.len();
        for id in ids {
            let fail = |kind| Err(StoreError::new(kind, "the store is in trouble"));
            suffered.push(match (self.trouble)(kind, id.as_str()) {
                Trouble::None => Ok(()),
                Trouble::Busy => fail(StoreErrorKind::Busy),
                Trouble::Away => fail(StoreErrorKind::Unavailable),
                Trouble::ReadOnly => fail(StoreErrorKind::ReadOnly),
                Trouble::Hangs => pending().await,
                Trouble::TimesOut => {
                    tokio::time::sleep(self.limits.call - self.latency).await;
                    fail(StoreErrorKind::Unavailable)
                }
                Trouble::Panics => panic!("the store panics, as this test wants it"),
                Trouble::IsShort => {
                    answers -= 1;
                    Ok(())
                }
            });
        }
        (suffered, answers)
    }

    async fn suffer_alone(&self, kind: Kind, id: &LockId) -> Result<(), StoreError> {
        let (suffered, answers) = self.suffer(kind, vec![id.clone()]).await;
        let none = || Err(StoreError::new(StoreErrorKind::Other, "the store returned nothing"));
        suffered.into_iter().take(answers).next().unwrap_or_else(none)
    }
}

impl fmt::Debug for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Troubled").finish_non_exhaustive()
    }
}

/// A method for many requests, each of which is done alone unless something befalls it.
macro_rules! many {
    ($self:ident, $requests:ident, $kind:expr, $one:ident) => {{
        let ids = $requests.iter().map(|request| request.lock_id.clone()).collect();
        let (suffered, count) = $self.suffer($kind, ids).await;
        let mut answers = Vec::with_capacity(count);
        for (request, suffered) in $requests.iter().zip(suffered).take(count) {
            answers.push(match suffered {
                Ok(()) => $self.memory.$one(request).await,
                Err(error) => Err(error),
            });
        }
        answers
    }};
}

#[async_trait]
impl LockStore for Troubled {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        self.suffer_alone(Kind::Insert, &request.lock_id).await?;
        self.memory.insert_if_absent(request).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.suffer_alone(Kind::Delete, &request.lock_id).await?;
        self.memory.delete(request).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.suffer_alone(Kind::Renew, &request.lock_id).await?;
        self.memory.renew(request).await
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
        many!(self, requests, Kind::Insert, insert_if_absent)
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        many!(self, requests, Kind::Delete, delete)
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        many!(self, requests, Kind::Renew, renew)
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.memory.purge_expired(older_than).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.suffer_alone(Kind::Find, id).await?;
        self.memory.find(id).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        self.memory.list(filter).await
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
