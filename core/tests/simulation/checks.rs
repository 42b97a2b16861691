use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::InsertRequest;
use db_mutex_core::{Guard, LockId, LostReason, OwnerToken, Ttl};
use tokio_util::sync::CancellationToken;

use crate::world::{Waiter, World};

/// Timers wake up to a millisecond late, and a client's clock may run faster than they do.
const SLACK: Duration = Duration::from_millis(8);

/// The longest time that a call may take.
pub(crate) const LONGEST_CALL: Duration = Duration::from_secs(10);

/// How long the reason for a loss is looked for.
const FINDING_OUT: Duration = Duration::from_millis(250);

/// What the watcher of one guard has to know.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) operation: u64,
    pub(crate) process: usize,
    pub(crate) id: String,
    pub(crate) ttl: Ttl,
    pub(crate) keep_alive: bool,
    pub(crate) at_most: Option<Duration>,
    pub(crate) since: Duration,
}

impl World {
    /// Queue order: only the first of a process's waiters asks. A question that takes long does not hold up the others.
    pub(crate) fn check_line(&self, process: usize, request: &InsertRequest) {
        let now = self.now();
        let Some(operation) = operation_of(request) else { return };
        self.trace(format_args!("p{process} {} asks for {}", request.holder, request.lock_id));
        let state = self.state();
        let id = request.lock_id.as_str();
        // An attempt that does not wait is not queued. One whose limit is over may ask a last time.
        let in_line = |waiter: &&Waiter| {
            waiter.process == process && waiter.id == id && waiter.gives_up.is_none_or(|at| at > now)
        };
        let is_slow = |waiter: &&Waiter| {
            // A question that has not even been sent is slow as well.
            let since = state.asking.get(&waiter.operation).or((!waiter.has_asked).then_some(&waiter.since));
            since.is_some_and(|since| now.saturating_sub(*since) >= Duration::from_secs(1))
        };
        let waiters = state.waiters.iter().filter(in_line).filter(|waiter| !is_slow(waiter));
        let mut line = waiters.map(|waiter| waiter.operation);
        let first = line.next().filter(|first| *first != operation && line.any(|other| other == operation));
        drop(state);
        if let Some(first) = first {
            self.violated(format_args!("queue order: {operation} asks for `{id}` while {first} stands before it"));
        }
    }

    /// G8: "held" is the answer to a question that was sent after the call began.
    pub(crate) fn check_refusal(&self, process: usize, operation: u64, id: &str, began: u64) {
        let last = self.state().refusals.get(&(process, id.to_owned())).copied();
        if last.is_none_or(|sent| sent < began) {
            self.violated(format_args!(
                "G8: {operation} was told that `{id}` is held, and no question of its time was"
            ));
        }
    }

    /// G2: at a grant, no other guard may still be valid.
    pub(crate) fn check_no_one_else_believes(&self, id: &str, owner: OwnerToken) {
        let state = self.state();
        let believer = state.guards.iter().find(|held| {
            held.id == id
                && held.owner != owner
                && held
                    .guard
                    .upgrade()
                    .is_some_and(|guard| guard.is_valid() && !state.ledger.was_forced(id, guard.fence().get()))
        });
        let believer = believer.map(|held| held.operation);
        drop(state);
        if let Some(operation) = believer {
            self.violated(format_args!("G2: `{id}` was granted while the guard of {operation} is valid"));
        }
    }

    /// A guard may believe in its lease only while the store keeps it.
    fn check_belief(&self, watched: &Watched, guard: &Guard) {
        let now = self.store_now();
        let state = self.state();
        let fence = guard.fence().get();
        let right =
            state.ledger.holds(&watched.id, *guard.owner_token(), now) || state.ledger.was_forced(&watched.id, fence);
        drop(state);
        if guard.is_valid() && !right {
            self.violated(format_args!("G2: guard of {} is valid, but its lease is over", watched.operation));
        }
        let held_for = self.now() - watched.since;
        if guard.is_valid() && watched.at_most.is_some_and(|at_most| held_for > at_most + at_most / 100 + SLACK) {
            self.violated(format_args!(
                "{} holds `{}` for {held_for:?}, which is too long",
                watched.operation, watched.id
            ));
        }
    }

