use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::engine::queue::Queue;
use crate::{DeleteRequest, LockId, LockStore, PendingDelete};

/// Deletes what nobody waits for any more: the lock of a dropped guard, the grant of a dropped `acquire`.
///
/// [`release_soon`](Self::release_soon) is one non-blocking send, so it may be called from `Drop`, with a runtime or
/// without. The receiver is the store's own thread if it has one, else a task of the runtime in which a lock was acquired.
/// What neither can do ends with its TTL.
#[derive(Debug)]
pub(crate) struct Releaser {
    store: Arc<dyn LockStore>,
    task: Mutex<Option<UnboundedSender<PendingDelete>>>,
    outstanding: Arc<Outstanding>,
}

impl Releaser {
    pub(crate) fn new(store: Arc<dyn LockStore>, queue: Arc<Queue>) -> Self {
        let outstanding = Outstanding { locks: Mutex::default(), changed: Notify::new(), queue };
        Self { store, task: Mutex::new(None), outstanding: Arc::new(outstanding) }
    }

    /// Starts the task if there is none, or none any more because its runtime is gone. Called where locks are acquired:
    /// a `Drop` must not spawn.
    pub(crate) fn ensure_task(&self) {
        let mut task = lock(&self.task);
        if task.as_ref().is_some_and(|sender| !sender.is_closed()) {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let (sender, receiver) = unbounded_channel();
            runtime.spawn(delete_all(Arc::clone(&self.store), receiver));
            *task = Some(sender);
        }
    }

    /// Sees to it that the lock is released, without waiting.
    pub(crate) fn release_soon(&self, request: DeleteRequest) {
        let Err(delete) = self.store.delete_soon(self.outstanding.enter(request)) else { return };
        let unsent = match lock(&self.task).as_ref() {
            Some(sender) => sender.send(delete).map_err(|unsent| unsent.0),
            None => Err(delete),
        };
        if let Err(delete) = unsent {
            let lock_id = &delete.request().lock_id;
            tracing::warn!(%lock_id, "no runtime is left to release the lock; it stays until its ttl");
        }
    }

    /// Waits until nothing is outstanding, at most for `limit`, and answers which locks still are.
    pub(crate) async fn drain(&self, limit: Duration) -> Vec<LockId> {
        let drained = async {
            loop {
                let changed = self.outstanding.changed.notified();
                if lock(&self.outstanding.locks).1.is_empty() {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(limit, drained).await;
        lock(&self.outstanding.locks).1.values().cloned().collect()
    }
}

/// The deletes under way, by number.
#[derive(Debug)]
struct Outstanding {
    locks: Mutex<(u64, BTreeMap<u64, LockId>)>,
    changed: Notify,
    /// Whoever waits for such a lock in this process is woken when it is free.
    queue: Arc<Queue>,
}

impl Outstanding {
    fn enter(self: &Arc<Self>, request: DeleteRequest) -> PendingDelete {
        let (last, locks) = &mut *lock(&self.locks);
        *last += 1;
        locks.insert(*last, request.lock_id.clone());
        let (number, outstanding) = (*last, Arc::clone(self));
        PendingDelete::new(request, move |request| outstanding.done(number, &request.lock_id))
    }

    fn done(&self, number: u64, lock_id: &LockId) {
        lock(&self.locks).1.remove(&number);
        self.changed.notify_waiters();
        self.queue.released(lock_id);
    }
}

async fn delete_all(store: Arc<dyn LockStore>, mut deletes: UnboundedReceiver<PendingDelete>) {
    while let Some(delete) = deletes.recv().await {
        delete_patiently(&*store, delete.request()).await;
    }
}

/// A delete by owner is harmless to repeat, so a store that is away does not cost the whole TTL, however long it is away.
async fn delete_patiently(store: &dyn LockStore, request: &DeleteRequest) {
    let mut pause = Duration::from_millis(50);
    loop {
        match store.delete(request).await {
            Ok(_) => return,
            Err(error) if error.is_transient() => {
                tracing::debug!(lock_id = %request.lock_id, %error, "release failed; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            Err(error) => {
                tracing::warn!(lock_id = %request.lock_id, %error, "release failed; the lock stays until its ttl");
                return;
            }
        }
    }
}

/// Nothing that can panic runs under these mutexes.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
