use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use db_mutex_core::store::{
    DeleteRequest, Deleted, Fence, InsertRequest, Inserted, Lease, ListFilter, LockId, LockRow, LockStore, MemoryStore,
    OwnerToken, RenewRequest, Renewed, StoreError, StoreErrorKind, StoreTime, async_trait,
};

use crate::fault::Fault;
use crate::{deleting, ids, inserting, purging, reading, renewing};

/// A memory store with one fault. Clones are handles on one database.
#[derive(Debug, Clone)]
pub(crate) struct Saboteur {
    pub(crate) fault: Fault,
    pub(crate) inner: MemoryStore,
    memory: Arc<Mutex<Memory>>,
}

/// What the faults need to know and the store does not tell.
#[derive(Debug, Default)]
struct Memory {
    /// Whom each id was granted last.
    owners: BTreeMap<LockId, OwnerToken>,
    /// What is taken off the tokens of an id, so that they seem to start again.
    restarts: BTreeMap<LockId, i64>,
    /// How many are in the middle of a write.
    writing: u32,
}

impl Saboteur {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, inner: MemoryStore::new(), memory: Arc::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn remember_owner(&self, id: &LockId, owner: OwnerToken) {
        self.memory().owners.insert(id.clone(), owner);
    }

    pub(crate) fn last_owner(&self, id: &LockId) -> Option<OwnerToken> {
        self.memory().owners.get(id).copied()
    }

    /// From now on the tokens of `id` seem to start at 1, when `fault` is the saboteur's.
    pub(crate) fn restart_fence_if(&self, fault: Fault, id: &LockId, fence: Fence) {
        if self.fault == fault {
            self.memory().restarts.insert(id.clone(), fence.get());
        }
    }

    pub(crate) fn shown_fence(&self, id: &LockId, fence: Fence) -> Fence {
        let restart = self.memory().restarts.get(id).copied().unwrap_or(0);
        let shown = fence.get() - restart;
        Fence::new(match self.fault {
            Fault::FenceIsNegative => shown - i64::MAX,
            // A double has 53 bits.
            Fault::FenceIsADouble if shown > 1 << 53 => shown & !0x3ff,
            _ => shown,
        })
    }

    fn shown_lease(&self, id: &LockId, mut lease: Lease) -> Lease {
        lease.fence = self.shown_fence(id, lease.fence);
        lease
    }

    /// Ends the acquisition of an id without a trace, regardless of its owner.
    pub(crate) fn end(&self, id: &LockId) {
        self.inner.change_row(id, |row| {
            (row.owner, row.released_by, row.expires_at) = (None, None, StoreTime::ZERO);
            row.released_at = Some(row.acquired_at);
        });
    }

    pub(crate) fn is_writing(&self, begins: bool) {
        let writing = &mut self.memory().writing;
        *writing = if begins { *writing + 1 } else { *writing - 1 };
    }

    pub(crate) fn writes(&self) -> bool {
        self.memory().writing > 0
    }

    pub(crate) async fn row(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.inner.find(id).await
    }
}

#[async_trait]
impl LockStore for Saboteur {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let mut request = request.clone();
        request.lock_id = ids::stored(self.fault, &request.lock_id);
        Ok(match inserting::insert(self, &request).await? {
            Inserted::Granted(lease) => {
                self.remember_owner(&request.lock_id, request.owner);
                Inserted::Granted(self.shown_lease(&request.lock_id, lease))
            }
            Inserted::Held(mut holder) => {
                holder.fence = self.shown_fence(&request.lock_id, holder.fence);
                Inserted::Held(holder)
            }
            other => other,
        })
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let mut request = request.clone();
        request.lock_id = ids::stored(self.fault, &request.lock_id);
        deleting::delete(self, &request).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let mut request = request.clone();
        request.lock_id = ids::stored(self.fault, &request.lock_id);
        Ok(match renewing::renew(self, &request).await? {
            Renewed::Renewed(lease) => Renewed::Renewed(self.shown_lease(&request.lock_id, lease)),
            other => other,
        })
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        purging::purge(self, older_than).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        reading::find(self, &ids::stored(self.fault, id)).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        reading::list(self, filter).await
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
        if let Err(error) = self.bounded(requests.len()) {
            return error.for_all(requests.len().max(1));
        }
        let mut answers = Vec::new();
        for request in requests {
            let mut request = request.clone();
            if self.fault == Fault::ManyShareTheFirstTtl {
                request.ttl = requests[0].ttl;
            }
            answers.push(self.insert_if_absent(&request).await);
        }
        self.ordered(answers)
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        if let Err(error) = self.bounded(requests.len()) {
            return error.for_all(requests.len().max(1));
        }
        let mut answers = Vec::new();
        for request in requests {
            let mut request = request.clone();
            if self.fault == Fault::ManyShareTheFirstRest {
                request.hold_at_least = requests[0].hold_at_least;
            }
            answers.push(self.delete(&request).await);
        }
        self.ordered(answers)
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        if let Err(error) = self.bounded(requests.len()) {
            return error.for_all(requests.len().max(1));
        }
        let mut answers = Vec::new();
        for request in requests {
            answers.push(self.renew(request).await);
        }
        self.ordered(answers)
    }

    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        match self.fault {
            Fault::WaitingReturnsAtOnce => return Ok(()),
            Fault::WaitingBlocksItsThread => std::thread::sleep(at_most),
            _ => {}
        }
        let at_most = if self.fault == Fault::WaitingNeverEnds { Duration::MAX } else { at_most };
        self.inner.wait_for_release(id, at_most).await
    }
}

impl Saboteur {
    fn bounded(&self, requests: usize) -> Result<(), StoreError> {
        if self.fault == Fault::ManyAreAtMostAHundred && requests > 100 {
            return Err(StoreError::new(StoreErrorKind::Other, "too many parameters in one statement"));
        }
        if self.fault == Fault::ManyOfNothingIsAnError && requests == 0 {
            return Err(StoreError::new(StoreErrorKind::Other, "syntax error at the end of the statement"));
        }
        Ok(())
    }

    fn ordered<T>(&self, mut answers: Vec<Result<T, StoreError>>) -> Vec<Result<T, StoreError>> {
        if self.fault == Fault::ManyAnswerInAnotherOrder {
            answers.reverse();
        }
        let failure = answers.iter().find_map(|answer| answer.as_ref().err().cloned());
        match failure {
            Some(error) if self.fault == Fault::BatchFailsAsAWhole => error.for_all(answers.len()),
            _ => answers,
        }
    }

    /// The answer of the memory store; with the fault, what met a locked row has waited for it.
    pub(crate) async fn after_waiting<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if answer.is_err() && self.fault == Fault::LockedRowsAreWaitedFor {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        answer
    }
}
