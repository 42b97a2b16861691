use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Limits, LockStore};
use db_mutex_core::{CancellationToken, LockId};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use crate::gate::Gated;
use crate::jobs::Process;
use crate::quiet::keep_quiet;
use crate::store::ProcessStore;
use crate::world::World;

/// No run needs that long, in its own time: a task that still waits then waits forever.
const LIMIT: Duration = Duration::from_secs(3600);

/// Runs the scenario of one seed. Returns the promise that was broken, if one was, and what happened until then.
pub(crate) fn run(seed: u64, traced: bool) -> (Option<String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let world = World::new(seed, traced);
        if tokio::time::timeout(LIMIT, all(&world)).await.is_err() {
            world.violated(format_args!("a task waits forever"));
        }
        world.state().over = true;
        world
    });
    drop(runtime);
    world.result()
}

async fn all(world: &Arc<World>) {
    let (ids, processes) = world.draw(|random| (random.pick(&[1, 1, 2, 3, 3, 6, 10]), random.between(2, 3)));
    let ids: Arc<[String]> = (0..ids).map(|number| format!("lock-{number}")).collect();
    let mut tasks = JoinSet::new();
    let (mut started, mut ending) = (Vec::new(), Vec::new());
    for number in 0..usize::try_from(processes).unwrap() {
        let has_quiet = number == 0 && world.draw(|random| random.chance(50));
        let process = Process::start(world, number, &ids, has_quiet);
        let ends = world.draw(|random| random.chance(15));
        let mut first = FirstRuntime { process: number, ends: process.runtime_ends.clone(), tasks: Vec::new() };
        for _ in 0..world.draw(|random| random.pick(&[1, 1, 2, 3, 6])) {
            let jobs = world.draw(|random| random.between(1, 4));
            let task = tasks.spawn(Gated::new(world, number, process.clone().work(jobs)));
            if ends && world.draw(|random| random.chance(70)) {
                first.tasks.push(task);
            }
        }
        if ends {
            ending.push(tokio::spawn(first.ends(Arc::clone(world))));
        }
        if has_quiet {
            let mutex = process.mutex.clone();
            let quiet = keep_quiet(Arc::clone(world), number, mutex, process.limits);
            tasks.spawn(Gated::new(world, number, quiet));
        }
        started.push(process);
    }
    let operator = tokio::spawn(operate(Arc::clone(world), Arc::clone(&ids), started.len()));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && !error.is_cancelled()
        {
            world.violated(format_args!("a task failed: {error}"));
        }
    }
    operator.abort();
    ending.iter().for_each(JoinHandle::abort);
    world.trace(format_args!("all jobs are done"));
    world.state().faults.clear();
    if !world.has_failed() {
        let call = started.iter().map(|process| process.limits.call).max().unwrap_or_default();
        world.check_no_ghosts(&ids, call).await;
    }
}

/// The runtime in which the mutex of a process was first used. The process has another, which goes on.
struct FirstRuntime {
    process: usize,
    ends: CancellationToken,
    tasks: Vec<AbortHandle>,
}

impl FirstRuntime {
    /// Ends at some time, with its tasks and the requests that these have sent.
    async fn ends(self, world: Arc<World>) {
        let scale = world.state().faults.scale;
        let lasts = world.draw(|random| random.millis(1, 8 * scale));
        tokio::time::sleep(lasts).await;
        world.trace(format_args!("p{} loses its first runtime, with {} tasks", self.process, self.tasks.len()));
        world.trouble(self.process);
        self.ends.cancel();
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What comes over the processes from outside.
async fn operate(world: Arc<World>, ids: Arc<[String]>, processes: usize) {
    let scale = world.state().faults.scale;
    let store = ProcessStore { world: Arc::clone(&world), process: 0, limits: Limits::new(), keeps_limit: true };
    if world.draw(|random| random.chance(30)) {
        return;
    }
    loop {
        let pause = world.draw(|random| random.millis(1, 2 * scale));
        tokio::time::sleep(pause).await;
        let (what, time) = world.draw(|random| (random.below(12), random.millis(1, 3 * scale)));
        match what {
            0..4 => {
                let process = usize::try_from(world.draw(|random| random.below(processes as u64))).unwrap();
                let until = world.now() + time;
                world.trace(format_args!("p{process} pauses for {time:?}"));
                let process = &mut world.state().processes[process];
                process.paused_until = until.max(process.paused_until);
                process.trouble_at = until.max(process.trouble_at);
            }
            4..8 => {
                world.store_now();
                let mut state = world.state();
                let step = state.faults.step_budget_ms.min(1 + state.random.below(40));
                state.faults.step_budget_ms -= step;
                drop(state);
                world.trace(format_args!("the store's clock steps by {step} ms"));
                world.store_clock.advance(Duration::from_millis(step));
            }
            8 => {
                let id = &ids[usize::try_from(world.draw(|random| random.below(ids.len() as u64))).unwrap()];
                world.trace(format_args!("{id} is released by force"));
                let id = LockId::new(id).unwrap();
                if let Some(row) = world.find(&id) {
                    let _ = world.delete(0, &DeleteRequest::by_fence(id, row.fence));
                }
            }
            9..11 => {
                let id = &ids[usize::try_from(world.draw(|random| random.below(ids.len() as u64))).unwrap()];
                let time = time / 3;
                world.trace(format_args!("the row of {id} is locked for {time:?}"));
                let locked = world.memory.lock_row(&LockId::new(id).unwrap());
                (0..processes).for_each(|process| world.trouble_until(process, world.now() + time));
                drop(tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    drop(locked);
                }));
            }
            _ => {
                let purged = store.purge_expired(Duration::ZERO).await;
                world.trace(format_args!("purged: {purged:?}"));
            }
        }
    }
}
