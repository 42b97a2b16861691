//! Sends requests to the store: alone while nothing is under way, else many at once.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::pin::Pin;
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
/// place is kept for renewals where there are several. Of the renewals those that keep their place for the shortest time go
/// first.
///
/// A call that takes longer than its limit gives its place back and goes on beside the others; where too many do, new
/// requests fail at once. Renewals are excepted: one whose call hangs keeps its place for a second at most, so that it does
/// not delay another's for longer, and is not counted. Few can be under way, because a lease whose renewals hang is lost.
#[derive(Clone)]
pub(crate) struct Dispatch(Arc<Shared>);

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("driver", &self.0.driver)
            .field("places", &self.0.places)
            .finish_non_exhaustive()
    }
}

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
#[derive(Default)]
pub(crate) struct Queues {
    renewals: VecDeque<Job<RenewRequest>>,
    releases: VecDeque<Job<DeleteRequest>>,
    acquisitions: VecDeque<Job<InsertRequest>>,
    reads: VecDeque<Read>,
    /// The calls that have a place, and the requests in them.
    calls: usize,
    requests: usize,
    /// The calls, other than renewals, that took longer than their limit and have given their place back.
    strays: usize,
    /// Whether a task waits for the end of the gathering, and whether that has ended.
    gathering: bool,
    gathered: bool,
    /// Whether a thread is sending what may leave, and has to look once more.
    pumping: bool,
    pump_again: bool,
}

/// A call that changes no lock.
type Read = Pin<Box<dyn Future<Output = ()> + Send>>;

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

    /// Whether it is sent even if many calls hang: a lease that is not renewed is lost.
    const IS_RENEWAL: bool;
    /// How long its call keeps a place at most.
    const KEEPS_PLACE: Duration = if Self::IS_RENEWAL { Duration::from_secs(1) } else { Duration::MAX };
    /// Whether an answer still counts that comes after the limit of its call.
    const MAY_BE_LATE: bool;

    fn lock_id(&self) -> &LockId;
    fn queue(queues: &mut Queues) -> &mut VecDeque<Job<Self>>;
    fn one(&self, store: &dyn LockStore) -> impl Future<Output = Result<Self::Answer, StoreError>> + Send;
    fn many(all: &[Self], store: &dyn LockStore) -> impl Future<Output = Vec<Result<Self::Answer, StoreError>>> + Send;
}

