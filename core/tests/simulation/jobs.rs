use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::Limits;
use db_mutex_core::testing::{ClientTime, Clock};
use db_mutex_core::{CancellationToken, DbMutex, Error, Guard, HolderName, Lock, LostReason, Ttl};
use tokio::time::{Instant, timeout};

use crate::checks::{Watched, check_given_up, watch};
use crate::random::Random;
use crate::store::ProcessStore;
use crate::world::{Held, Waiter, World};

/// A process: its own mutex, its own clock, its own way to the store.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) world: Arc<World>,
    pub(crate) number: usize,
    pub(crate) mutex: DbMutex,
    pub(crate) limits: Limits,
    /// Ends the runtime in which its tasks run.
    pub(crate) runtime_ends: CancellationToken,
    ids: Arc<[String]>,
}

/// A client's clock: it began at some time, and runs a little too fast or too slow.
#[derive(Debug)]
struct ProcessClock {
    start: Instant,
    began: Duration,
    /// In a thousandth of what passes: 1000 is right.
    rate: u32,
}

impl Clock for ProcessClock {
    fn now(&self) -> ClientTime {
        ClientTime::after(self.began + Instant::now().saturating_duration_since(self.start) * self.rate / 1000)
    }
}

impl Process {
    pub(crate) fn start(world: &Arc<World>, number: usize, ids: &Arc<[String]>, has_quiet: bool) -> Self {
        world.state().processes.push(crate::world::Process::default());
        let limits = world.draw(|random| {
            let call = Duration::from_millis(random.pick(&[500, 2_000, 10_000]));
            // A place for renewals alone there is from two on.
            let concurrency = random.pick(if has_quiet { &[2, 2, 3, 4, 16] } else { &[1, 2, 3, 4, 16] });
            Limits::new().concurrency(concurrency).batch(random.pick(&[1, 2, 5, 100])).call(call)
        });
        world.trace(format_args!("p{number} has {limits:?}"));
        let store = ProcessStore { world: Arc::clone(world), process: number, limits, keeps_limit: has_quiet };
        let clock = world.draw(|random| ProcessClock {
            start: Instant::now(),
            began: random.millis(0, 1_000_000),
            rate: random.pick(&[1000, 1000, 997, 1003]),
        });
        let runtime_ends = CancellationToken::new();
        let mutex = DbMutex::builder(Arc::new(store))
            .ttl(Duration::from_secs(60))
            .holder(HolderName::new(format!("p{number}")).unwrap())
            .clock(clock)
            .simulated(world.draw(Random::next), runtime_ends.clone())
            .build()
            .unwrap();
        Self { world: Arc::clone(world), number, mutex, limits, runtime_ends, ids: Arc::clone(ids) }
    }

    /// One job after the other.
    pub(crate) async fn work(self, jobs: u64) {
        for _ in 0..jobs {
            let scale = self.world.state().faults.scale;
            let pause = self.world.draw(|random| random.millis(0, scale / 2));
            tokio::time::sleep(pause).await;
            self.job(scale).await;
            if self.world.has_failed() {
                return;
            }
        }
    }

    async fn job(&self, scale: u64) {
        let operation = self.world.next_operation();
        let ttl = self.draw_ttl(scale);
        let (id, keep_alive, at_most, rest, way) = self.world.draw(|random| {
            let id = self.ids[usize::try_from(random.below(self.ids.len() as u64)).unwrap()].clone();
            let at_most = random.chance(15).then(|| random.millis(scale / 2, 3 * scale));
            let rest = random.chance(10).then(|| random.millis(1, scale).min(ttl.duration().unwrap_or(Duration::MAX)));
            (id, random.chance(50), at_most, rest, random.below(100))
        });
        let mut lock = self.mutex.lock(&id).ttl(ttl).keep_alive(keep_alive).label(operation.to_string());
        if let Some(at_most) = at_most {
            lock = lock.hold_at_most(at_most);
        }
        if let Some(rest) = rest {
            lock = lock.hold_at_least(rest);
        }
        let limit = self.world.draw(|random| random.millis(0, 4 * scale));
        let (since, began) = (self.world.now(), self.world.next_event());
        let acquired = match way {
            0..25 => Some(lock.try_acquire().await),
            25..60 => Some(self.wait_in_line(operation, &id, lock.wait(limit), Some(limit)).await),
            60..70 => Some(self.wait_in_line(operation, &id, lock.wait(db_mutex_core::WaitLimit::Forever), None).await),
            _ => {
                // `timeout` drops the future at some await of it.
                let lock = lock.wait(db_mutex_core::WaitLimit::Forever);
                let waiting = self.wait_in_line(operation, &id, lock, None);
                timeout(limit / 4, waiting).await.ok()
            }
        };
        match acquired {
            Some(Ok(guard)) => {
                let watched =
                    Watched { operation, process: self.number, id, ttl, keep_alive, at_most, since: self.world.now() };
                self.hold(guard, watched, scale).await;
            }
            Some(Err(error)) => {
                self.world.trace(format_args!("{operation} gave up: {error}"));
                if is_unexpected(&error) || (60..70).contains(&way) && !is_of_panic(&error) {
                    self.world.violated(format_args!("{operation} (since {since:?}) was answered {error:?}"));
                }
                if error.is_held() {
                    self.world.check_refusal(self.number, operation, &id, began);
                }
                drop(tokio::spawn(check_given_up(Arc::clone(&self.world), self.number, operation, id)));
            }
            None => {
                self.world.trace(format_args!("{operation} was dropped while it waited"));
                drop(tokio::spawn(check_given_up(Arc::clone(&self.world), self.number, operation, id)));
            }
        }
    }

