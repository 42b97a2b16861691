//! Renews leases in time, and reports in time when one is lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::Engine;

use super::holding::Holding;
use super::job::{Answered, Asked};
use super::telemetry;
use crate::values::ClientTime;
use crate::{Clock, LostReason, RenewRequest, Renewed, StoreError, StoreErrorKind};

/// The leases that are renewed or watched, and the task in the background that does so.
///
/// A lease is renewed when a third of its TTL has passed. An attempt that fails or takes longer than a sixth of the TTL is
/// repeated until the lease's deadline. Renewals with similar TTLs that are due at about the same time are sent together.
/// The deadline does not wait for attempts.
///
/// An attempt is awaited for longer than its call keeps a place in the background, so hanging renewals of long leases delay
/// that of a short lease for a second at most.
#[derive(Debug)]
pub(crate) struct Renewal {
    clock: Arc<dyn Clock>,
    schedule: Mutex<Schedule>,
    changed: Notify,
    /// Whether the task runs.
    running: Mutex<Weak<()>>,
    closed: AtomicBool,
}

/// The schedule, on the client's clock. A lease has at most one entry of each kind, and is removed with its guard.
#[derive(Debug, Default)]
struct Schedule {
    renewals: BTreeMap<Due, Weak<Holding>>,
    deadlines: BTreeMap<Due, Weak<Holding>>,
    last_number: u64,
    /// When the task checks next; anything due before that has to wake it.
    next_check: ClientTime,
}

/// A time, and a number that distinguishes entries with the same time.
pub(crate) type Due = (ClientTime, u64);

/// The task checks at least once a second, because tokio's timers stop while the machine is suspended, and leases do not.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// How long to look for the reason of a loss. The lock is not valid meanwhile, and its cancel token is cancelled.
pub(crate) const FINDING_OUT: Duration = Duration::from_millis(250);

impl Renewal {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            schedule: Mutex::default(),
            changed: Notify::new(),
            running: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Forgets a lease whose guard is gone.
    pub(crate) fn forget(&self, holding: &Holding) {
        let mut schedule = self.schedule();
        let due = std::mem::take(&mut *holding.due());
        due.renewal.and_then(|due| schedule.renewals.remove(&due));
        due.deadline.and_then(|due| schedule.deadlines.remove(&due));
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }

    fn renew_at(&self, holding: &Arc<Holding>, at: ClientTime) {
        let mut schedule = self.schedule();
        if holding.is_over() {
            return;
        }
        let due = schedule.number(at);
        if let Some(earlier) = holding.due().renewal.replace(due) {
            schedule.renewals.remove(&earlier);
        }
        schedule.renewals.insert(due, Arc::downgrade(holding));
        self.wake_for(&schedule, at);
    }

    /// Schedules a deadline check.
    fn watch_deadline(&self, holding: &Arc<Holding>) {
        let now = self.clock.now();
        let mut schedule = self.schedule();
        let Some(left) = holding.deadline().remaining(now).filter(|_| !holding.is_over()) else { return };
        let due = schedule.number(now + left);
        if let Some(earlier) = holding.due().deadline.replace(due) {
            schedule.deadlines.remove(&earlier);
        }
        schedule.deadlines.insert(due, Arc::downgrade(holding));
        self.wake_for(&schedule, due.0);
    }

    fn wake_for(&self, schedule: &Schedule, at: ClientTime) {
        if at < schedule.next_check {
            self.changed.notify_one();
        }
    }

