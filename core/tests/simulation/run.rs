use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::LockId;
use db_mutex_core::store::{DeleteRequest, LockStore};
use tokio::task::JoinSet;

use crate::gate::Gated;
use crate::jobs::Process;
use crate::store::ProcessStore;
use crate::world::World;

/// No run needs that long, in its own time: who still waits then waits for ever.
const LIMIT: Duration = Duration::from_secs(3600);

/// Takes the course of one seed; answers the promise that was broken, if one was, and what happened until then.
pub(crate) fn run(seed: u64, traced: bool) -> (Option<String>, Vec<String>) {
    db_mutex_core::repeat_jitter(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let world = World::new(seed, traced);
        if tokio::time::timeout(LIMIT, all(&world)).await.is_err() {
            world.violated(format_args!("somebody waits for ever"));
        }
        world.state().over = true;
        world
    });
    drop(runtime);
    world.result()
}

async fn all(world: &Arc<World>) {
    let (ids, processes) = world.draw(|random| (random.between(1, 3), random.between(2, 3)));
    let ids: Arc<[String]> = (0..ids).map(|number| format!("lock-{number}")).collect();
    let mut tasks = JoinSet::new();
    let mut started = Vec::new();
    for number in 0..usize::try_from(processes).unwrap() {
        let process = Process::start(world, number, &ids);
        for _ in 0..world.draw(|random| random.between(1, 4)) {
            let jobs = world.draw(|random| random.between(1, 4));
            tasks.spawn(Gated::new(world, number, process.clone().work(jobs)));
        }
        started.push(process);
    }
    let operator = tokio::spawn(operate(Arc::clone(world), Arc::clone(&ids), started.len()));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            world.violated(format_args!("a task failed: {error}"));
        }
    }
    operator.abort();
    world.trace(format_args!("all jobs are done"));
    world.state().weather.clear();
    if !world.has_failed() {
        world.check_no_ghosts(&ids).await;
    }
}

/// What comes over the processes from outside.
async fn operate(world: Arc<World>, ids: Arc<[String]>, processes: usize) {
    let scale = world.state().weather.scale;
    let store = ProcessStore { world: Arc::clone(&world), process: 0 };
    if world.draw(|random| random.chance(30)) {
        return;
    }
    loop {
        let pause = world.draw(|random| random.millis(1, 2 * scale));
        tokio::time::sleep(pause).await;
        let (what, time) = world.draw(|random| (random.below(10), random.millis(1, 3 * scale)));
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
                let step = state.weather.step_budget_ms.min(1 + state.random.below(40));
                state.weather.step_budget_ms -= step;
                drop(state);
                world.trace(format_args!("the store's clock steps by {step} ms"));
                world.store_clock.advance(Duration::from_millis(step));
            }
            8 => {
                let id = &ids[usize::try_from(world.draw(|random| random.below(ids.len() as u64))).unwrap()];
                world.trace(format_args!("{id} is released by force"));
                let id = LockId::new(id).unwrap();
                if let Some(row) = world.find(&id) {
                    world.delete(0, &DeleteRequest::by_fence(id, row.fence));
                }
            }
            _ => {
                let purged = store.purge_expired(Duration::ZERO).await;
                world.trace(format_args!("purged: {purged:?}"));
            }
        }
    }
}