macro_rules! kind {
    ($request:ty, $answer:ty, $queue:ident, $one:ident, $many:ident, $is_renewal:literal, $may_be_late:literal) => {
        impl Kind for $request {
            type Answer = $answer;

            const IS_RENEWAL: bool = $is_renewal;
            const MAY_BE_LATE: bool = $may_be_late;

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

kind!(RenewRequest, Renewed, renewals, renew, renew_many, true, true);
kind!(DeleteRequest, Deleted, releases, delete, delete_many, false, false);
kind!(InsertRequest, Inserted, acquisitions, insert_if_absent, insert_many, false, true);

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
        // The store's own error says more, so it has a moment to come first.
        let limit = self.0.limits.call + self.0.limits.call / 10;
        self.put(vec![Job { request, limit, reply }]);
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

    /// Runs a call that changes no lock to its end.
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
        let read = async move {
            if !reply.is_closed() {
                let _ = reply.send(calling.await);
            }
        };
        self.0.queues().reads.push_back(Box::pin(read));
        self.pump();
        answer.await.unwrap_or_else(|_| Err(not_ended()))
    }

    /// Waits for a release that the store learns of, at most for `at_most`.
    pub(crate) async fn wait_for_release(&self, lock_id: &LockId, at_most: Duration) {
        let (mut done, waited) = oneshot::channel();
        let (store, lock_id) = (Arc::clone(&self.0.store), lock_id.clone());
        self.0.driver.spawn(async move {
            let waited = tokio::select! {
                waited = store.wait_for_release(&lock_id, at_most) => Some(waited.is_ok()),
                () = done.closed() => None,
            };
            if let Some(waited) = waited {
                let _ = done.send(waited);
            }
        });
        // A store that cannot wait, or panics, is waited for all the same.
        if !waited.await.unwrap_or(false) {
            self.0.time.sleep(at_most).await;
        }
    }

    fn put<K: Kind>(&self, jobs: Vec<Job<K>>) {
        let mut queues = self.0.queues();
        if queues.strays >= 2 * self.0.places && !K::IS_RENEWAL {
            drop(queues);
            let message = format!("{} calls of the store have not returned in time", 2 * self.0.places);
            let error = StoreError::new(StoreErrorKind::Unavailable, message).undone();
            return jobs.into_iter().for_each(|job| job.answer(Err(error.clone()), self.0.clock.now()));
        }
        let queue = K::queue(&mut queues);
        for mut job in jobs {
            job.limit = job.limit.min(K::KEEPS_PLACE);
            let at = queue.partition_point(|earlier| earlier.limit <= job.limit);
            queue.insert(at, job);
        }
        drop(queues);
        self.pump();
    }

    /// Sends what may leave now. One thread at a time does so, for all: also where a call ends while it is sent, because its
    /// runtime has ended.
    fn pump(&self) {
        let mut queues = self.0.queues();
        queues.pump_again = true;
        if queues.pumping {
            return;
        }
        queues.pumping = true;
        while std::mem::take(&mut queues.pump_again) {
            while let Some(batch) = self.0.next_batch(&mut queues) {
                drop(queues);
                match batch {
                    Batch::Renewals(jobs) => self.send(jobs),
                    Batch::Releases(jobs) => self.send(jobs),
                    Batch::Acquisitions(jobs) => self.send(jobs),
                    Batch::Read(read) => self.send_read(read),
                }
                queues = self.0.queues();
            }
            queues.gathered = false;
            if queues.waiting() > 0 && !queues.gathering && queues.calls + self.0.reserved < self.0.places {
                queues.gathering = true;
                drop(queues);
                self.gather();
                queues = self.0.queues();
            }
        }
        queues.pumping = false;
    }

    /// Sends what is left after a while, however few they are.
    fn gather(&self) {
        let gathering = Gathering(self.clone());
        self.0.driver.spawn(async move {
            gathering.0.0.time.sleep(GATHERING).await;
            drop(gathering);
        });
    }

    fn send_read(&self, read: Read) {
        let (mut place, limit) = (self.place(1, false), self.0.limits.call);
        let time = self.0.time;
        self.0.driver.spawn(async move {
            let mut read = read;
            if time.within(limit, &mut read).await.is_none() {
                place.give_back();
                read.await;
            }
        });
    }

    fn place(&self, requests: usize, is_renewal: bool) -> Place {
        Place { dispatch: self.clone(), requests, is_renewal, is_stray: false }
    }

    fn send<K: Kind>(&self, jobs: Vec<Job<K>>) {
        let limit = jobs.iter().map(|job| job.limit).min().unwrap_or_default();
        let place = self.place(jobs.len(), K::IS_RENEWAL);
        let (requests, replies) = jobs.into_iter().map(|job| (job.request, (job.limit, job.reply))).unzip();
        let flight = Flight { dispatch: self.clone(), sent: self.0.clock.now(), requests, replies };
        self.0.driver.spawn(flight.fly(place, limit));
    }
}

/// The time for which requests gather. Its end lets them leave.
struct Gathering(Dispatch);

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut queues = self.0.0.queues();
        (queues.gathering, queues.gathered) = (false, true);
        drop(queues);
        self.0.pump();
    }
}

enum Batch {
    Read(Read),
    Renewals(Vec<Job<RenewRequest>>),
    Releases(Vec<Job<DeleteRequest>>),
    Acquisitions(Vec<Job<InsertRequest>>),
}