    /// Nothing that can panic runs under this mutex.
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule {
    fn number(&mut self, at: ClientTime) -> Due {
        self.last_number += 1;
        (at, self.last_number)
    }

    fn take_over(&mut self, now: ClientTime) -> Vec<Arc<Holding>> {
        let over = take_until(&mut self.deadlines, now);
        over.inspect(|holding| holding.due().deadline = None).collect()
    }

    /// Takes the due entries. If there are any, it also takes those that will be due within a sixth of their TTL, so that
    /// there are fewer batches.
    fn take_due(&mut self, now: ClientTime) -> Vec<Arc<Holding>> {
        let due: Vec<_> = take_until(&mut self.renewals, now).collect();
        let Some(longest) = due.iter().filter_map(|holding| holding.ttl.duration()).max() else { return due };
        let soon = take_until(&mut self.renewals, now + longest / 6);
        let (soon, later): (Vec<_>, Vec<_>) = soon.partition(|holding| {
            let due_at = holding.due().renewal.map_or(now, |due| due.0);
            holding.ttl.duration().is_some_and(|ttl| due_at <= now + ttl / 6)
        });
        for holding in later {
            if let Some(due) = holding.due().renewal {
                self.renewals.insert(due, Arc::downgrade(&holding));
            }
        }
        let due: Vec<_> = due.into_iter().chain(soon).collect();
        due.iter().for_each(|holding| holding.due().renewal = None);
        due
    }

    /// How long there is nothing to do; `None` until something is scheduled.
    fn pause(&mut self, now: ClientTime) -> Option<Duration> {
        let next = [&self.renewals, &self.deadlines].into_iter().filter_map(|all| all.first_key_value());
        let next = next.map(|((at, _), _)| *at).min();
        let pause = next.map(|at| at.since(now).min(LONGEST_LOOK));
        self.next_check = pause.map_or(ClientTime::LAST, |pause| now + pause);
        pause
    }
}

/// Takes the leases that are due at `until` or before.
fn take_until(all: &mut BTreeMap<Due, Weak<Holding>>, until: ClientTime) -> impl Iterator<Item = Arc<Holding>> {
    let later = all.split_off(&(until, u64::MAX));
    std::mem::replace(all, later).into_values().filter_map(|holding| holding.upgrade())
}

impl Engine {
    /// Renews the lease until it is lost or its guard is gone. `sent` is when its request was sent.
    pub(crate) fn keep_alive(self: &Arc<Self>, holding: &Arc<Holding>, sent: ClientTime) {
        self.watch(holding);
        if let Some(ttl) = holding.ttl.duration() {
            self.renewal.renew_at(holding, sent + ttl / 3);
        }
    }

    /// Reports the end of the lease in time, whether it is renewed or not.
    pub(crate) fn watch(self: &Arc<Self>, holding: &Arc<Holding>) {
        self.renewal.watch_deadline(holding);
        let mut running = self.renewal.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.strong_count() == 0 {
            let alive = Arc::new(());
            *running = Arc::downgrade(&alive);
            self.runner.spawn(run(Arc::clone(self), alive));
        }
    }

    /// Sends one attempt for each due lease. Attempts with similar TTLs are sent together and share a limit, so that a
    /// short lease does not limit the calls of a long one.
    fn renew(self: &Arc<Self>, due: Vec<Arc<Holding>>) {
        let mut bands = BTreeMap::<Duration, Vec<Arc<Holding>>>::new();
        for holding in due.into_iter().filter(|holding| !holding.is_over()) {
            let Some(ttl) = holding.ttl.duration() else { continue };
            bands.entry(attempt_limit(ttl).min(self.call)).or_default().push(holding);
        }
        for (limit, band) in bands {
            let request =
                |holding: &Arc<Holding>| RenewRequest::new(holding.lock_id.clone(), holding.owner, holding.ttl);
            let asked = self.background.ask_all(band.iter().map(request).collect(), limit);
            for (holding, asked) in band.into_iter().zip(asked) {
                let engine = Arc::clone(self);
                self.runner.spawn(async move { engine.await_renewal(&holding, asked, limit).await });
            }
        }
    }

