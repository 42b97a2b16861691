use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::{Holder, LockId};

/// The waiters of a process, in a line for each lock id, in the order in which they came.
///
/// Only the head of a line talks to the store, however many stand behind it; and a release in this process wakes it at
/// once. Who does not wait has nothing to do with any of this.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: Mutex<HashMap<LockId, Weak<Line>>>,
    /// How many stand in lines: a release where nobody waits looks no further.
    waiters: AtomicUsize,
}

#[derive(Debug)]
struct Line {
    head: Arc<Semaphore>,
    released: Notify,
    /// What the head was told last, until somebody is granted the lock.
    refusal: Mutex<Option<Refusal>>,
}

#[derive(Debug)]
struct Refusal {
    holder: Holder,
    /// When to ask again, whoever is the head by then.
    ask_again: Instant,
}

impl Queue {
    /// Joins the line for a lock.
    pub(crate) fn join(self: &Arc<Self>, lock_id: &LockId) -> Place {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut lines = lock(&self.lines);
        let line = lines.get(lock_id).and_then(Weak::upgrade).unwrap_or_else(|| {
            let head = Arc::new(Semaphore::new(1));
            let line = Arc::new(Line { head, released: Notify::new(), refusal: Mutex::new(None) });
            lines.insert(lock_id.clone(), Arc::downgrade(&line));
            line
        });
        drop(lines);
        Place { queue: Arc::clone(self), lock_id: lock_id.clone(), line, head: None }
    }

    /// Wakes the head of the line: the lock was released in this process.
    pub(crate) fn released(&self, lock_id: &LockId) {
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(line) = lock(&self.lines).get(lock_id).and_then(Weak::upgrade) {
            line.released.notify_one();
        }
    }
}

/// A place in a line. Dropping it leaves the line at once.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<Queue>,
    lock_id: LockId,
    line: Arc<Line>,
    head: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Waits until it is the head of the line, at most for `limit`, and answers whether it is.
    ///
    /// # Cancellation safety
    /// Nothing is lost when the future is dropped but the place, with `self`.
    pub(crate) async fn become_head(&mut self, limit: Option<Duration>) -> bool {
        // Served in the order of asking.
        let head = Arc::clone(&self.line.head).acquire_owned();
        let head = match limit {
            Some(limit) => tokio::time::timeout(limit, head).await.ok(),
            None => Some(head.await),
        };
        self.head = head.and_then(Result::ok);
        self.head.is_some()
    }

    /// Tells those behind who stands in the way, and that there is nothing to ask before `pause` is over; answers whether
    /// that is somebody new.
    pub(crate) fn refused(&self, holder: &Holder, pause: Duration) -> bool {
        let refusal = Refusal { holder: holder.clone(), ask_again: Instant::now() + pause };
        let before = lock(&self.line.refusal).replace(refusal);
        before.is_none_or(|before| before.holder.fence != holder.fence)
    }

    /// Says that what was told before is over: the lock was granted here.
    pub(crate) fn granted(&self) {
        *lock(&self.line.refusal) = None;
    }

    /// Who stood in the way when the head asked last.
    pub(crate) fn holder(&self) -> Option<Holder> {
        lock(&self.line.refusal).as_ref().map(|refusal| refusal.holder.clone())
    }

    /// How long there is nothing to ask, because a head before has just asked.
    pub(crate) fn rest(&self) -> Duration {
        let refusal = lock(&self.line.refusal);
        refusal.as_ref().map_or(Duration::ZERO, |refusal| refusal.ask_again.saturating_duration_since(Instant::now()))
    }

    /// Waits until the lock is released in this process; one release before the call counts too.
    pub(crate) async fn released_here(&self) {
        self.line.released.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.waiters.fetch_sub(1, Ordering::SeqCst);
        let mut lines = lock(&self.queue.lines);
        if Arc::strong_count(&self.line) == 1 {
            lines.remove(&self.lock_id);
        }
    }
}

/// Nothing that can panic runs under these mutexes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> LockId {
        LockId::new("job").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_served_in_order_and_those_who_leave_are_forgotten() {
        let queue = Arc::new(Queue::default());
        let mut first = queue.join(&id());
        assert!(first.become_head(None).await);
        let mut second = queue.join(&id());
        let mut third = queue.join(&id());
        let leaving = tokio::time::timeout(Duration::from_secs(1), second.become_head(None)).await;
        assert!(leaving.is_err());
        drop(second);
        assert!(!third.become_head(Some(Duration::from_secs(1))).await);
        drop(first);
        assert!(third.become_head(Some(Duration::ZERO)).await);
        drop(third);
        assert!(lock(&queue.lines).is_empty());
        assert_eq!(queue.waiters.load(Ordering::SeqCst), 0);
    }
}
