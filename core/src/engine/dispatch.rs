//! Sends requests to the store: alone while nothing is under way, else many at once.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::runtime::{Driver, Time};
use crate::store::Limits;
use crate::values::ClientTime;
use crate::{
    Clock, DeleteRequest, Deleted, InsertRequest, Inserted, LockId, LockStore, RenewRequest, Renewed, StoreError,
    StoreErrorKind,
};

/// How long requests gather behind calls that are under way before they leave all the same.
const GATHERING: Duration = Duration::from_millis(5);

/// A queue of requests and the calls that serve it. Clones share it.
///
/// A request outlives its caller: dropping an [`Asked`] takes only the wait away. A request that finds no call under way
/// leaves at once, as a single call. While calls are under way, requests gather, and leave together when they are enough
/// for their share of the places, or have waited for 5 ms. Renewals go before releases, and these before acquisitions; one
/// place is kept for renewals where there are several.
#[derive(Debug, Clone)]
pub(crate) struct Dispatch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn LockStore>,
    clock: Arc<dyn Clock>,
    time: Time,
    driver: Driver,
    /// How many calls may be under way, and how many of these only renewals.
    places: usize,
    reserved: usize,
    /// The most requests in a call, and the longest that it keeps its place.
    limits: Limits,
    /// Goes on with what this one cannot finish because its runtime has ended.
    successor: Option<Dispatch>,
    queues: Mutex<Queues>,
}

/// The requests that have not left, and what is under way.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    renewals: VecDeque<Job<RenewRequest>>,
    releases: VecDeque<Job<DeleteRequest>>,
    acquisitions: VecDeque<Job<InsertRequest>>,
    /// The calls that have a place, and the requests in them.
    calls: usize,
    requests: usize,
    /// The calls that took longer than their limit, and have given their place back.
    strays: usize,
    /// Whether a task waits for the end of the gathering.
    gathering: bool,
}

/// A request, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Job<K: Kind> {
    request: K,
    /// How long its call keeps a place.
    limit: Duration,
    reply: oneshot::Sender<Answered<K::Answer>>,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answered<A> {
    pub(crate) result: Result<A, StoreError>,
    /// When the request was sent to the store, or a little earlier.
    pub(crate) sent: ClientTime,
}

/// A request under way. Dropping it does not stop the request.
#[derive(Debug)]
pub(crate) struct Asked<A>(oneshot::Receiver<Answered<A>>);

impl<A> Asked<A> {
    /// A request that was not sent.
    pub(crate) fn failed(error: StoreError, now: ClientTime) -> Self {
        let (reply, asked) = oneshot::channel();
        let _ = reply.send(Answered { result: Err(error), sent: now });
        Self(asked)
    }

    /// Waits for the answer.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the answer can still be waited for.
    pub(crate) async fn answer(&mut self) -> Answered<A> {
        (&mut self.0).await.unwrap_or_else(|_| Answered { result: Err(not_ended()), sent: ClientTime::ZERO })
    }
}

fn not_ended() -> StoreError {
    let message = "the request did not end: its runtime has ended, or the store has panicked";
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// A kind of request, which can be sent alone or with others.
pub(crate) trait Kind: fmt::Debug + Sized + Send + Sync + 'static {
    type Answer: fmt::Debug + Send + 'static;

    fn lock_id(&self) -> &LockId;
    fn queue(queues: &mut Queues) -> &mut VecDeque<Job<Self>>;
    fn one(&self, store: &dyn LockStore) -> impl Future<Output = Result<Self::Answer, StoreError>> + Send;
    fn many(all: &[Self], store: &dyn LockStore) -> impl Future<Output = Vec<Result<Self::Answer, StoreError>>> + Send;
}

macro_rules! kind {
    ($request:ty, $answer:ty, $queue:ident, $one:ident, $many:ident) => {
        impl Kind for $request {
            type Answer = $answer;

            fn lock_id(&self) -> &LockId {
                &self.lock_id
            }

            fn queue(queues: &mut Queues) -> &mut VecDeque<Job<Self>> {
                &mut queues.$queue
            }

            async fn one(&self, store: &dyn LockStore) -> Result<$answer, StoreError> {
                store.$one(self).await
            }

            async fn many(all: &[Self], store: &dyn LockStore) -> Vec<Result<$answer, StoreError>> {
                store.$many(all).await
            }
        }
    };
}

kind!(RenewRequest, Renewed, renewals, renew, renew_many);
kind!(DeleteRequest, Deleted, releases, delete, delete_many);
kind!(InsertRequest, Inserted, acquisitions, insert_if_absent, insert_many);

/// How a [`Dispatch`] is set up.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) store: Arc<dyn LockStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: Time,
    pub(crate) limits: Limits,
}

