use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{
    DeleteBy, DeleteRequest, Deleted, InsertRequest, Inserted, LockStore, RenewRequest, Renewed, async_trait,
};
use db_mutex_core::{LockId, StoreError, StoreErrorKind};

use crate::checks::operation_of;
use crate::weather::{Fault, Weather};
use crate::world::World;

/// The way of one process to the store.
#[derive(Debug, Clone)]
pub(crate) struct ProcessStore {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
}

/// A request under way. If it is dropped before it was done, it is done all the same or not at all, as chance wills.
struct Request<T, F: FnOnce() -> T> {
    world: Arc<World>,
    process: usize,
    effect: Option<F>,
    done_if_dropped: bool,
    troubled: bool,
}

impl<T, F: FnOnce() -> T> Request<T, F> {
    fn take_effect(&mut self) -> Result<T, StoreError> {
        self.effect.take().map(|effect| effect()).ok_or_else(broken)
    }
}

impl<T, F: FnOnce() -> T> Drop for Request<T, F> {
    fn drop(&mut self) {
        if self.world.state().over {
            return;
        }
        if self.troubled {
            self.world.trouble(self.process);
        }
        if let Some(effect) = self.effect.take()
            && self.done_if_dropped
        {
            effect();
        }
    }
}

impl ProcessStore {
    async fn suffer<T: Send>(&self, what: &str, effect: impl FnOnce() -> T + Send) -> Result<T, StoreError> {
        self.world.gate(self.process).await;
        let now = self.world.now();
        let (fault, way, way_back, done_if_dropped) = {
            let state = &mut *self.world.state();
            let fault = state.weather.next_fault(now, &mut state.random);
            let random = &mut state.random;
            (fault, random.millis(0, 2), random.millis(0, 2), random.chance(50))
        };
        let troubled = fault != Fault::None;
        if troubled {
            self.world.trace(format_args!("p{} {what}: {fault:?}", self.process));
            self.world.trouble(self.process);
        }
        let mut request = Request {
            world: Arc::clone(&self.world),
            process: self.process,
            effect: Some(effect),
            done_if_dropped,
            troubled,
        };
        sleep(way).await;
        let answer = match fault {
            Fault::None => request.take_effect(),
            Fault::Fails => {
                request.effect = None;
                Err(broken())
            }
            Fault::ReplyLost => request.take_effect().and(Err(broken())),
            Fault::Slow(by) => {
                sleep(by).await;
                request.take_effect()
            }
            Fault::ReplyLate(by) => {
                let answer = request.take_effect();
                sleep(by).await;
                answer
            }
            Fault::Hangs { done } => {
                let effect = request.effect.take();
                if done {
                    effect.map(|effect| effect());
                }
                sleep(Weather::STATEMENT_LIMIT).await;
                Err(broken())
            }
        };
        sleep(way_back).await;
        self.world.gate(self.process).await;
        answer
    }
}

#[async_trait]
impl LockStore for ProcessStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        self.world.check_line(self.process, request);
        let operation = operation_of(request);
        let now = self.world.now();
        self.world.state().asking.extend(operation.map(|operation| (operation, now)));
        let answer = self.suffer("insert", || self.world.insert(self.process, request)).await;
        // A question that took long has lost its operation its place.
        if self.world.now() - now < Duration::from_secs(1) {
            operation.and_then(|operation| self.world.state().asking.remove(&operation));
        }
        answer
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.suffer("delete", || self.world.delete(self.process, request)).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.suffer("renew", || self.world.renew(self.process, request)).await
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        let renew_all = || requests.iter().map(|request| Ok(self.world.renew(self.process, request))).collect();
        self.suffer("renew_many", renew_all).await.unwrap_or_else(|error| error.for_all(requests.len()))
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.world.store_now();
        self.world.memory.purge_expired(older_than).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.suffer("find", || self.world.find(id)).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        self.world.store_now();
        self.world.memory.list(filter).await
    }

    /// A hint: sometimes too early, sometimes not to be had.
    async fn wait_for_release(&self, _id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        match self.world.draw(|random| random.below(20)) {
            0 => return Err(broken()),
            1 => sleep(at_most / 4).await,
            _ => sleep(at_most).await,
        }
        Ok(())
    }
}

/// What the store does once a request has reached it.
impl World {
    fn insert(&self, process: usize, request: &InsertRequest) -> Inserted {
        let now = self.store_now();
        let id = request.lock_id.as_str();
        let answer = at_once(self.memory.insert_if_absent(request)).unwrap();
        match &answer {
            Inserted::Granted(lease) => {
                self.trace(format_args!("p{process} {id} granted to {}, fence {}", request.holder, lease.fence));
                let noted = {
                    let state = &mut *self.state();
                    // Whoever is granted the lock no longer waits.
                    state.waiters.retain(|waiter| Some(waiter.operation) != operation_of(request));
                    state.ledger.granted(id, request.owner, *lease, now)
                };
                match noted {
                    Ok(()) => self.check_nobody_else_believes(id, request.owner),
                    Err(what) => self.violated(format_args!("{what}")),
                }
            }
            Inserted::Held(holder) => {
                self.trace(format_args!("p{process} {id} refused to {}, held by {holder}", request.holder));
            }
            other => self.trace(format_args!("p{process} {id} refused to {}: {other:?}", request.holder)),
        }
        answer
    }

    fn renew(&self, process: usize, request: &RenewRequest) -> Renewed {
        let now = self.store_now();
        let id = request.lock_id.as_str();
        let answer = at_once(self.memory.renew(request)).unwrap();
        self.trace(format_args!("p{process} {id} renew for {}: {answer:?}", request.ttl));
        let noted = self.state().ledger.renewed(id, request.owner, &answer, now);
        if let Err(what) = noted {
            self.violated(format_args!("{what}"));
        }
        answer
    }

    pub(crate) fn delete(&self, process: usize, request: &DeleteRequest) -> Deleted {
        self.store_now();
        let id = request.lock_id.as_str();
        let answer = at_once(self.memory.delete(request)).unwrap();
        self.trace(format_args!("p{process} {id} delete: {answer:?}"));
        if answer == Deleted::Released {
            let ledger = &mut self.state().ledger;
            match request.by {
                DeleteBy::Owner(_) => ledger.released(id),
                DeleteBy::Fence(_) => ledger.forced(id),
                by => unreachable!("nothing deletes by {by:?}"),
            }
        }
        answer
    }

    pub(crate) fn find(&self, id: &LockId) -> Option<LockRow> {
        self.store_now();
        at_once(self.memory.find(id)).unwrap()
    }
}

fn broken() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the connection broke")
}

async fn sleep(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// The memory store answers without waiting.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the memory store waits for nothing"),
    }
}
