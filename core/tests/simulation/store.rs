use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, LockStore, RenewRequest, Renewed, async_trait,
};
use db_mutex_core::{LockId, StoreError, StoreErrorKind};

use crate::checks::operation_of;
use crate::effects::Effect;
use crate::faults::{Fault, Single};
use crate::quiet::{QUIET, check_renewal};
use crate::world::World;

/// The way of one process to the store.
#[derive(Debug, Clone)]
pub(crate) struct ProcessStore {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
    pub(crate) limits: Limits,
    /// Whether it returns by the limit of a call, as a store should.
    pub(crate) keeps_limit: bool,
}

impl ProcessStore {
    /// Sends one call, which suffers what its fault is.
    async fn send<E: Effect>(&self, requests: &[E]) -> Vec<Result<E::Answer, StoreError>> {
        let world = &self.world;
        world.gate(self.process).await;
        let (now, call) = (world.now(), self.limits.call);
        let is_quiet = requests.iter().any(|request| request.id().as_str() == QUIET);
        let (fault, way, way_back) = {
            let state = &mut *world.state();
            let fault = state.faults.next_fault(now, call, &mut state.random);
            (if is_quiet { Fault::None } else { fault }, state.random.millis(0, 2), state.random.millis(0, 2))
        };
        if fault != Fault::None {
            world.trace(format_args!("p{} {}: {fault:?}", self.process, E::NAME));
        }
        let trouble = (fault != Fault::None).then(|| world.begin_trouble(self.process));
        let fault = if self.keeps_limit { fault.within(call) } else { fault };
        let until = now + call;
        let fail = || broken().for_all(requests.len());
        let on_the_way = OnTheWay { store: self, requests, has_arrived: false };
        sleep(way).await;
        if let Fault::Slow(by) = fault {
            sleep(by).await;
        }
        on_the_way.arrives();
        let answers = match fault {
            Fault::None | Fault::Slow(_) => self.effects(requests, until),
            Fault::Fails => fail(),
            Fault::ReplyLost => {
                self.effects(requests, until);
                fail()
            }
            Fault::ReplyLate(by) => {
                let answers = self.effects(requests, until);
                sleep(by).await;
                answers
            }
            Fault::Hangs { done, returns } => {
                if let Some(after) = done {
                    requests.iter().for_each(|request| self.later(request, after));
                }
                sleep(returns).await;
                fail()
            }
            Fault::Late(by, again) => {
                for request in requests {
                    self.later(request, by);
                    again.into_iter().for_each(|again| self.later(request, again));
                }
                fail()
            }
            Fault::Twice(by) => {
                let answers = self.effects(requests, until);
                for (request, answer) in requests.iter().zip(&answers) {
                    answer.iter().for_each(|answer| self.again(request, answer.clone(), by));
                }
                answers
            }
            Fault::Panics { done } => {
                if done {
                    self.effects(requests, until);
                }
                // Without a word from the panic hook.
                resume_unwind(Box::new("the store panics"));
            }
            Fault::TooFew => {
                let mut answers = self.effects(requests, until);
                // A single call has a single answer.
                let most = answers.len().saturating_sub(1).max(1);
                answers.truncate(most);
                answers
            }
        };
        sleep(way_back).await;
        drop(trouble);
        world.gate(self.process).await;
        answers
    }

    async fn send_one<E: Effect>(&self, request: &E) -> Result<E::Answer, StoreError> {
        self.send(std::slice::from_ref(request)).await.pop().unwrap_or_else(|| Err(broken()))
    }

    fn effects<E: Effect>(&self, requests: &[E], until: Duration) -> Vec<Result<E::Answer, StoreError>> {
        requests.iter().map(|request| self.effect(request, until)).collect()
    }

    /// One request of a call, which may fail alone.
    fn effect<E: Effect>(&self, request: &E, until: Duration) -> Result<E::Answer, StoreError> {
        let world = &self.world;
        let now = world.now();
        let single = {
            let state = &mut *world.state();
            let single = state.faults.next_single(now, until.saturating_sub(now), &mut state.random);
            if request.id().as_str() == QUIET { Single::None } else { single }
        };
        if single != Single::None {
            world.trace(format_args!("p{} {} of {}: {single:?}", self.process, E::NAME, request.id()));
            world.trouble(self.process);
        }
        match single {
            Single::None => request.take(world, self.process),
            Single::Busy => Err(StoreError::new(StoreErrorKind::Busy, "the row is locked")),
            Single::Fails => Err(broken()),
            Single::ReplyLost => request.take(world, self.process).and(Err(broken())),
            Single::Late(by) => {
                self.later(request, by);
                Err(broken())
            }
        }
    }