impl Dispatch {
    /// A dispatch with `places` calls at a time, of which `reserved` are for renewals alone.
    pub(crate) fn new(
        setup: Setup,
        driver: Driver,
        places: usize,
        reserved: usize,
        successor: Option<Dispatch>,
    ) -> Self {
        let Setup { store, clock, time, limits } = setup;
        let queues = Mutex::default();
        Self(Arc::new(Shared { store, clock, time, driver, places, reserved, limits, successor, queues }))
    }

    /// Whether the caller runs where the calls do.
    pub(crate) fn is_here(&self) -> bool {
        self.0.driver.is_here()
    }

    /// Sends a request.
    pub(crate) fn ask<K: Kind>(&self, request: K) -> Asked<K::Answer> {
        let (reply, asked) = oneshot::channel();
        self.put(vec![Job { request, limit: self.0.limits.call, reply }]);
        Asked(asked)
    }

    /// Sends requests together. If a call takes longer than `limit`, it gives its place back and goes on beside the others.
    pub(crate) fn ask_all<K: Kind>(&self, requests: Vec<K>, limit: Duration) -> Vec<Asked<K::Answer>> {
        let jobs = requests.into_iter().map(|request| {
            let (reply, asked) = oneshot::channel();
            (Job { request, limit, reply }, Asked(asked))
        });
        let (jobs, asked) = jobs.unzip();
        self.put(jobs);
        asked
    }

    /// Runs a call of another kind, which needs no place, to its end.
    pub(crate) async fn call<T, Calling>(
        &self,
        call: impl FnOnce(Arc<dyn LockStore>) -> Calling,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Calling: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let calling = call(Arc::clone(&self.0.store));
        self.0.driver.spawn(async move {
            let _ = reply.send(calling.await);
        });
        answer.await.unwrap_or_else(|_| Err(not_ended()))
    }

    /// Waits for a release that the store learns of, at most for `at_most`.
    pub(crate) async fn wait_for_release(&self, lock_id: &LockId, at_most: Duration) {
        if self.0.store.wait_for_release(lock_id, at_most).await.is_err() {
            self.0.time.sleep(at_most).await;
        }
    }

    fn put<K: Kind>(&self, jobs: Vec<Job<K>>) {
        let mut queues = self.0.queues();
        if queues.strays >= 2 * self.0.places {
            drop(queues);
            let message = format!("{} calls of the store have not returned in time", 2 * self.0.places);
            let error = StoreError::new(StoreErrorKind::Unavailable, message);
            return jobs.into_iter().for_each(|job| job.answer(Err(error.clone()), self.0.clock.now()));
        }
        K::queue(&mut queues).extend(jobs);
        drop(queues);
        self.pump(false);
    }

    /// Sends what may leave now.
    fn pump(&self, gathered: bool) {
        loop {
            let mut queues = self.0.queues();
            let batch = self.0.next_batch(&mut queues, gathered);
            let gather = batch.is_none() && queues.waiting() > 0 && !queues.gathering && queues.calls < self.0.places;
            queues.gathering |= gather;
            drop(queues);
            match batch {
                Some(Batch::Renewals(jobs)) => self.send(jobs),
                Some(Batch::Releases(jobs)) => self.send(jobs),
                Some(Batch::Acquisitions(jobs)) => self.send(jobs),
                None if gather => return self.gather(),
                None => return,
            }
        }
    }

    /// Sends what is left after a while, however few they are.
    fn gather(&self) {
        let dispatch = self.clone();
        self.0.driver.spawn(async move {
            dispatch.0.time.sleep(GATHERING).await;
            dispatch.0.queues().gathering = false;
            dispatch.pump(true);
        });
    }

    fn send<K: Kind>(&self, jobs: Vec<Job<K>>) {
        let limit = jobs.iter().map(|job| job.limit).min().unwrap_or_default();
        let place = Place { dispatch: self.clone(), requests: jobs.len(), is_stray: false };
        let (requests, replies) = jobs.into_iter().map(|job| (job.request, (job.limit, job.reply))).unzip();
        let flight = Flight { dispatch: self.clone(), sent: self.0.clock.now(), requests, replies };
        self.0.driver.spawn(flight.fly(place, limit));
    }
}

enum Batch {
    Renewals(Vec<Job<RenewRequest>>),
    Releases(Vec<Job<DeleteRequest>>),
    Acquisitions(Vec<Job<InsertRequest>>),
}

