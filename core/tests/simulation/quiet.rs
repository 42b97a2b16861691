use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{Limits, RenewRequest};
use db_mutex_core::{DbMutex, Error, LockId};

use crate::world::World;

/// The lock whose own requests never suffer any fault: the others' trouble must not be its own.
pub(crate) const QUIET: &str = "quiet";

/// How long a release takes at most where nothing is wrong.
const AT_ONCE: Duration = Duration::from_millis(300);

/// Keeps the quiet lock alive for a while, and releases it.
pub(crate) async fn keep_quiet(world: Arc<World>, process: usize, mutex: DbMutex, limits: Limits) {
    let call = limits.call;
    let scale = world.state().faults.scale;
    let (ttl, start, hold, dropped) = world.draw(|random| {
        let ttl = Duration::from_millis(random.pick(&[3_000, 5_000, 10_000, 60_000]));
        (ttl, random.millis(0, 2 * scale), random.millis(scale / 2, 8 * scale + 5_000), random.chance(60))
    });
    tokio::time::sleep(start).await;
    let operation = world.next_operation();
    let lock = mutex.lock(QUIET).ttl(ttl).keep_alive(true).label(operation.to_string());
    // Short turns first, whose requests share calls with those of others.
    for pause in world.draw(|random| [random.millis(0, 50); 5]) {
        tokio::time::sleep(pause).await;
        match lock.clone().try_acquire().await {
            Ok(guard) => check_error(&world, guard.release().await.err()),
            Err(error) => check_error(&world, Some(error)),
        }
    }
    let guard = loop {
        match lock.clone().try_acquire().await {
            Ok(guard) => break guard,
            Err(error) => check_error(&world, Some(error)),
        }
        tokio::time::sleep(ttl / 2).await;
    };
    let since = world.now();
    world.trace(format_args!("p{process} {operation} has {QUIET} ({ttl:?})"));
    let paused_lately = || world.state().processes[process].paused_until + ttl + call >= world.now();
    if let Ok(reason) = tokio::time::timeout(hold, guard.lost()).await {
        if !paused_lately() {
            world.violated(format_args!(
                "G6: `{QUIET}` (since {since:?}, ttl {ttl:?}) was lost: {reason:?}; {limits:?}"
            ));
        }
        return;
    }
    let began = world.now();
    world.trace(format_args!("p{process} {operation} lets {QUIET} go, dropped: {dropped}"));
    let bound = 3 * call + Duration::from_secs(2);
    if dropped {
        drop(guard);
        // While all calls return, a release waits for none of the others, which may have to wait for their settling.
        tokio::time::sleep(AT_ONCE).await;
        let row = world.find(&LockId::new(QUIET).unwrap());
        let had_trouble = world.last_trouble(process) >= began;
        if row.is_some_and(|row| row.is_taken()) && !had_trouble && !paused_lately() {
            world.violated(format_args!("G6: `{QUIET}` was dropped {AT_ONCE:?} ago, without trouble, and is taken"));
        }
        tokio::time::sleep(bound).await;
        let row = world.find(&LockId::new(QUIET).unwrap());
        if row.is_some_and(|row| row.is_taken()) && !paused_lately() {
            world.violated(format_args!("G6: `{QUIET}` was dropped {bound:?} ago and is taken"));
        }
        return;
    }
    let released = guard.release().await;
    let took = world.now() - began;
    if took > bound && !paused_lately() {
        world.violated(format_args!("G6: the release of `{QUIET}` took {took:?}: {released:?}"));
    }
}

/// A renewal that succeeds is not repeated before it is due: no other lock's limit is its own.
pub(crate) fn check_renewal(world: &World, process: usize, request: &RenewRequest) {
    let now = world.now();
    let earlier = world.state().processes[process].quiet_renewed_at.replace(now);
    let (Some(earlier), Some(ttl)) = (earlier, request.ttl.duration()) else { return };
    // After trouble attempts that were late may come together.
    if world.last_trouble(process) + ttl < earlier && now - earlier < ttl / 8 {
        world.violated(format_args!("G6: `{QUIET}` is renewed {:?} after its last renewal", now - earlier));
    }
}

/// A request that the store has done and answered fails only if it could not be sent in time.
fn check_error(world: &World, error: Option<Error>) {
    let Some(Error::Store { source, .. }) = error else { return };
    let message = source.to_string();
    world.trace(format_args!("a request for {QUIET} failed: {message}"));
    if !["did not answer within", "did not answer in time", "have not returned in time", "came too late"]
        .iter()
        .any(|late| message.contains(late))
    {
        world.violated(format_args!("G6: a request for `{QUIET}` failed with another's error: {message}"));
    }
}