    /// The statement goes on in the server, even if its connection breaks.
    fn later<E: Effect>(&self, request: &E, after: Duration) {
        let (store, request) = (self.clone(), request.clone());
        drop(tokio::spawn(async move {
            sleep(after).await;
            if !store.world.state().over {
                store.world.trace(format_args!("p{} late {} of {}", store.process, E::NAME, request.id()));
                let _ = request.take(&store.world, store.process);
            }
        }));
    }

    /// A request that was answered is delivered once more.
    fn again<E: Effect>(&self, request: &E, answer: E::Answer, after: Duration) {
        let (store, request) = (self.clone(), request.clone());
        drop(tokio::spawn(async move {
            sleep(after).await;
            let world = &store.world;
            if !world.state().over && request.may_repeat(&answer, world) {
                world.trace(format_args!("p{} {} of {} once more", store.process, E::NAME, request.id()));
                let _ = request.take(world, store.process);
            }
        }));
    }
}

/// Requests that have been sent. Dropped with their runtime, they may still arrive.
struct OnTheWay<'a, E: Effect> {
    store: &'a ProcessStore,
    requests: &'a [E],
    has_arrived: bool,
}

impl<E: Effect> OnTheWay<'_, E> {
    fn arrives(mut self) {
        self.has_arrived = true;
    }
}

impl<E: Effect> Drop for OnTheWay<'_, E> {
    fn drop(&mut self) {
        let world = &self.store.world;
        if self.has_arrived || world.state().over {
            return;
        }
        let call = u64::try_from(self.store.limits.call.as_millis()).unwrap();
        for request in self.requests {
            let arrives = request.id().as_str() != QUIET && world.draw(|random| random.chance(50));
            if arrives {
                self.store.later(request, world.draw(|random| random.millis(0, call - 5)));
            }
        }
    }
}

#[async_trait]
impl LockStore for ProcessStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        self.insert_many(std::slice::from_ref(request)).await.pop().unwrap_or_else(|| Err(broken()))
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
        let (now, sent) = (self.world.now(), self.world.next_event());
        for request in requests {
            self.world.check_line(self.process, request);
            let state = &mut *self.world.state();
            let Some(operation) = operation_of(request) else { continue };
            state.asked_by.entry(request.owner).or_insert(operation);
            let waiter = state.waiters.iter_mut().find(|waiter| waiter.operation == operation);
            let since = waiter.map_or(now, |waiter| waiter.asks(now));
            state.asking.entry(operation).or_insert(since);
        }
        let answers = self.send(requests).await;
        let now = self.world.now();
        let state = &mut *self.world.state();
        for (request, answer) in requests.iter().zip(&answers) {
            // A question that took long has lost its operation its place.
            if let Some(operation) = operation_of(request)
                && state.asking.get(&operation).is_some_and(|since| now - *since < Duration::from_secs(1))
            {
                state.asking.remove(&operation);
            }
            if let Ok(Inserted::Held(_)) = answer {
                let last = state.refusals.entry((self.process, request.lock_id.as_str().to_owned())).or_default();
                *last = sent.max(*last);
            }
        }
        answers
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.send_one(request).await
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        self.send(requests).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.renew_many(std::slice::from_ref(request)).await.pop().unwrap_or_else(|| Err(broken()))
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        if let Some(quiet) = requests.iter().find(|request| request.lock_id.as_str() == QUIET) {
            check_renewal(&self.world, self.process, quiet);
            let takes = self.world.state().faults.quiet_renewal;
            sleep(takes).await;
        }
        self.send(requests).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let now = self.world.store_now();
        let purged = self.world.memory.purge_expired(older_than).await;
        self.world.state().ledger.purged(now);
        purged
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.send_one(id).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        self.world.store_now();
        self.world.memory.list(filter).await
    }

    /// A hint: sometimes too early, sometimes missing.
    async fn wait_for_release(&self, _id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        match self.world.draw(|random| random.below(20)) {
            0 => return Err(broken()),
            1 => sleep(at_most / 4).await,
            _ => sleep(at_most).await,
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        self.limits
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
