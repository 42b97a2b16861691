use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::engine::holding::Holding;
use crate::engine::jitter::random_between;
use crate::engine::telemetry;
use crate::values::ClientTime;
use crate::{Clock, LockRow, LockStore, LostReason, RenewRequest, Renewed, StoreError, StoreErrorKind};

/// Renews leases, and says in time when one is lost: one task for all guards of a mutex.
///
/// A lease is renewed when a third of its TTL is over. Those that are due at about the same time go out as one
/// [`renew_many`](LockStore::renew_many), so that ten thousand locks cost as many statements as one. An attempt that
/// fails or takes longer than a sixth of the TTL is repeated until the lease's own deadline; only the answer "not held"
/// ends it before. The deadline has a timer of its own, which waits for no attempt.
#[derive(Debug)]
pub(crate) struct Renewal {
    shared: Arc<Shared>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn LockStore>,
    clock: Arc<dyn Clock>,
    agenda: Mutex<Agenda>,
    changed: Notify,
    closed: AtomicBool,
}

/// What has to be done when, on the client's clock.
#[derive(Debug, Default)]
struct Agenda {
    entries: BTreeMap<(ClientTime, u64), Entry>,
    numbered: u64,
    /// When the task looks again; an entry before that has to wake it.
    next_look: ClientTime,
}

#[derive(Debug, Clone)]
enum Entry {
    Renew(Weak<Holding>),
    Deadline(Weak<Holding>),
}

impl Entry {
    /// A third of the TTL, where there is something to renew.
    fn renewal_interval(&self) -> Option<Duration> {
        match self {
            Self::Renew(holding) => holding.upgrade()?.ttl.duration().map(|ttl| ttl / 3),
            Self::Deadline(_) => None,
        }
    }
}

impl Renewal {
    pub(crate) fn new(store: Arc<dyn LockStore>, clock: Arc<dyn Clock>) -> Self {
        let shared =
            Shared { store, clock, agenda: Mutex::default(), changed: Notify::new(), closed: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), task: Mutex::new(None) }
    }

    /// Renews the lease, whose request was sent at `sent`, until it is lost or its guard is gone.
    pub(crate) fn keep_alive(&self, holding: &Arc<Holding>, sent: ClientTime) {
        self.watch(holding);
        if let Some(ttl) = holding.ttl.duration() {
            self.shared.put(sent + ttl / 3, Entry::Renew(Arc::downgrade(holding)));
        }
    }

    /// Says in time when the lease is over, whether it is renewed or not.
    pub(crate) fn watch(&self, holding: &Arc<Holding>) {
        self.ensure_task();
        self.shared.put_deadline(holding, self.shared.clock.now());
    }

    /// Starts the task if there is none, or none any more because its runtime is gone.
    fn ensure_task(&self) {
        let mut task = lock(&self.task);
        if task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            lock(&self.shared.agenda).next_look = ClientTime::ZERO;
            *task = Some(runtime.spawn(run(Arc::clone(&self.shared))));
        }
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn put(&self, at: ClientTime, entry: Entry) {
        let mut agenda = lock(&self.agenda);
        agenda.numbered += 1;
        let key = (at, agenda.numbered);
        agenda.entries.insert(key, entry);
        if at < agenda.next_look {
            self.changed.notify_one();
        }
    }

    /// Plans to look at the deadline, unless that is planned already.
    fn put_deadline(&self, holding: &Arc<Holding>, now: ClientTime) {
        if let Some(left) = holding.deadline().remaining(now)
            && holding.schedule_check(now + left)
        {
            self.put(now + left, Entry::Deadline(Arc::downgrade(holding)));
        }
    }

    /// Takes what is due: all deadlines that have passed, and, if a renewal is due, all those that will be within half an
    /// interval.
    fn take_due(&self, now: ClientTime) -> (Vec<Arc<Holding>>, Vec<Arc<Holding>>) {
        let mut agenda = lock(&self.agenda);
        let due_now = agenda.entries.range(..=(now, u64::MAX)).filter_map(|(_, entry)| entry.renewal_interval());
        let soon = now + due_now.max().map_or(Duration::ZERO, |interval| interval / 2);
        let taken: Vec<_> = agenda
            .entries
            .range(..=(soon, u64::MAX))
            .filter(|((at, _), entry)| *at <= now || matches!(entry, Entry::Renew(_)))
            .map(|(key, _)| *key)
            .collect();
        let (mut over, mut due) = (Vec::new(), Vec::new());
        for key in taken {
            match agenda.entries.remove(&key) {
                Some(Entry::Deadline(holding)) => {
                    over.extend(holding.upgrade().filter(|holding| holding.begin_check(key.0)));
                }
                Some(Entry::Renew(holding)) => due.extend(holding.upgrade()),
                None => {}
            }
        }
        (over, due)
    }

    /// When to look again. At least once a second: tokio's timer stands still while the machine is suspended, the lease
    /// does not.
    fn plan(&self, now: ClientTime) -> Duration {
        let mut agenda = lock(&self.agenda);
        let next = agenda.entries.first_key_value().map(|((at, _), _)| *at);
        let pause = next.map_or(Duration::MAX, |at| at.since(now).min(SECOND));
        agenda.next_look = now + pause;
        pause
    }

    /// Repeats an attempt that failed after a while, at random, so that processes do not repeat in step.
    fn try_again(&self, holding: &Arc<Holding>, now: ClientTime) {
        let Some(ttl) = holding.ttl.duration() else { return };
        let pause = (ttl / 20).clamp(Duration::from_millis(10), Duration::from_secs(5));
        self.put(now + pause.mul_f64(random_between(0.5, 1.0)), Entry::Renew(Arc::downgrade(holding)));
    }
}