impl Shared {
    /// Takes the requests that leave together now, and gives them a place.
    fn next_batch(&self, queues: &mut Queues) -> Option<Batch> {
        let most = self.limits.batch;
        if queues.calls < self.places
            && let Some(jobs) = take(&mut queues.renewals, most)
        {
            return Some(Batch::Renewals(queues.enter(jobs)));
        }
        if queues.calls + self.reserved >= self.places {
            return None;
        }
        if let Some(read) = queues.reads.pop_front() {
            queues.calls += 1;
            queues.requests += 1;
            return Some(Batch::Read(read));
        }
        if !queues.gathered && !self.are_enough(queues) {
            return None;
        }
        if let Some(jobs) = take(&mut queues.releases, most) {
            return Some(Batch::Releases(queues.enter(jobs)));
        }
        let jobs = take(&mut queues.acquisitions, most)?;
        Some(Batch::Acquisitions(queues.enter(jobs)))
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
    /// Gives the requests of a call their place.
    fn enter<K: Kind>(&mut self, jobs: Vec<Job<K>>) -> Vec<Job<K>> {
        self.calls += 1;
        self.requests += jobs.len();
        jobs
    }

    fn waiting(&self) -> usize {
        self.renewals.len() + self.releases.len() + self.acquisitions.len()
    }
}

/// Takes at most `most` requests that have the same limit and ids that differ; `None` if there are none. Those for which no one
/// waits any more are dropped.
fn take<K: Kind>(queue: &mut VecDeque<Job<K>>, most: usize) -> Option<Vec<Job<K>>> {
    let (mut jobs, mut ids, mut skipped) = (Vec::<Job<K>>::new(), HashSet::new(), Vec::new());
    while jobs.len() < most && skipped.len() < most {
        let Some(job) = queue.pop_front() else { break };
        if job.reply.is_closed() {
            continue;
        }
        let fits = jobs.first().is_none_or(|first| first.limit == job.limit);
        if fits && (most == 1 || ids.insert(job.request.lock_id().clone())) {
            jobs.push(job);
        } else {
            skipped.push(job);
        }
    }
    skipped.into_iter().rev().for_each(|job| queue.push_front(job));
    (!jobs.is_empty()).then_some(jobs)
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
        // Its runtime may have stood still since it was sent, and its callers have gone.
        if self.replies.iter().all(|(_, reply)| reply.is_closed()) {
            return;
        }
        let answers = {
            let (requests, replies) = (&self.requests, &mut self.replies);
            let call = async {
                match &requests[..] {
                    [one] => vec![one.one(&*shared.store).await],
                    many => K::many(many, &*shared.store).await,
                }
            };
            let mut call = std::pin::pin!(call);
            match shared.time.within(limit, &mut call).await {
                Some(answers) => answers,
                None => {
                    place.give_back();
                    if !K::MAY_BE_LATE {
                        let late = StoreError::new(StoreErrorKind::Unavailable, "the store did not answer in time");
                        for (_, reply) in replies.drain(..) {
                            let _ = reply.send(Answered { result: Err(late.clone()), sent: self.sent });
                        }
                    }
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
        let replies = self.replies.drain(..).zip(answers);
        for ((_, reply), result) in replies {
            let _ = reply.send(Answered { result, sent: self.sent });
        }
        self.requests.clear();
    }

    /// Takes the requests, which have not been answered.
    fn open(&mut self) -> Vec<Job<K>> {
        let open = self.requests.drain(..).zip(self.replies.drain(..));
        let jobs = open.map(|(request, (limit, reply))| Job { request, limit, reply });
        // What no one waits for is not sent again.
        jobs.filter(|job| !job.reply.is_closed()).collect()
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
    is_renewal: bool,
    is_stray: bool,
}

impl Place {
    /// Gives the place back before the call has ended.
    fn give_back(&mut self) {
        let mut queues = self.dispatch.0.queues();
        queues.calls -= 1;
        queues.requests -= self.requests;
        queues.strays += usize::from(!self.is_renewal);
        drop(queues);
        self.is_stray = true;
        self.dispatch.pump();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_stray {
            self.give_back();
        }
        self.dispatch.0.queues().strays -= usize::from(!self.is_renewal);
    }
}