    /// A lease that is kept alive may be lost for a reason only.
    fn check_reason(&self, watched: &Watched, guard: &Guard) {
        let Some(ttl) = watched.ttl.duration() else { return };
        let reason = guard.lost_reason();
        let now = self.now();
        let state = self.state();
        let forced = state.ledger.was_forced(&watched.id, guard.fence().get());
        drop(state);
        let trouble_at = self.last_trouble(watched.process).max(watched.since);
        self.trace(format_args!("{} has lost `{}`: {reason:?}", watched.operation, watched.id));
        let excused = !watched.keep_alive || forced || reason == Some(LostReason::HeldTooLong);
        // One attempt that was under way, one pause before the next, and its way.
        let enough = ttl / 6 + (ttl / 20).clamp(Duration::from_millis(10), Duration::from_secs(5)) + 4 * SLACK;
        if !excused && now.saturating_sub(trouble_at) > enough {
            self.violated(format_args!(
                "renewal: {} lost `{}` ({reason:?}) though the store has answered since {:.3} s",
                watched.operation,
                watched.id,
                trouble_at.as_secs_f64()
            ));
        }
    }

    /// Ghosts: without holders every id is free again, even with a long TTL.
    pub(crate) async fn check_no_ghosts(&self, ids: &[String], call: Duration) {
        for id in ids {
            let lock_id = LockId::new(id).unwrap();
            let mut waited = Duration::ZERO;
            // A lock that rests has no owner, and ends by itself.
            while self.find(&lock_id).is_some_and(|row| row.owned && row.is_taken()) {
                if waited > settling(call) {
                    self.violated(format_args!("ghost: `{id}` is taken though no one has it"));
                    return;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                waited += Duration::from_millis(500);
                // A process that pauses releases nothing, and neither does one that finds the row locked.
                let now = self.now();
                if self.state().processes.iter().any(|process| process.paused_until.max(process.trouble_at) > now) {
                    waited = Duration::ZERO;
                }
            }
        }
    }
}

/// How long it takes until an acquisition that was given up has left nothing: an attempt at the insert, two deletes with the
/// time of a call between them, and pauses.
fn settling(call: Duration) -> Duration {
    5 * call + Duration::from_secs(10)
}

/// G8: an operation that did not get the lock leaves nothing taken, once its attempts are settled.
pub(crate) async fn check_given_up(world: Arc<World>, process: usize, operation: u64, id: String) {
    let gave_up = world.now();
    tokio::time::sleep(settling(LONGEST_CALL)).await;
    if world.state().over || world.last_trouble(process) >= gave_up {
        return;
    }
    if world.holder(&id) == Some(operation) {
        world.violated(format_args!("G8: {operation} gave `{id}` up at {gave_up:?}, and has it"));
    }
}

/// Watches one guard until it is gone or lost.
pub(crate) async fn watch(world: Arc<World>, watched: Watched, token: Option<CancellationToken>) {
    loop {
        let Some(guard) = guard_of(&world, &watched) else { return };
        world.check_belief(&watched, &guard);
        let left = guard.remaining();
        if left == Some(Duration::ZERO) {
            break;
        }
        drop(guard);
        let pause = left.unwrap_or(Duration::MAX).clamp(Duration::from_millis(1), Duration::from_millis(500));
        match &token {
            Some(token) => tokio::select! {
                biased;
                () = token.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            },
            None => tokio::time::sleep(pause).await,
        }
    }
    if let Some(guard) = guard_of(&world, &watched)
        && watched.keep_alive
    {
        world.check_reason(&watched, &guard);
    }
    let over_at = world.now();
    tokio::time::sleep(SLACK).await;
    let Some(guard) = guard_of(&world, &watched) else { return };
    if guard.remaining() != Some(Duration::ZERO) {
        world.violated(format_args!("the guard of {} was lost and is valid again", watched.operation));
    }
    if token.is_some_and(|token| !token.is_cancelled()) {
        world.violated(format_args!("lost signal: the token of {} was not cancelled in time", watched.operation));
    }
    drop(guard);
    // `lost()` may have to find out why.
    tokio::time::sleep(FINDING_OUT).await;
    if guard_of(&world, &watched).is_none() {
        return;
    }
    let awaited_since = {
        let state = world.state();
        state.guards.iter().find(|held| held.operation == watched.operation).and_then(|held| held.awaited_since)
    };
    let paused = world.state().processes[watched.process].paused_until + SLACK > over_at;
    if !paused && awaited_since.is_some_and(|since| since <= over_at) {
        world.violated(format_args!("lost signal: `lost()` of {} did not return in time", watched.operation));
    }
}

fn guard_of(world: &World, watched: &Watched) -> Option<Arc<Guard>> {
    if world.state().over {
        return None;
    }
    let state = world.state();
    state.guards.iter().find(|held| held.operation == watched.operation)?.guard.upgrade()
}

/// The number of the operation that asks.
pub(crate) fn operation_of(request: &InsertRequest) -> Option<u64> {
    request.holder.as_str().rsplit(' ').next()?.parse().ok()
}