const SECOND: Duration = Duration::from_secs(1);

async fn run(shared: Arc<Shared>) {
    let mut attempts = JoinSet::new();
    while !shared.closed.load(Ordering::SeqCst) {
        let now = shared.clock.now();
        let (over, due) = shared.take_due(now);
        for holding in over {
            // A renewal may have moved it.
            if !holding.lose_if_over(now) {
                shared.put_deadline(&holding, now);
            }
        }
        if !due.is_empty() {
            attempts.spawn(attempt(Arc::clone(&shared), due));
        }
        let pause = shared.plan(now);
        tokio::select! {
            biased;
            () = shared.changed.notified() => {}
            Some(_) = attempts.join_next(), if !attempts.is_empty() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One `renew_many` for all that are due. Each answer stands alone.
async fn attempt(shared: Arc<Shared>, due: Vec<Arc<Holding>>) {
    let sent = shared.clock.now();
    let due = due.into_iter().filter(|holding| !holding.is_ending() && !holding.lose_if_over(sent));
    let (asked, requests): (Vec<_>, Vec<_>) = due
        .map(|holding| {
            let request = RenewRequest::new(holding.lock_id.clone(), holding.owner, holding.ttl);
            (holding, request)
        })
        .unzip();
    let Some(limit) = asked.iter().filter_map(|holding| holding.ttl.duration()).min() else { return };
    let answers = tokio::time::timeout(limit / 6, shared.store.renew_many(&requests)).await.unwrap_or_else(|_| {
        StoreError::new(StoreErrorKind::Unavailable, "the store did not answer in time").for_all(asked.len())
    });
    let now = shared.clock.now();
    for (holding, answer) in asked.into_iter().zip(answers) {
        match answer {
            Ok(Renewed::Renewed(_)) if holding.lose_if_over(now) => {}
            Ok(Renewed::Renewed(lease)) => {
                holding.renewed(lease, sent, holding.ttl);
                renewed(&shared, &holding, sent);
            }
            Ok(Renewed::NotHeld) if holding.is_ending() => {}
            Ok(Renewed::NotHeld) => holding.lose(why_lost(&shared, &holding, limit / 6).await),
            // Not a reason to give up: the lease may well last until the store is back.
            Err(error) => {
                telemetry::renewal_failed(&holding, &error);
                holding.renewal_failed();
                shared.try_again(&holding, now);
            }
        }
    }
}

fn renewed(shared: &Shared, holding: &Arc<Holding>, sent: ClientTime) {
    telemetry::renewed(holding);
    if let Some(ttl) = holding.ttl.duration() {
        shared.put(sent + ttl / 3, Entry::Renew(Arc::downgrade(holding)));
    }
}

/// What has become of a lock that is not ours any more, as far as the store can tell in time.
async fn why_lost(shared: &Shared, holding: &Holding, limit: Duration) -> LostReason {
    let row: Option<LockRow> =
        tokio::time::timeout(limit, shared.store.find(&holding.lock_id)).await.ok().and_then(Result::ok).flatten();
    match row {
        Some(row) if row.fence != holding.fence() => LostReason::TakenOver,
        Some(row) if !row.owned => LostReason::ReleasedByForce,
        _ => LostReason::Expired,
    }
}

/// Nothing that can panic runs under these mutexes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
