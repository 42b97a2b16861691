//! Sends requests to the store: alone while nothing is under way, else many at once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::batch::{Batch, Places, Queues, Read};
use super::flight::{Flight, Place};
use super::job::{Asked, Job, Kind, not_ended};
use super::runtime::{Driver, Limiter, Time};
use crate::store::Limits;
use crate::{Clock, LockId, LockStore, StoreError, StoreErrorKind};

/// How long requests gather behind calls that are under way before they leave all the same.
const GATHERING: Duration = Duration::from_millis(5);

/// A queue of requests and the calls that serve it. Clones share it.
///
/// A request outlives its caller: dropping an [`Asked`] takes only the wait away. A request that finds no call under way
/// leaves at once, as a single call. While calls are under way, requests gather, and leave together when they are enough
/// for their share of the places, or have waited for 5 ms. Renewals go before releases, and these before acquisitions; one
/// place is kept for renewals where there are several. Of the renewals those that keep their place for the shortest time go
/// first. Of all other kinds repeats go last: what failed before may fail again, and take long to do so.
///
/// A call that takes longer than its limit gives its place back and goes on beside the others; where too many do, new
/// requests fail at once. Renewals are excepted: one whose call hangs keeps its place for a second at most, so that it does
/// not delay another's for longer, and is not counted. Few can be under way, because a lease whose renewals hang is lost.
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
    /// Goes on with what this one cannot finish because its runtime has ended.
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
        // The store's own error says more, so it has a moment to come first.
        let (job, asked) = Job::new(request, self.0.call + self.0.call / 10);
        self.put(vec![job]);
        asked
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

    /// Sends what may leave now. One thread at a time does so, for all: also where a call ends while it is sent, because its
    /// runtime has ended.
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

    /// Sends what is left after a while, however few they are.
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

impl Shared {
    /// Nothing that can panic runs under this mutex.
    pub(crate) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
