use std::collections::{BTreeMap, HashMap};
use std::fmt::Arguments;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use db_mutex_core::store::StoreTime;
use db_mutex_core::testing::{ManualClock, MemoryStore};
use db_mutex_core::{Guard, OwnerToken};
use tokio::time::Instant;

use crate::faults::FaultPlan;
use crate::ledger::Ledger;
use crate::random::Random;

/// All that the processes of one run share: the database, the faults over it, and what is watched.
#[derive(Debug)]
pub(crate) struct World {
    start: Instant,
    pub(crate) memory: MemoryStore,
    pub(crate) store_clock: ManualClock,
    state: Mutex<State>,
}

/// What changes during a run.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) random: Random,
    pub(crate) faults: FaultPlan,
    pub(crate) ledger: Ledger,
    pub(crate) processes: Vec<Process>,
    /// Who stands in line, in the order of arrival.
    pub(crate) waiters: Vec<Waiter>,
    /// Since when questions are under way, by operation.
    pub(crate) asking: BTreeMap<u64, Duration>,
    pub(crate) guards: Vec<Held>,
    /// The last event at which a question was sent that was answered "held", by process and id.
    pub(crate) refusals: HashMap<(usize, String), u64>,
    /// The operation of each owner that asked, and when the first delete of an owner has arrived.
    pub(crate) asked_by: HashMap<OwnerToken, u64>,
    pub(crate) deleted: HashMap<OwnerToken, Duration>,
    /// The run is over: what is dropped now has no effects.
    pub(crate) over: bool,
    /// Up to when the store's clock has followed the run's.
    followed: Duration,
    operations: u64,
    events: u64,
    violation: Option<String>,
    trace: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Process {
    pub(crate) paused_until: Duration,
    /// When something last went wrong between this process and the store.
    pub(crate) trouble_at: Duration,
    /// When the quiet lock was last renewed.
    pub(crate) quiet_renewed_at: Option<Duration>,
    /// How many calls are under way with which something is wrong.
    pub(crate) troubled: usize,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) operation: u64,
    pub(crate) process: usize,
    pub(crate) id: String,
    pub(crate) gives_up: Option<Duration>,
    pub(crate) since: Duration,
    /// Whether a question in its name has reached the store.
    pub(crate) has_asked: bool,
}

impl Waiter {
    /// Since when its question is under way that reaches the store now: the first counts from the beginning.
    pub(crate) fn asks(&mut self, now: Duration) -> Duration {
        if std::mem::replace(&mut self.has_asked, true) { now } else { self.since }
    }
}

/// A live guard.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) operation: u64,
    pub(crate) id: String,
    pub(crate) owner: OwnerToken,
    pub(crate) guard: Weak<Guard>,
    /// Whether `lost()` of it was awaited since then.
    pub(crate) awaited_since: Option<Duration>,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Arc<Self> {
        let mut random = Random::new(seed);
        let store_clock = ManualClock::new();
        let faults = FaultPlan::draw(&mut random);
        Arc::new(Self {
            start: Instant::now(),
            memory: MemoryStore::with_clock(store_clock.clone()),
            store_clock,
            state: Mutex::new(State {
                random,
                faults,
                ledger: Ledger::default(),
                processes: Vec::new(),
                waiters: Vec::new(),
                asking: BTreeMap::new(),
                guards: Vec::new(),
                refusals: HashMap::new(),
                asked_by: HashMap::new(),
                deleted: HashMap::new(),
                events: 0,
                over: false,
                followed: Duration::ZERO,
                operations: 0,
                violation: None,
                trace: traced.then(Vec::new),
            }),
        })
    }

    /// The time since the run began.
    pub(crate) fn now(&self) -> Duration {
        Instant::now().duration_since(self.start)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state().random)
    }

    /// Lets the store's clock follow the run's, and returns its time.
    pub(crate) fn store_now(&self) -> StoreTime {
        let now = self.now();
        let mut state = self.state();
        self.store_clock.advance(now.saturating_sub(state.followed));
        state.followed = now;
        self.store_clock.store_time()
    }

    /// The operation that has the lock.
    pub(crate) fn holder(&self, id: &str) -> Option<u64> {
        let now = self.store_now();
        let state = self.state();
        state.ledger.owner(id, now).and_then(|owner| state.asked_by.get(&owner).copied())
    }

    pub(crate) fn next_operation(&self) -> u64 {
        let mut state = self.state();
        state.operations += 1;
        state.operations
    }

    /// A number for what happens now: later events have greater ones, also at the same time.
    pub(crate) fn next_event(&self) -> u64 {
        let mut state = self.state();
        state.events += 1;
        state.events
    }

    pub(crate) fn trace(&self, event: Arguments<'_>) {
        let now = self.now();
        if let Some(trace) = &mut self.state().trace {
            trace.push(format!("{:>10.3} {event}", now.as_secs_f64()));
        }
    }

    /// Says that a promise was broken; the first to be so is told.
    pub(crate) fn violated(&self, what: Arguments<'_>) {
        self.trace(format_args!("VIOLATION {what}"));
        let now = self.now();
        let mut state = self.state();
        if state.violation.is_none() {
            state.violation = Some(format!("at {:.3} s: {what}", now.as_secs_f64()));
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.state().violation.is_some()
    }

    pub(crate) fn result(&self) -> (Option<String>, Vec<String>) {
        let mut state = self.state();
        (state.violation.take(), state.trace.take().unwrap_or_default())
    }

    pub(crate) fn trouble(&self, process: usize) {
        self.trouble_until(process, self.now());
    }

    /// There is trouble from now on until the returned value is dropped.
    pub(crate) fn begin_trouble(self: &Arc<Self>, process: usize) -> Trouble {
        self.state().processes[process].troubled += 1;
        Trouble { world: Arc::clone(self), process }
    }

    /// When something was last wrong between this process and the store, which may be now.
    pub(crate) fn last_trouble(&self, process: usize) -> Duration {
        let process = &self.state().processes[process];
        if process.troubled > 0 { self.now() } else { process.trouble_at }
    }

    pub(crate) fn trouble_until(&self, process: usize, until: Duration) {
        let mut state = self.state();
        let trouble_at = &mut state.processes[process].trouble_at;
        *trouble_at = until.max(*trouble_at);
    }

    pub(crate) fn paused_until(&self, process: usize) -> Option<Duration> {
        let until = self.state().processes[process].paused_until;
        (until > self.now()).then_some(until)
    }

    /// Passes once the process runs.
    pub(crate) async fn gate(&self, process: usize) {
        while let Some(until) = self.paused_until(process) {
            tokio::time::sleep_until(self.start + until).await;
        }
    }
}

/// A call with which something is wrong.
pub(crate) struct Trouble {
    world: Arc<World>,
    process: usize,
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.world.state().processes[self.process].troubled -= 1;
        self.world.trouble(self.process);
    }
}
