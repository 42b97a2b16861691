//! The machinery between the users' types and a store: it sends requests, renews leases, releases locks and waits for them.
//!
//! | file | idea |
//! |---|---|
//! | `dispatch` | requests outlive their callers, and are sent from the runtime that they belong to |
//! | `batch` | which requests leave together, and when |
//! | `job`, `flight`, `inline` | a request, a call under way, and one that its caller polls |
//! | `renewal` | renewing leases in time, and reporting their loss in time |
//! | `release` | releasing locks in the background, repeated until their lease ends |
//! | `wait_queues`, `wait_queue` | the waiters of all locks; the waiters of one lock, in order |
//! | `holding`, `deadline` | a lock that is held, and until when |
//! | `runtime` | the two runtimes, tasks and timers |
//! | `pauses`, `jitter` | how long to pause before the next attempt |
//! | `telemetry` | events and metrics |
//!
//! Architecture invariants: an insert, a renewal or a delete reaches the store through a [`Dispatch`](dispatch::Dispatch)
//! only. A delete is sent only after the insert of its owner has returned; where that is not certain, once more later.

pub(crate) mod batch;
pub(crate) mod deadline;
pub(crate) mod dispatch;
pub(crate) mod flight;
pub(crate) mod holding;
pub(crate) mod inline;
pub(crate) mod jitter;
pub(crate) mod job;
pub(crate) mod pauses;
pub(crate) mod release;
pub(crate) mod renewal;
pub(crate) mod runtime;
pub(crate) mod telemetry;
pub(crate) mod wait_queue;
pub(crate) mod wait_queues;

use std::sync::Arc;
use std::time::Duration;

use crate::{CancellationToken, Clock, LockStore, StoreError, StoreErrorKind};
use dispatch::{Dispatch, Setup};
use jitter::Jitter;
use job::{Answered, Asked, Kind};
use pauses::Pauses;
use release::Releases;
use renewal::Renewal;
use runtime::{Background, Driver, Home, Limiter, Time};
use wait_queues::WaitQueues;

/// How many calls the background sends at a time if it has its own connections.
const CONNECTIONS_BEHIND: usize = 3;

/// What a simulation controls instead of the operating system.
#[derive(Debug, Clone)]
pub(crate) struct Simulated {
    /// Where the jitter comes from.
    pub(crate) seed: u64,
    /// Ends the foreground like the end of its runtime.
    pub(crate) foreground_ends: CancellationToken,
}

/// The machinery of a mutex. All clones of the mutex, its locks and guards share it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: Time,
    limiter: Limiter,
    /// For calls from the runtime in which the mutex was first used; none if the store takes one call at a time.
    foreground: Option<Dispatch>,
    /// For all other calls, and for background work.
    pub(crate) background: Dispatch,
    pub(crate) runner: Arc<Background>,
    pub(crate) renewal: Renewal,
    pub(crate) releases: Releases,
    pub(crate) wait_queues: WaitQueues,
    pub(crate) jitter: Jitter,
    /// How long a caller waits for the answer to one request.
    attempt: Duration,
    /// How long the store's server may still work on a request whose call has ended.
    pub(crate) call: Duration,
    /// The process that made it: connections and threads do not survive a fork.
    process: u32,
}

