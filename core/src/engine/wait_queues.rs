//! The waiters for each lock, in order of arrival.
//!
//! A background task sends one request at a time for each lock id, on behalf of the first waiter. A refusal applies to all
//! waiters that arrived before the request was sent. So ten thousand waiters cost as much as one, and a waiter whose future
//! is not polled does not delay the others.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Engine;
use super::wait_queue::{Service, Slot, State, WaitQueue, Waiter, serve};
use crate::values::ClientTime;
use crate::{Holder, InsertRequest, Lease, LockId, StoreError, StoreErrorKind};

/// How long the others wait for a waiter whose future is not polled, to collect its grant or to join the queue.
pub(crate) const UNPOLLED_LIMIT: Duration = Duration::from_secs(1);

/// The wait queues, one for each lock id that has waiters.
#[derive(Debug, Default)]
pub(crate) struct WaitQueues {
    queues: Mutex<HashMap<LockId, Arc<WaitQueue>>>,
    tickets: AtomicU64,
}

/// The order of arrival.
pub(crate) type Ticket = u64;

impl WaitQueues {
    /// The next ticket.
    pub(crate) fn ticket(&self) -> Ticket {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a queue for the first request for a lock. `None` if there is a queue, which a newcomer must join.
    pub(crate) fn open(&self, lock_id: &LockId, now: Instant) -> Option<First<'_>> {
        let mut queues = lock(&self.queues);
        if queues.contains_key(lock_id) {
            return None;
        }
        let state = State { opened_until: Some(now + UNPOLLED_LIMIT), ..State::new(now) };
        let queue = Arc::new(WaitQueue { lock_id: lock_id.clone(), state: Mutex::new(state), changed: Notify::new() });
        queues.insert(lock_id.clone(), Arc::clone(&queue));
        Some(First { queues: self, queue })
    }

    /// Removes a queue without waiters, unless a first request keeps it open. Returns whether it has no waiters.
    pub(crate) fn close(&self, queue: &WaitQueue) -> bool {
        let mut queues = lock(&self.queues);
        let mut state = lock(&queue.state);
        let is_empty = state.waiters.is_empty();
        if is_empty {
            state.is_served = false;
            if state.opened_until.is_none()
                && queues.get(&queue.lock_id).is_some_and(|known| std::ptr::eq(&**known, queue))
            {
                queues.remove(&queue.lock_id);
            }
        }
        is_empty
    }

    /// Sends the request of the next waiter at once: the lock was released in this process.
    pub(crate) fn released(&self, lock_id: &LockId) {
        let queue = lock(&self.queues).get(lock_id).cloned();
        if let Some(queue) = queue {
            lock(&queue.state).ask_now = true;
            queue.changed.notify_one();
        }
    }
}

/// The first request for a lock. Others wait for its answer.
#[derive(Debug)]
pub(crate) struct First<'a> {
    queues: &'a WaitQueues,
    queue: Arc<WaitQueue>,
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.queue.state);
        state.opened_until = None;
        let is_served = state.is_served;
        drop(state);
        if is_served {
            self.queue.changed.notify_one();
        } else {
            self.queues.close(&self.queue);
        }
    }
}

/// A waiter that joins a queue.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) ticket: Ticket,
    pub(crate) request: InsertRequest,
    /// When it gives up; never if `None`.
    pub(crate) until: Option<Instant>,
    /// The answer to its own request, before it joined.
    pub(crate) first: Option<KnownRefusal>,
    /// Whether the store may have granted that request.
    pub(crate) is_unknown: bool,
}

/// A lock that a waiter was granted.
#[derive(Debug)]
pub(crate) struct Granted {
    /// The request that was granted. Its owner token may differ from that of the waiter's first request.
    pub(crate) request: InsertRequest,
    pub(crate) lease: Lease,
    pub(crate) sent: ClientTime,
    /// Whether an earlier attempt had an unknown outcome, so that it may still take effect.
    pub(crate) is_unknown: bool,
}

