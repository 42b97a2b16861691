//! The waiters for a lock, in the order in which they came.
//!
//! The background asks for them: one question at a time for each lock id, in the name of the first waiter; the answer serves
//! all who came before it was sent. So ten thousand waiters cost as much as one, and a waiter whose future is not polled
//! delays no one.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Engine;
use super::line::{Line, Service, Slot, State, Waiter, serve};
use crate::values::ClientTime;
use crate::{Holder, InsertRequest, Lease, LockId, StoreError, StoreErrorKind};

/// How long the others wait for a waiter whose future is not polled: to collect its grant, or to join the line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The lines, one for each lock id for which anyone waits.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: Mutex<HashMap<LockId, Arc<Line>>>,
    tickets: AtomicU64,
}

/// The order of arrival.
pub(crate) type Ticket = u64;

impl Queue {
    /// The next ticket.
    pub(crate) fn ticket(&self) -> Ticket {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a line for the first who asks for a lock; `None` if there is one, in which a newcomer has to queue.
    pub(crate) fn open(&self, lock_id: &LockId, now: Instant) -> Option<First<'_>> {
        let mut lines = lock(&self.lines);
        if lines.contains_key(lock_id) {
            return None;
        }
        let state = State { opened_until: Some(now + PATIENCE), ..State::new(now) };
        let line = Arc::new(Line { lock_id: lock_id.clone(), state: Mutex::new(state), changed: Notify::new() });
        lines.insert(lock_id.clone(), Arc::clone(&line));
        Some(First { queue: self, line })
    }

    /// Removes a line in which no one waits, and that no one has opened; returns whether no one waits.
    pub(crate) fn close(&self, line: &Line) -> bool {
        let mut lines = lock(&self.lines);
        let mut state = lock(&line.state);
        let is_empty = state.waiters.is_empty();
        if is_empty {
            state.is_served = false;
            if state.opened_until.is_none()
                && lines.get(&line.lock_id).is_some_and(|known| std::ptr::eq(&**known, line))
            {
                lines.remove(&line.lock_id);
            }
        }
        is_empty
    }

    /// Asks for the next waiter at once: the lock was released in this process.
    pub(crate) fn released(&self, lock_id: &LockId) {
        let line = lock(&self.lines).get(lock_id).cloned();
        if let Some(line) = line {
            lock(&line.state).ask_now = true;
            line.changed.notify_one();
        }
    }
}

/// The first who asks for a lock. Others queue behind its question.
#[derive(Debug)]
pub(crate) struct First<'a> {
    queue: &'a Queue,
    line: Arc<Line>,
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.line.state);
        state.opened_until = None;
        let is_served = state.is_served;
        drop(state);
        if is_served {
            self.line.changed.notify_one();
        } else {
            self.queue.close(&self.line);
        }
    }
}

/// A waiter that joins a line.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) ticket: Ticket,
    pub(crate) request: InsertRequest,
    /// When it gives up; never if `None`.
    pub(crate) until: Option<Instant>,
    /// The answer to a question of its own, before it joined.
    pub(crate) first: Option<Refusal>,
    /// Whether the store may have granted that question.
    pub(crate) is_unknown: bool,
}

/// A lock that a waiter was granted.
#[derive(Debug)]
pub(crate) struct Granted {
    /// The request that was granted: the owner may be another than that of the waiter's first.
    pub(crate) request: InsertRequest,
    pub(crate) lease: Lease,
    pub(crate) sent: ClientTime,
    /// Whether an attempt before had an unknown outcome, so that it may still take effect.
    pub(crate) is_unknown: bool,
}

/// Why a waiter was not granted the lock.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    Held(Holder),
    Failed(StoreError),
}

impl Engine {
    /// Joins the line for a lock.
    pub(crate) fn join(self: &Arc<Self>, joining: Joining) -> Place {
        let Joining { ticket, request, until, first, is_unknown } = joining;
        let lock_id = request.lock_id.clone();
        let mut lines = lock(&self.queue.lines);
        let line = lines.entry(lock_id.clone()).or_insert_with(|| {
            Arc::new(Line { lock_id, state: Mutex::new(State::new(self.time.now())), changed: Notify::new() })
        });
        let line = Arc::clone(line);
        let mut state = lock(&line.state);
        let is_served = std::mem::replace(&mut state.is_served, true);
        if first.is_some() {
            // After a question of its own the next comes after a pause.
            state.ask_at = self.time.now() + state.held.next(&self.jitter);
        }
        let waiter = Waiter { request, until, first, is_unknown, slot: Slot::Waiting, waker: None, pending: None };
        state.waiters.insert(ticket, waiter);
        state.limits.extend(until.map(|until| (until, ticket)));
        drop(state);
        drop(lines);
        if is_served {
            line.changed.notify_one();
        } else {
            self.runner.spawn(serve(Service::new(self, &line)));
        }
        Place { engine: Arc::clone(self), line, ticket }
    }
}

/// A place in a line. Dropping it leaves the line; what was granted meanwhile is released.
#[derive(Debug)]
pub(crate) struct Place {
    engine: Arc<Engine>,
    line: Arc<Line>,
    ticket: Ticket,
}

impl Place {
    /// Waits for the lock.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the waiter keeps its place until `self` is dropped.
    pub(crate) async fn granted(&mut self) -> Result<Granted, Refusal> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Granted, Refusal>> {
        let mut state = lock(&self.line.state);
        let Some(waiter) = state.waiters.get_mut(&self.ticket) else {
            let message = "the waiting ended, because the background of the mutex has ended";
            let failed = StoreError::new(StoreErrorKind::Other, message);
            return Poll::Ready(Err(Refusal::Failed(failed)));
        };
        match std::mem::replace(&mut waiter.slot, Slot::Waiting) {
            Slot::Granted(granted) => {
                state.leave(self.ticket);
                drop(state);
                self.line.changed.notify_one();
                Poll::Ready(Ok(granted))
            }
            Slot::Refused(refusal) => {
                waiter.slot = Slot::Gone;
                Poll::Ready(Err(refusal))
            }
            slot => {
                waiter.waker = Some(context.waker().clone());
                if matches!(slot, Slot::Asleep) {
                    drop(state);
                    self.line.changed.notify_one();
                }
                Poll::Pending
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a forked child another thread of the parent may have held the mutex.
        if self.engine.forked().is_some() {
            return;
        }
        let mut state = lock(&self.line.state);
        let asking = state.asking == Some(self.ticket);
        let Some(waiter) = state.waiters.get_mut(&self.ticket) else { return };
        let slot = std::mem::replace(&mut waiter.slot, Slot::Gone);
        waiter.waker = None;
        if asking {
            // The answer to the question under way decides what is to be released; until then something may be.
            waiter.pending = Some(self.engine.releases.enter(self.line.lock_id.clone()));
        }
        let left = if asking { None } else { state.leave(self.ticket) };
        drop(state);
        self.line.changed.notify_one();
        if let Slot::Granted(granted) = slot {
            self.engine.give_up(&granted.request, None, granted.is_unknown);
        } else if let Some(waiter) = left.filter(|waiter| waiter.is_unknown) {
            self.engine.give_up(&waiter.request, None, true);
        }
    }
}

/// The error of an owner token that could not be made.
pub(crate) fn no_random_numbers(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::new(StoreErrorKind::Other, "the operating system gave no random numbers").with_source(error)
}

/// Nothing that can panic runs under these mutexes.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