impl Engine {
    pub(crate) fn new(
        store: Arc<dyn LockStore>,
        clock: Arc<dyn Clock>,
        time: Time,
        batching: bool,
        simulated: Option<Simulated>,
    ) -> Arc<Self> {
        let (jitter, ends) = match simulated {
            Some(Simulated { seed, foreground_ends }) => (Jitter::from_seed(seed), Some(foreground_ends)),
            None => (Jitter::default(), None),
        };
        let mut limits = store.limits();
        if !batching {
            limits.batch = 1;
        }
        let runner = Arc::new(Background::new(time));
        let setup = |store| Setup { store, clock: Arc::clone(&clock), time, limits };
        // Renewals have a reserved place, even if other calls hang.
        let (store_behind, ahead, behind) = match store.for_background() {
            Some(apart) => (apart, limits.concurrency, CONNECTIONS_BEHIND),
            None => {
                let behind = (limits.concurrency / 4).max(2).min(limits.concurrency);
                (Arc::clone(&store), limits.concurrency - behind, behind)
            }
        };
        let driver = Driver::Background(Arc::clone(&runner));
        let background = Dispatch::new(setup(store_behind), driver, behind.max(1), usize::from(behind > 1), None);
        let driver = Driver::Foreground(Arc::new(Home::new(Arc::clone(&runner), ends)));
        let foreground = (ahead > 0).then(|| Dispatch::new(setup(store), driver, ahead, 0, Some(background.clone())));
        Arc::new(Self {
            renewal: Renewal::new(Arc::clone(&clock)),
            releases: Releases::default(),
            wait_queues: WaitQueues::default(),
            // The store's own error is more precise, so it gets a little more time.
            attempt: limits.call + limits.call / 10,
            call: limits.call,
            process: std::process::id(),
            jitter,
            clock,
            time,
            limiter: Limiter::new(time),
            foreground,
            background,
            runner,
        })
    }

    /// Sends a request, from wherever it is called.
    pub(crate) fn ask<K: Kind>(&self, request: K) -> Asked<K::Answer> {
        match self.forked() {
            Some(error) => Asked::failed(error, self.clock.now()),
            None => self.dispatch().ask(request),
        }
    }

    /// Waits for the answer to a request; `None` if it does not come in time. It may still come.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the answer can still be waited for.
    pub(crate) async fn answer<A>(&self, asked: &mut Asked<A>) -> Option<Answered<A>> {
        self.limiter.within(self.attempt, asked.answer()).await
    }

    /// The error of an answer that does not come in time.
    pub(crate) fn too_late(&self) -> StoreError {
        let message = format!("the store did not answer within {:?}", self.attempt);
        StoreError::new(StoreErrorKind::Unavailable, message)
    }

    /// Sends a request, and again while its row is locked, for at most `limit`.
    pub(crate) async fn ask_while_busy<K: Kind + Clone>(&self, request: &K, limit: Duration) -> Answered<K::Answer> {
        let (begun, mut pauses, mut is_repeat) = (self.time.now(), Pauses::while_busy(), false);
        loop {
            let mut asked = self.ask(request.clone());
            let answered = self.answer(&mut asked).await;
            is_repeat |= answered.as_ref().is_some_and(|answered| answered.is_repeat);
            match answered {
                Some(Answered { result: Err(error), .. })
                    if error.kind() == StoreErrorKind::Busy && self.time.now() - begun < limit =>
                {
                    self.time.sleep(pauses.next(&self.jitter)).await;
                }
                Some(answered) => return Answered { is_repeat, ..answered },
                None => return Answered::failed(self.too_late(), self.clock.now()),
            }
        }
    }

    /// Runs a call of the store that changes no lock.
    pub(crate) async fn call<T, Calling>(
        &self,
        call: impl FnOnce(Arc<dyn LockStore>) -> Calling,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Calling: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        match self.forked() {
            Some(error) => Err(error),
            None => self.dispatch().call(call).await,
        }
    }

    /// Ends the background when its work is done.
    pub(crate) fn close(self: &Arc<Self>) {
        if self.forked().is_some() {
            return;
        }
        self.renewal.close();
        let engine = Arc::clone(self);
        self.runner.close(async move { engine.releases.drained().await });
    }

    fn dispatch(&self) -> &Dispatch {
        self.runner.prepare();
        match &self.foreground {
            Some(foreground) if foreground.is_here() => foreground,
            _ => &self.background,
        }
    }

    /// Why nothing can be sent in a forked child.
    pub(crate) fn forked(&self) -> Option<StoreError> {
        (self.process != std::process::id()).then(|| {
            let message = "the mutex was made before this process was forked; make one in the child";
            StoreError::new(StoreErrorKind::Other, message).undone()
        })
    }
}
