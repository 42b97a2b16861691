//! A request, its kind, and where its answer goes.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tokio::sync::oneshot;

use super::batch::Queues;
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
    /// Whether it was sent before, so that it may take effect once more, or has done so.
    pub(crate) is_repeat: bool,
}

/// A request under way. Dropping it does not stop the request.
#[derive(Debug)]
pub(crate) struct Asked<A>(oneshot::Receiver<Answered<A>>);

impl<K: Kind> Job<K> {
    pub(crate) fn new(request: K, limit: Duration) -> (Self, Asked<K::Answer>) {
        let (to, asked) = oneshot::channel();
        let limit = limit.min(K::KEEPS_PLACE);
        (Self { request, reply: Reply { to, limit, is_repeat: false } }, Asked(asked))
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
    /// The error of a request that was not answered.
    pub(crate) fn failed(error: StoreError, sent: ClientTime) -> Self {
        Self { result: Err(error), sent, is_repeat: false }
    }
}

impl<A> Asked<A> {
    /// A request that was not sent.
    pub(crate) fn failed(error: StoreError, now: ClientTime) -> Self {
        let (reply, asked) = oneshot::channel();
        let _ = reply.send(Answered::failed(error, now));
        Self(asked)
    }

    /// Waits for the answer.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the answer can still be waited for.
    pub(crate) async fn answer(&mut self) -> Answered<A> {
        (&mut self.0).await.unwrap_or_else(|_| Answered::failed(not_ended(), ClientTime::ZERO))
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
    /// How long its call keeps a place at most.
    const KEEPS_PLACE: Duration = if Self::IS_RENEWAL { Duration::from_secs(1) } else { Duration::MAX };
    /// Whether an answer still counts that comes after the limit of its call.
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
