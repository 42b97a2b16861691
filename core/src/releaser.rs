use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{DeleteRequest, LockStore};

/// Deletes what nobody waits for any more: the lock of a dropped guard, the grant of a dropped `acquire`.
///
/// [`release_soon`](Self::release_soon) is one non-blocking send, so it may be called from `Drop`, with a runtime or
/// without. The receiver is the store's own thread if it has one, else a task of the runtime in which a lock was acquired.
/// What neither can do ends with its TTL.
#[derive(Debug)]
pub(crate) struct Releaser {
    store: Arc<dyn LockStore>,
    task: Mutex<Option<UnboundedSender<DeleteRequest>>>,
}

impl Releaser {
    pub(crate) fn new(store: Arc<dyn LockStore>) -> Self {
        Self { store, task: Mutex::new(None) }
    }

    /// Starts the task if there is none, or none any more because its runtime is gone. Called where locks are acquired:
    /// a `Drop` must not spawn.
    pub(crate) fn ensure_task(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
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
        let Err(request) = self.store.delete_soon(request) else { return };
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let unsent = match task.as_ref() {
            Some(sender) => sender.send(request).map_err(|unsent| unsent.0),
            None => Err(request),
        };
        if let Err(request) = unsent {
            tracing::warn!(lock_id = %request.lock_id, "no runtime is left to release the lock; it stays until its ttl");
        }
    }
}

async fn delete_all(store: Arc<dyn LockStore>, mut requests: UnboundedReceiver<DeleteRequest>) {
    while let Some(request) = requests.recv().await {
        delete_patiently(&*store, &request).await;
    }
}

/// A delete by owner is harmless to repeat, so a store that is away for a moment does not cost the whole TTL.
async fn delete_patiently(store: &dyn LockStore, request: &DeleteRequest) {
    let mut pause = Duration::from_millis(50);
    loop {
        match store.delete(request).await {
            Ok(_) => return,
            Err(error) if error.is_transient() && pause < Duration::from_secs(5) => {
                tracing::debug!(lock_id = %request.lock_id, %error, "release failed; trying again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => {
                tracing::warn!(lock_id = %request.lock_id, %error, "release failed; the lock stays until its ttl");
                return;
            }
        }
    }
}