    async fn await_renewal(self: &Arc<Self>, holding: &Arc<Holding>, mut asked: Asked<Renewed>, limit: Duration) {
        if let Some(answered) = self.time.within(limit, asked.answer()).await {
            return self.renewal_answered(holding, answered);
        }
        let late = StoreError::new(StoreErrorKind::Unavailable, "the store did not answer in time");
        self.renewal_answered(holding, Answered::failed(late, self.clock.now()));
        // A late answer still counts, from when its request was sent.
        let Answered { result, sent, .. } = asked.answer().await;
        match result {
            Ok(Renewed::Renewed(lease)) => holding.renewed(lease, sent, holding.ttl),
            Ok(Renewed::NotHeld) if !holding.is_ending() && !holding.lose_if_over(self.clock.now()) => {
                self.not_held(holding);
            }
            _ => {}
        }
    }

    fn renewal_answered(self: &Arc<Self>, holding: &Arc<Holding>, answered: Answered<Renewed>) {
        let Some(ttl) = holding.ttl.duration() else { return };
        let Answered { result, sent, .. } = answered;
        let now = self.clock.now();
        match result {
            _ if holding.is_ending() || holding.lose_if_over(now) => {}
            Ok(Renewed::Renewed(lease)) => {
                holding.renewed(lease, sent, holding.ttl);
                telemetry::renewed(holding);
                self.renewal.renew_at(holding, sent + ttl / 3);
                self.renewal.watch_deadline(holding);
            }
            Ok(Renewed::NotHeld) => self.not_held(holding),
            // No reason to give up: the lease may last until the store is back.
            Err(error) => {
                telemetry::renewal_failed(holding, &error);
                holding.renewal_failed();
                let pause = (ttl / 20).clamp(Duration::from_millis(10), Duration::from_secs(5));
                self.renewal.renew_at(holding, now + pause.mul_f64(self.jitter.between(0.5, 1.0)));
            }
        }
    }

    /// Reports the loss of a lock that the store has reported as not held. The reason follows.
    pub(crate) fn not_held(self: &Arc<Self>, holding: &Arc<Holding>) {
        holding.invalidate();
        let (engine, holding) = (Arc::clone(self), Arc::clone(holding));
        self.runner.spawn(async move { holding.lose(engine.why_lost(&holding).await) });
    }

    /// Why a lock is no longer held, as far as the store can determine it at once.
    pub(crate) async fn why_lost(&self, holding: &Holding) -> LostReason {
        let (lock_id, fence) = (holding.lock_id.clone(), holding.fence());
        let find = self.background.call(|store| async move { store.find(&lock_id).await });
        match self.time.within(FINDING_OUT, find).await {
            Some(Ok(Some(row))) if row.fence > fence => LostReason::TakenOver,
            Some(Ok(Some(row))) if row.fence == fence && !row.owned => LostReason::ReleasedByForce,
            Some(Ok(Some(row))) if row.fence == fence => LostReason::Expired,
            // No row, or that of an earlier acquisition.
            Some(Ok(_)) => LostReason::Missing,
            _ => LostReason::Expired,
        }
    }
}

/// How long one attempt to renew may take: a sixth of the TTL, rounded down to one of few values, so that the attempts of
/// similar TTLs leave together.
fn attempt_limit(ttl: Duration) -> Duration {
    let sixth = u64::try_from(ttl.as_millis() / 6).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(1 << sixth.ilog2())
}

async fn run(engine: Arc<Engine>, _alive: Arc<()>) {
    let renewal = &engine.renewal;
    while !renewal.closed.load(Ordering::SeqCst) {
        let now = engine.clock.now();
        let (over, due) = {
            let mut schedule = renewal.schedule();
            (schedule.take_over(now), schedule.take_due(now))
        };
        for holding in over {
            // A renewal may have moved it.
            if !holding.lose_if_over(now) {
                renewal.watch_deadline(&holding);
            }
        }
        engine.renew(due);
        let pause = renewal.schedule().pause(engine.clock.now());
        tokio::select! {
            biased;
            () = renewal.changed.notified() => {}
            () = engine.time.sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}
