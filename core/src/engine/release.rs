//! Background releases: of dropped guards and of abandoned acquisitions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Engine;
use super::dispatch::Dispatch;
use super::job::Asked;
use super::pauses::Pauses;
use crate::values::ClientTime;
use crate::{DeleteRequest, InsertRequest, Inserted, LockId, StoreErrorKind, Ttl};

/// A lock to release in the background.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) request: DeleteRequest,
    /// The insert of the owner that has not returned yet: the delete follows it.
    pub(crate) insert: Option<Asked<Inserted>>,
    /// Whether the store may grant the lock after the delete: the outcome of an insert is not known.
    pub(crate) is_unknown: bool,
    /// When the lease is over in any case; `None` if it never is.
    pub(crate) until: Option<ClientTime>,
}

impl Release {
    /// The latest end of a lease of `ttl` that is granted by now: twice its length, for clocks that differ.
    pub(crate) fn end_of(ttl: Ttl, now: ClientTime) -> Option<ClientTime> {
        ttl.duration().map(|ttl| now + 2 * ttl + Duration::from_secs(1))
    }
}

/// The pending releases, by number.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    pending: Mutex<(u64, BTreeMap<u64, LockId>)>,
    done: Notify,
}

impl Releases {
    /// The ids of the locks that are not released yet.
    pub(crate) fn pending(&self) -> Vec<LockId> {
        self.lock().1.values().cloned().collect()
    }

    /// Waits until all are released.
    pub(crate) async fn drained(&self) {
        loop {
            let done = self.done.notified();
            if self.lock().1.is_empty() {
                return;
            }
            done.await;
        }
    }

    /// Notes that a lock may have to be released.
    pub(crate) fn enter(&self, lock_id: LockId) -> u64 {
        let (last, pending) = &mut *self.lock();
        *last += 1;
        pending.insert(*last, lock_id);
        *last
    }

    /// Notes that the release is done, or not needed.
    pub(crate) fn leave(&self, number: u64) {
        self.lock().1.remove(&number);
        self.done.notify_waiters();
    }

    /// Nothing that can panic runs under this mutex.
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, LockId>)> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Releases a lock in the background. Needs no runtime, so it may be called from `Drop`.
    pub(crate) fn release_soon(self: &Arc<Self>, release: Release) {
        // A forked child has no connections; the locks are its parent's.
        if self.forked().is_some() {
            return;
        }
        let number = self.releases.enter(release.request.lock_id.clone());
        let engine = Arc::clone(self);
        self.runner.spawn(async move {
            let lock_id = release.request.lock_id.clone();
            engine.release(release).await;
            engine.releases.leave(number);
            engine.wait_queues.released(&lock_id);
        });
    }

    /// Abandons the owner token of a request. If the store has granted the lock to it, or may have, the lock is released.
    pub(crate) fn give_up(
        self: &Arc<Self>,
        request: &InsertRequest,
        insert: Option<Asked<Inserted>>,
        is_unknown: bool,
    ) {
        self.release_soon(Release {
            request: DeleteRequest::by_owner(request.lock_id.clone(), request.owner),
            insert,
            is_unknown,
            until: Release::end_of(request.ttl, self.clock.now()),
        });
    }

    /// Repeats the delete until it is done or the lease is over. A delete by owner is harmless to repeat.
    async fn release(&self, release: Release) {
        let Release { request, mut insert, mut is_unknown, mut until } = release;
        let lasts = until.map(|until| until.since(self.clock.now()));
        if let Some(asked) = &mut insert
            && let Some(answered) = self.answer(asked).await
        {
            insert = None;
            is_unknown |= answered.is_repeat;
            match answered.result {
                Ok(Inserted::Held(_) | Inserted::Spent) if !is_unknown => return,
                Err(error) if error.is_undone() && !is_unknown => return,
                Ok(_) => {}
                Err(_) => is_unknown = true,
            }
        }
        let (mut busy, mut failing, mut is_repeat) = (Pauses::while_busy(), Pauses::while_failing(), false);
        loop {
            let send = if is_repeat { Dispatch::ask_again } else { Dispatch::ask };
            let mut asked = send(&self.background, request.clone());
            is_repeat = true;
            // However long it is queued: another request would only make the queue longer.
            let result = asked.answer().await.result;
            let pause = match &result {
                Ok(_) => Duration::ZERO,
                Err(error) if error.kind() == StoreErrorKind::Busy => busy.next(&self.jitter),
                Err(_) => failing.next(&self.jitter),
            };
            let is_over = until.is_some_and(|until| self.clock.now() + pause >= until);
            // Requests of the owner that are still in flight may take effect later, and their lease begins then.
            if (result.is_ok() || is_over)
                && let Some(mut asked) = insert.take()
            {
                let answered = asked.answer().await;
                is_unknown |= answered.result.is_err() || answered.is_repeat;
                until = lasts.map(|lasts| self.clock.now() + lasts);
                continue;
            }
            match result {
                // The server may still work on an insert, but not after the maximum duration of a call.
                Ok(_) if is_unknown => {
                    is_unknown = false;
                    self.time.sleep(self.call).await;
                    continue;
                }
                Ok(_) => return,
                Err(_) if is_over => {
                    let lock_id = &request.lock_id;
                    return tracing::warn!(%lock_id, "a lock could not be released; it ends with its TTL");
                }
                Err(error) => {
                    tracing::debug!(lock_id = %request.lock_id, %error, "a release failed; trying again");
                }
            }
            self.time.sleep(pause).await;
        }
    }
}
