//! A request, its kind, and where its answer goes.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::batch::Queues;
use super::inline::InlineCall;
use crate::values::ClientTime;
use crate::{
    DeleteRequest, Deleted, InsertRequest, Inserted, LockId, LockStore, RenewRequest, Renewed, StoreError,
    StoreErrorKind,
};

/// A request, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Job<K: Kind> {
    pub(crate) request: K,
    pub(crate) reply: Reply<K>,
}

/// Where the answer to a request goes.
#[derive(Debug)]
pub(crate) struct Reply<K: Kind> {
    to: oneshot::Sender<Answered<K::Answer>>,
    /// How long its call keeps a place.
    pub(crate) limit: Duration,
    /// Whether the request was sent before: by a runtime that has ended, or in an earlier attempt.
    pub(crate) is_repeat: bool,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answered<A> {
    pub(crate) result: Result<A, StoreError>,
    /// When the request was sent to the store, or a little earlier.
    pub(crate) sent: ClientTime,
    /// Whether it was sent before, so that it may take effect, or has taken effect, more than once.
    pub(crate) is_repeat: bool,
}

/// A request under way. Dropping it does not stop the request.
#[derive(Debug)]
pub(crate) struct Asked<A> {
    answer: oneshot::Receiver<Answered<A>>,
    /// The call, if the task that waits for the answer polls it.
    call: Option<Arc<InlineCall>>,
}

impl<K: Kind> Job<K> {
    pub(crate) fn new(request: K, limit: Duration) -> (Self, Asked<K::Answer>) {
        let (to, answer) = oneshot::channel();
        let limit = limit.min(K::KEEPS_PLACE);
        (Self { request, reply: Reply { to, limit, is_repeat: false } }, Asked { answer, call: None })
    }
}

impl<K: Kind> Reply<K> {
    /// Whether no one waits for the answer.
    pub(crate) fn is_closed(&self) -> bool {
        self.to.is_closed()
    }

    pub(crate) fn send(self, result: Result<K::Answer, StoreError>, sent: ClientTime) {
        let _ = self.to.send(Answered { result, sent, is_repeat: self.is_repeat });
    }
}

impl<A> Answered<A> {
    /// The answer that a request has failed with `error`.
    pub(crate) fn failed(error: StoreError, sent: ClientTime) -> Self {
        Self { result: Err(error), sent, is_repeat: false }
    }
}

impl<A> Asked<A> {
    /// A request that was not sent.
    pub(crate) fn failed(error: StoreError, now: ClientTime) -> Self {
        let (reply, answer) = oneshot::channel();
        let _ = reply.send(Answered::failed(error, now));
        Self { answer, call: None }
    }

    /// Lets the task that waits for the answer poll the call.
    pub(crate) fn poll_inline(&mut self, call: Arc<InlineCall>) {
        self.call = Some(call);
    }

    /// Waits for the answer.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the answer can still be waited for.
    pub(crate) async fn answer(&mut self) -> Answered<A> {
        let answered = poll_fn(|context| {
            if self.call.as_ref().is_some_and(|call| call.poll(context)) {
                self.call = None;
            }
            Pin::new(&mut self.answer).poll(context)
        });
        answered.await.unwrap_or_else(|_| Answered::failed(not_ended(), ClientTime::ZERO))
    }
}

impl<A> Drop for Asked<A> {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        // In a forked child, a thread that does not exist there may hold a mutex of the runtime or of the store, and the call
        // is the parent's.
        if call.is_forked() {
            return std::mem::forget(call);
        }
        call.hand_over();
    }
}

pub(crate) fn not_ended() -> StoreError {
    let message = "the request did not end: its runtime has ended, or the store has panicked";
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// A kind of request, which can be sent alone or with others.
pub(crate) trait Kind: fmt::Debug + Sized + Send + Sync + 'static {
    type Answer: fmt::Debug + Send + 'static;

    /// Whether it is sent even if many calls hang: a lease that is not renewed is lost.
    const IS_RENEWAL: bool;
    /// The maximum time for which its call keeps a place.
    const KEEPS_PLACE: Duration = if Self::IS_RENEWAL { Duration::from_secs(1) } else { Duration::MAX };
    /// Whether an answer after the limit of its call still counts.
    const MAY_BE_LATE: bool;

    fn lock_id(&self) -> &LockId;
    fn queue(queues: &mut Queues) -> &mut VecDeque<Job<Self>>;
    fn one(&self, store: &dyn LockStore) -> impl Future<Output = Result<Self::Answer, StoreError>> + Send;
    fn many(all: &[Self], store: &dyn LockStore) -> impl Future<Output = Vec<Result<Self::Answer, StoreError>>> + Send;
}

macro_rules! kind {
    ($request:ty, $answer:ty, $queue:ident, $one:ident, $many:ident, $is_renewal:literal, $may_be_late:literal) => {
        impl Kind for $request {
            type Answer = $answer;

            const IS_RENEWAL: bool = $is_renewal;
            const MAY_BE_LATE: bool = $may_be_late;

            fn lock_id(&self) -> &LockId {
                &self.lock_id
            }

            fn queue(queues: &mut Queues) -> &mut VecDeque<Job<Self>> {
                &mut queues.$queue
            }

            async fn one(&self, store: &dyn LockStore) -> Result<$answer, StoreError> {
                store.$one(self).await
            }

            async fn many(all: &[Self], store: &dyn LockStore) -> Vec<Result<$answer, StoreError>> {
                store.$many(all).await
            }
        }
    };
}

kind!(RenewRequest, Renewed, renewals, renew, renew_many, true, true);
kind!(DeleteRequest, Deleted, releases, delete, delete_many, false, false);
kind!(InsertRequest, Inserted, acquisitions, insert_if_absent, insert_many, false, true);
