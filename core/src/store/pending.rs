use std::fmt;

use super::DeleteRequest;

/// A delete that no one waits for: what [`LockStore::delete_soon`](super::LockStore::delete_soon) accepts.
///
/// Dropping it says that the delete is done, or given up.
#[must_use = "dropping it says that the delete is done"]
pub struct PendingDelete {
    request: DeleteRequest,
    done: Option<Done>,
}

type Done = Box<dyn FnOnce(&DeleteRequest) + Send>;

impl PendingDelete {
    /// A delete whose end is reported by calling `done`.
    pub(crate) fn new(request: DeleteRequest, done: impl FnOnce(&DeleteRequest) + Send + 'static) -> Self {
        Self { request, done: Some(Box::new(done)) }
    }

    /// The request.
    pub fn request(&self) -> &DeleteRequest {
        &self.request
    }
}

impl Drop for PendingDelete {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(&self.request);
        }
    }
}

impl fmt::Debug for PendingDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingDelete").field("request", &self.request).finish_non_exhaustive()
    }
}
