//! Sends requests to the store: alone while nothing is under way, else many at once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::batch::{Batch, Places, Queues, Read};
use super::flight::{Flight, Place};
use super::inline::InlineCall;
use super::job::{Asked, Job, Kind, not_ended};
use super::runtime::{Driver, Limiter, Time};
use crate::store::Limits;
use crate::{Clock, LockId, LockStore, StoreError, StoreErrorKind};

/// How long requests are collected while calls are in flight, before they are sent anyway.
const GATHERING: Duration = Duration::from_millis(5);

/// The minimum time for which a caller polls its call before the call moves to a separate task; the maximum is twice that.
const INLINE: Duration = Duration::from_millis(10);

/// A queue of requests and the calls that serve it. Clones share it.
///
/// A request outlives its caller: dropping an [`Asked`] ends only the wait. If no call is in flight, a request is sent at
/// once, as a single call; in the foreground the caller itself polls that call for up to 20 ms. While calls are in flight,
/// requests are collected, and sent together when they are enough for their share of a steady flow, or after 5 ms. Renewals
/// go before releases, and releases before acquisitions; one place is reserved for renewals if there are several. Among
/// renewals, those with the shortest limit go first. Among other requests, repeats go last: what failed before may fail
/// again, and take long to do so.
///
/// A call that takes longer than its limit gives its place back and continues; if too many do, new requests fail at once.
/// Renewals are an exception: a hanging renewal keeps its place for a second at most, so that it does not delay other
/// renewals for longer, and is not counted. There can only be few of them, because a lease whose renewals hang is lost.
#[derive(Clone)]
pub(crate) struct Dispatch(pub(crate) Arc<Shared>);

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("driver", &self.0.driver)
            .field("places", &self.0.places)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn LockStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: Time,
    pub(crate) limiter: Limiter,
    driver: Driver,
    places: Places,
    /// The longest that a call may take.
    call: Duration,
    /// Takes over the requests that this one cannot finish because its runtime has ended.
    pub(crate) successor: Option<Dispatch>,
    queues: Mutex<Queues>,
}

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
        let places = Places { all: places, reserved, batch: limits.batch };
        let (call, queues) = (limits.call, Mutex::default());
        let limiter = Limiter::new(time);
        Self(Arc::new(Shared { store, clock, time, limiter, driver, places, call, successor, queues }))
    }

    /// Whether the caller runs where the calls do.
    pub(crate) fn is_here(&self) -> bool {
        self.0.driver.is_here()
    }

    /// Sends a request.
    pub(crate) fn ask<K: Kind>(&self, request: K) -> Asked<K::Answer> {
        // The store's own error is more precise, so it gets a little more time.
        let (job, mut asked) = Job::new(request, self.0.call + self.0.call / 10);
        let mut queues = self.0.queues();
        if !self.0.driver.is_foreground() || !queues.are_idle() {
            drop(queues);
            self.put(vec![job]);
            return asked;
        }
        let jobs = queues.enter(vec![job]);
        let place = Place::new(self.clone(), 1, K::IS_RENEWAL);
        let flight = Flight::new(self.clone(), jobs).fly(place);
        let call = InlineCall::new(self.0.driver.clone(), flight);
        queues.inline = Arc::downgrade(&call);
        let is_watched = std::mem::replace(&mut queues.watching, true);
        drop(queues);
        asked.poll_inline(call);
        if !is_watched {
            self.watch();
        }
        asked
    }

    /// After a while, moves the calls that callers poll to tasks, so that a caller that does not poll delays nothing.
    fn watch(&self) {
        // Not held while it sleeps: otherwise a runtime that no longer runs would keep the store alive.
        let (shared, time) = (Arc::downgrade(&self.0), self.0.time);
        self.0.driver.spawn(async move {
            let mut last = Weak::new();
            loop {
                time.sleep(INLINE).await;
                let Some(shared) = shared.upgrade() else { return };
                let mut queues = shared.queues();
                if last.ptr_eq(&queues.inline) {
                    queues.watching = false;
                    break;
                }
                last = queues.inline.clone();
            }
            if let Some(call) = last.upgrade() {
                call.hand_over();
            }
        });
    }

    /// Sends a request again, after those that are sent for the first time.
    pub(crate) fn ask_again<K: Kind>(&self, request: K) -> Asked<K::Answer> {
        let (mut job, asked) = Job::new(request, self.0.call + self.0.call / 10);
        job.reply.is_repeat = true;
        self.put(vec![job]);
        asked
    }

    /// Sends requests together. A call that takes longer than `limit` gives its place back.
    pub(crate) fn ask_all<K: Kind>(&self, requests: Vec<K>, limit: Duration) -> Vec<Asked<K::Answer>> {
        let (jobs, asked) = requests.into_iter().map(|request| Job::new(request, limit)).unzip();
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

    /// Waits up to `at_most` for a release that the store is notified of.
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
        // Sleeps even if the store cannot wait, or panics.
        if !waited.await.unwrap_or(false) {
            self.0.time.sleep(at_most).await;
        }
    }

    /// Queues requests, and sends what may leave.
    pub(crate) fn put<K: Kind>(&self, jobs: Vec<Job<K>>) {
        let mut queues = self.0.queues();
        let most = 2 * self.0.places.all;
        if queues.strays >= most && !K::IS_RENEWAL {
            drop(queues);
            let message = format!("{most} calls of the store have not returned in time");
            let error = StoreError::new(StoreErrorKind::Unavailable, message).undone();
            return jobs.into_iter().for_each(|job| job.reply.send(Err(error.clone()), self.0.clock.now()));
        }
        queues.put(jobs);
        drop(queues);
        self.pump();
    }

    /// Sends the requests that may be sent now. One thread at a time does this, even if a call ends while it is sent
    /// because its runtime has ended.
    pub(crate) fn pump(&self) {
        let mut queues = self.0.queues();
        queues.pump_again = true;
        if queues.pumping {
            return;
        }
        queues.pumping = true;
        while std::mem::take(&mut queues.pump_again) {
            while let Some(batch) = queues.next_batch(self.0.places) {
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
            if queues.have_to_gather(self.0.places) {
                queues.gathering = true;
                drop(queues);
                self.gather();
                queues = self.0.queues();
            }
        }
        queues.pumping = false;
    }

    /// After a while, sends the remaining requests, however few.
    fn gather(&self) {
        let gathering = Gathering(self.clone());
        self.0.driver.spawn(async move {
            gathering.0.0.time.sleep(GATHERING).await;
            drop(gathering);
        });
    }

    fn send_read(&self, read: Read) {
        let (mut place, limit) = (Place::new(self.clone(), 1, false), self.0.call);
        let shared = Arc::clone(&self.0);
        self.0.driver.spawn(async move {
            let mut read = read;
            if shared.limiter.within(limit, &mut read).await.is_none() {
                place.give_back();
                read.await;
            }
        });
    }

    fn send<K: Kind>(&self, jobs: Vec<Job<K>>) {
        let place = Place::new(self.clone(), jobs.len(), K::IS_RENEWAL);
        self.0.driver.spawn(Flight::new(self.clone(), jobs).fly(place));
    }
}

/// The time for which requests are collected. They are sent at its end.
struct Gathering(Dispatch);

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut queues = self.0.0.queues();
        (queues.gathering, queues.gathered) = (false, true);
        drop(queues);
        self.0.pump();
    }
}

impl Shared {
    /// Nothing that can panic runs under this mutex.
    pub(crate) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