impl Shared {
    /// Takes the requests that leave together now, and gives them a place.
    fn next_batch(&self, queues: &mut Queues, gathered: bool) -> Option<Batch> {
        if queues.calls >= self.places {
            return None;
        }
        let most = self.limits.batch;
        let batch = if !queues.renewals.is_empty() {
            Batch::Renewals(take(&mut queues.renewals, most))
        } else if queues.calls + self.reserved >= self.places || !(gathered || self.are_enough(queues)) {
            return None;
        } else if !queues.releases.is_empty() {
            Batch::Releases(take(&mut queues.releases, most))
        } else if !queues.acquisitions.is_empty() {
            Batch::Acquisitions(take(&mut queues.acquisitions, most))
        } else {
            return None;
        };
        queues.calls += 1;
        queues.requests += match &batch {
            Batch::Renewals(jobs) => jobs.len(),
            Batch::Releases(jobs) => jobs.len(),
            Batch::Acquisitions(jobs) => jobs.len(),
        };
        Some(batch)
    }

    /// Whether the requests that wait need not gather any longer: in a steady flow all places then have an equal share.
    fn are_enough(&self, queues: &Queues) -> bool {
        self.limits.batch == 1 || queues.calls == 0 || queues.waiting() * (self.places - 1).max(1) >= queues.requests
    }

    /// Nothing that can panic runs under this mutex.
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn waiting(&self) -> usize {
        self.renewals.len() + self.releases.len() + self.acquisitions.len()
    }
}

/// Takes at most `most` requests that have the same limit and ids that differ.
fn take<K: Kind>(queue: &mut VecDeque<Job<K>>, most: usize) -> Vec<Job<K>> {
    let limit = queue.front().map(|job| job.limit);
    let mut ids = HashSet::new();
    let together = queue
        .iter()
        .take(most)
        .take_while(|job| Some(job.limit) == limit && (most == 1 || ids.insert(job.request.lock_id())));
    let count = together.count();
    queue.drain(..count).collect()
}

impl<K: Kind> Job<K> {
    fn answer(self, result: Result<K::Answer, StoreError>, sent: ClientTime) {
        let _ = self.reply.send(Answered { result, sent });
    }
}

/// A call under way. What it does not answer because its runtime has ended goes to the successor: requests may be repeated.
#[derive(Debug)]
struct Flight<K: Kind> {
    dispatch: Dispatch,
    sent: ClientTime,
    requests: Vec<K>,
    replies: Vec<(Duration, oneshot::Sender<Answered<K::Answer>>)>,
}

impl<K: Kind> Flight<K> {
    async fn fly(mut self, mut place: Place, limit: Duration) {
        let shared = Arc::clone(&self.dispatch.0);
        let answers = {
            let call = async {
                match &self.requests[..] {
                    [one] => vec![one.one(&*shared.store).await],
                    many => K::many(many, &*shared.store).await,
                }
            };
            let mut call = std::pin::pin!(call);
            match shared.time.within(limit, &mut call).await {
                Some(answers) => answers,
                None => {
                    place.give_back();
                    call.await
                }
            }
        };
        // First of all, so that the next request of a caller that is answered finds it free.
        drop(place);
        self.land(answers);
    }

    fn land(&mut self, answers: Vec<Result<K::Answer, StoreError>>) {
        let (asked, answered) = (self.requests.len(), answers.len());
        let answers = if asked == answered {
            answers
        } else {
            let message = format!("the store returned {answered} answers to {asked} requests");
            StoreError::new(StoreErrorKind::Other, message).for_all(asked)
        };
        for (job, answer) in self.open().into_iter().zip(answers) {
            job.answer(answer, self.sent);
        }
    }

    /// Takes the requests, which have not been answered.
    fn open(&mut self) -> Vec<Job<K>> {
        let open = self.requests.drain(..).zip(self.replies.drain(..));
        open.map(|(request, (limit, reply))| Job { request, limit, reply }).collect()
    }
}

impl<K: Kind> Drop for Flight<K> {
    fn drop(&mut self) {
        let open = self.open();
        if std::thread::panicking() {
            for job in open {
                job.answer(Err(StoreError::new(StoreErrorKind::Other, "the store has panicked")), self.sent);
            }
        } else if let Some(successor) = &self.dispatch.0.successor
            && !open.is_empty()
        {
            successor.put(open);
        }
    }
}

/// The place of a call.
#[derive(Debug)]
struct Place {
    dispatch: Dispatch,
    requests: usize,
    is_stray: bool,
}

impl Place {
    /// Gives the place back before the call has ended.
    fn give_back(&mut self) {
        let mut queues = self.dispatch.0.queues();
        queues.calls -= 1;
        queues.requests -= self.requests;
        queues.strays += 1;
        drop(queues);
        self.is_stray = true;
        self.dispatch.pump(false);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_stray {
            self.give_back();
        }
        self.dispatch.0.queues().strays -= 1;
    }
}