/// Why a waiter was not granted the lock.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    Held(Holder),
    Failed(StoreError),
}

/// A refusal, and when its request was sent.
#[derive(Debug, Clone)]
pub(crate) struct KnownRefusal {
    pub(crate) refusal: Refusal,
    asked_at: Instant,
    /// When the lease in it ends, unless it is renewed or released.
    lasts_until: Option<ClientTime>,
}

impl KnownRefusal {
    /// A refusal of a request that was sent at `asked_at`, which is `sent` on the client's clock.
    pub(crate) fn new(refusal: Refusal, asked_at: Instant, sent: ClientTime) -> Self {
        let lasts = match &refusal {
            Refusal::Held(holder) => holder.expires_in,
            Refusal::Failed(_) => None,
        };
        Self { refusal, asked_at, lasts_until: lasts.map(|lasts| sent + lasts) }
    }

    /// Whether a waiter whose limit was `limit` can be refused with it at `now`. The store may be down since, and the lock
    /// free.
    pub(crate) fn counts(&self, limit: Instant, now: ClientTime) -> bool {
        self.asked_at >= limit || self.lasts_until.is_none_or(|end| now < end)
    }
}

impl Engine {
    /// Joins the wait queue of a lock.
    pub(crate) fn join(self: &Arc<Self>, joining: Joining) -> Place {
        let Joining { ticket, request, until, first, is_unknown } = joining;
        let lock_id = request.lock_id.clone();
        let mut queues = lock(&self.wait_queues.queues);
        let queue = queues.entry(lock_id.clone()).or_insert_with(|| {
            Arc::new(WaitQueue { lock_id, state: Mutex::new(State::new(self.time.now())), changed: Notify::new() })
        });
        let queue = Arc::clone(queue);
        let mut state = lock(&queue.state);
        let is_served = std::mem::replace(&mut state.is_served, true);
        if first.is_some() {
            // After its own request, the next one follows after a pause.
            state.ask_at = self.time.now() + state.held.next(&self.jitter);
        }
        let waiter = Waiter { request, until, first, is_unknown, slot: Slot::Waiting, waker: None, pending: None };
        state.waiters.insert(ticket, waiter);
        state.limits.extend(until.map(|until| (until, ticket)));
        drop(state);
        drop(queues);
        if is_served {
            queue.changed.notify_one();
        } else {
            self.runner.spawn(serve(Service::new(self, &queue)));
        }
        Place { engine: Arc::clone(self), queue, ticket }
    }
}

/// A place in a wait queue. Dropping it leaves the queue; a lock that was granted meanwhile is released.
#[derive(Debug)]
pub(crate) struct Place {
    engine: Arc<Engine>,
    queue: Arc<WaitQueue>,
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
        let mut state = lock(&self.queue.state);
        let Some(waiter) = state.waiters.get_mut(&self.ticket) else {
            let message = "the waiting ended, because the background of the mutex has ended";
            let failed = StoreError::new(StoreErrorKind::Other, message);
            return Poll::Ready(Err(Refusal::Failed(failed)));
        };
        match std::mem::replace(&mut waiter.slot, Slot::Waiting) {
            Slot::Granted(granted) => {
                state.leave(self.ticket);
                drop(state);
                self.queue.changed.notify_one();
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
                    self.queue.changed.notify_one();
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
        let mut state = lock(&self.queue.state);
        let asking = state.asking == Some(self.ticket);
        let Some(waiter) = state.waiters.get_mut(&self.ticket) else { return };
        let slot = std::mem::replace(&mut waiter.slot, Slot::Gone);
        waiter.waker = None;
        if asking {
            // The answer to the request in flight decides whether a lock has to be released.
            waiter.pending = Some(self.engine.releases.enter(self.queue.lock_id.clone()));
        }
        let left = if asking { None } else { state.leave(self.ticket) };
        drop(state);
        self.queue.changed.notify_one();
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