    fn draw_ttl(&self, scale: u64) -> Ttl {
        let shortest = self.world.state().faults.shortest;
        self.world.draw(|random| match random.below(20) {
            0 => Ttl::NEVER,
            1..3 => Ttl::new(Duration::from_secs(4 * 3600)).unwrap(),
            3..7 => Ttl::new(Duration::from_millis(shortest * random.pick(&[1, 2, 10, 50, 300]))).unwrap(),
            _ => Ttl::new(Duration::from_millis(scale * random.between(1, 3))).unwrap(),
        })
    }

    async fn wait_in_line(
        &self,
        operation: u64,
        id: &str,
        lock: Lock,
        limit: Option<Duration>,
    ) -> Result<Guard, Error> {
        let gives_up = limit.map(|limit| self.world.now() + limit);
        let since = self.world.now();
        let waiter = Waiter { operation, process: self.number, id: id.to_owned(), gives_up, since, has_asked: false };
        self.world.trace(format_args!("p{} {operation} waits for {id}, {limit:?}", self.number));
        self.world.state().waiters.push(waiter);
        let _leaves = Leaves { world: &self.world, operation };
        lock.acquire().await
    }

    /// Holds the lock for a while, doing what holders do, and lets it go in one of the ways there are.
    async fn hold(&self, guard: Guard, watched: Watched, scale: u64) {
        let world = &self.world;
        let operation = watched.operation;
        if !guard.is_valid() && watched.at_most.is_none() {
            world.violated(format_args!("{operation} was given `{}` when its lease was over", watched.id));
        }
        let guard = Arc::new(guard);
        world.trace(format_args!(
            "p{} {operation} has {} ({}), {:?} left",
            self.number,
            watched.id,
            watched.ttl,
            guard.remaining()
        ));
        world.state().guards.push(Held {
            operation,
            id: watched.id.clone(),
            owner: *guard.owner_token(),
            guard: Arc::downgrade(&guard),
            awaited_since: None,
        });
        let _forgets = Forgets { world, operation };
        let token = (watched.keep_alive || world.draw(|random| random.chance(60))).then(|| guard.cancel_token());
        drop(tokio::spawn(watch(Arc::clone(world), watched.clone(), token)));
        for _ in 0..world.draw(|random| random.below(4)) {
            self.step(&guard, &watched, scale).await;
        }
        let (way, limit) = world.draw(|random| (random.below(10), random.millis(0, scale)));
        if way == 0
            && (watched.at_most.is_some()
                || !watched.keep_alive && watched.ttl.duration() < Some(Duration::from_secs(3600)))
        {
            self.lost_within(&guard, operation, Duration::from_secs(600)).await;
        }
        let Some(guard) = Arc::into_inner(guard) else { return };
        world.trace(format_args!("p{} {operation} lets {} go, way {way}", self.number, watched.id));
        match way {
            0..5 => {
                let released = guard.release().await;
                if released.as_ref().is_err_and(|error| !error.is_lost() && is_unexpected(error)) {
                    world.violated(format_args!("the release of {operation} was answered {released:?}"));
                }
            }
            5..7 => drop(timeout(limit / 8, guard.release()).await),
            _ => drop(guard),
        }
    }

    async fn step(&self, guard: &Guard, watched: &Watched, scale: u64) {
        let world = &self.world;
        let operation = watched.operation;
        let (step, time) = world.draw(|random| (random.below(10), random.millis(0, 2 * scale)));
        match step {
            0..5 => tokio::time::sleep(time).await,
            5..7 => {
                let ttl = self.draw_ttl(scale);
                world.trace(format_args!("p{} {operation} extends by {ttl}", self.number));
                let extended = timeout(time, guard.extend(ttl)).await;
                world.trace(format_args!(
                    "p{} {operation} extended: {extended:?}, {:?} left",
                    self.number,
                    guard.remaining()
                ));
            }
            7 => {
                let ensured = guard.ensure(time).await;
                world.trace(format_args!("p{} {operation} ensures {time:?}: {ensured:?}", self.number));
                if ensured.is_ok() && guard.remaining().is_some_and(|left| left < time) {
                    world.violated(format_args!("ensure: {operation} has less than {time:?} left"));
                }
            }
            _ => drop(self.lost_within(guard, operation, time).await),
        }
    }

    async fn lost_within(&self, guard: &Guard, operation: u64, limit: Duration) -> Option<LostReason> {
        let note = |since: Option<Duration>| {
            let mut state = self.world.state();
            let held = state.guards.iter_mut().find(|held| held.operation == operation);
            if let Some(held) = held {
                held.awaited_since = since;
            }
        };
        note(Some(self.world.now()));
        let lost = timeout(limit, guard.lost()).await.ok();
        note(None);
        if lost.is_some() && guard.is_valid() {
            self.world.violated(format_args!("{operation} was told {lost:?} and is valid"));
        }
        lost
    }
}

/// Whether an error is neither a refusal nor one that the store has made.
fn is_unexpected(error: &Error) -> bool {
    !(error.is_held() || error.is_transient() || is_of_panic(error))
}

/// Whether the store has panicked, or returned too few answers.
fn is_of_panic(error: &Error) -> bool {
    let Error::Store { source, .. } = error else { return false };
    let message = source.to_string();
    message.contains("panicked") || message.contains("answers to")
}

struct Leaves<'a> {
    world: &'a World,
    operation: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.world.state().waiters.retain(|waiter| waiter.operation != self.operation);
    }
}

struct Forgets<'a> {
    world: &'a World,
    operation: u64,
}

impl Drop for Forgets<'_> {
    fn drop(&mut self) {
        self.world.state().guards.retain(|held| held.operation != self.operation);
    }
}
