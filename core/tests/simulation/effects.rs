use std::pin::pin;
use std::task::{Context, Poll, Waker};

use db_mutex_core::admin::LockRow;
use db_mutex_core::store::{
    DeleteBy, DeleteRequest, Deleted, InsertRequest, Inserted, LockStore, RenewRequest, Renewed,
};
use db_mutex_core::{LockId, StoreError};

use crate::checks::operation_of;
use crate::world::World;

/// What a request does once it has reached the store.
pub(crate) trait Effect: Clone + Send + Sync + 'static {
    type Answer: Clone + Send + Sync + 'static;

    const NAME: &'static str;

    fn id(&self) -> &LockId;

    /// Does what is asked, now.
    fn take(&self, world: &World, process: usize) -> Result<Self::Answer, StoreError>;

    /// Whether the store may do it once more after it has returned `answer`.
    fn may_repeat(&self, _answer: &Self::Answer, _world: &World) -> bool {
        true
    }
}

impl Effect for InsertRequest {
    type Answer = Inserted;

    const NAME: &'static str = "insert";

    fn id(&self) -> &LockId {
        &self.lock_id
    }

    fn take(&self, world: &World, process: usize) -> Result<Inserted, StoreError> {
        world.insert(process, self)
    }

    /// The engine settles inserts whose outcome it does not know. Those that were answered it takes for finished: a store
    /// that repeats a request has to make sure that the attempt before has ended. A repeat that does not make a new lease is
    /// harmless, and does happen.
    fn may_repeat(&self, answer: &Inserted, world: &World) -> bool {
        let now = world.store_now();
        let state = world.state();
        let id = self.lock_id.as_str();
        let is_held = matches!(answer, Inserted::Granted(_)) && !state.deleted.contains_key(&self.owner);
        is_held && state.ledger.holds(id, self.owner, now) || state.ledger.refuses(id, self.owner, now)
    }
}

impl Effect for DeleteRequest {
    type Answer = Deleted;

    const NAME: &'static str = "delete";

    fn id(&self) -> &LockId {
        &self.lock_id
    }

    fn take(&self, world: &World, process: usize) -> Result<Deleted, StoreError> {
        world.delete(process, self)
    }
}

impl Effect for RenewRequest {
    type Answer = Renewed;

    const NAME: &'static str = "renew";

    fn id(&self) -> &LockId {
        &self.lock_id
    }

    fn take(&self, world: &World, process: usize) -> Result<Renewed, StoreError> {
        world.renew(process, self)
    }
}

/// A question for the row.
impl Effect for LockId {
    type Answer = Option<LockRow>;

    const NAME: &'static str = "find";

    fn id(&self) -> &LockId {
        self
    }

    fn take(&self, world: &World, _process: usize) -> Result<Option<LockRow>, StoreError> {
        Ok(world.find(self))
    }
}

impl World {
    fn insert(&self, process: usize, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let now = self.store_now();
        let id = request.lock_id.as_str();
        let answer = at_once(self.memory.insert_if_absent(request));
        match &answer {
            Ok(Inserted::Granted(lease)) => {
                self.trace(format_args!("p{process} {id} granted to {}, fence {}", request.holder, lease.fence));
                let noted = {
                    let state = &mut *self.state();
                    // A waiter that was granted the lock no longer waits.
                    state.waiters.retain(|waiter| Some(waiter.operation) != operation_of(request));
                    state.ledger.granted(id, request.owner, *lease, now)
                };
                match noted {
                    Ok(()) => self.check_no_one_else_believes(id, request.owner),
                    Err(what) => self.violated(format_args!("{what}")),
                }
            }
            Ok(Inserted::Held(holder)) => {
                self.trace(format_args!("p{process} {id} refused to {}, held by {holder}", request.holder));
            }
            other => self.trace(format_args!("p{process} {id} refused to {}: {other:?}", request.holder)),
        }
        answer
    }

    fn renew(&self, process: usize, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let now = self.store_now();
        let id = request.lock_id.as_str();
        let answer = at_once(self.memory.renew(request));
        self.trace(format_args!("p{process} {id} renew for {}: {answer:?}", request.ttl));
        if let Ok(answer) = &answer
            && let Err(what) = { self.state().ledger.renewed(id, request.owner, answer, now) }
        {
            self.violated(format_args!("{what}"));
        }
        answer
    }

    pub(crate) fn delete(&self, process: usize, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.store_now();
        let id = request.lock_id.as_str();
        let answer = at_once(self.memory.delete(request));
        self.trace(format_args!("p{process} {id} delete: {answer:?}"));
        let arrived = self.now();
        let state = &mut *self.state();
        if let DeleteBy::Owner(owner) = request.by {
            state.deleted.entry(owner).or_insert(arrived);
        }
        if matches!(answer, Ok(Deleted::Released)) {
            match request.by {
                DeleteBy::Owner(_) => state.ledger.released(id),
                DeleteBy::Fence(_) => state.ledger.forced(id),
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

/// The memory store answers without waiting.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the memory store waits for nothing"),
    }
}
