//! A call in flight, and its place among the concurrent calls of a dispatch.

use std::sync::Arc;

use super::dispatch::Dispatch;
use super::job::{Job, Kind, Reply};
use crate::values::ClientTime;
use crate::{StoreError, StoreErrorKind};

/// A call in flight. If its runtime ends before the answers arrive, the successor repeats the requests.
#[derive(Debug)]
pub(crate) struct Flight<K: Kind> {
    dispatch: Dispatch,
    sent: ClientTime,
    requests: Vec<K>,
    replies: Vec<Reply<K>>,
}

impl<K: Kind> Flight<K> {
    pub(crate) fn new(dispatch: Dispatch, jobs: Vec<Job<K>>) -> Self {
        let (requests, replies) = jobs.into_iter().map(|job| (job.request, job.reply)).unzip();
        Self { sent: dispatch.0.clock.now(), dispatch, requests, replies }
    }

    /// Makes the call. If it takes longer than its limit, it continues without a place.
    pub(crate) async fn fly(mut self, mut place: Place) {
        let shared = Arc::clone(&self.dispatch.0);
        let limit = self.replies.iter().map(|reply| reply.limit).min().unwrap_or_default();
        // Its runtime may have been blocked since it was sent, and its callers may be gone.
        if self.replies.iter().all(Reply::is_closed) {
            return;
        }
        let answers = {
            let (requests, replies) = (&self.requests, &mut self.replies);
            let call = async {
                match &requests[..] {
                    [one] => vec![one.one(&*shared.store).await],
                    many => K::many(many, &*shared.store).await,
                }
            };
            let mut call = std::pin::pin!(call);
            match shared.limiter.within(limit, &mut call).await {
                Some(answers) => answers,
                None => {
                    place.give_back();
                    if !K::MAY_BE_LATE {
                        let late = StoreError::new(StoreErrorKind::Unavailable, "the store did not answer in time");
                        replies.drain(..).for_each(|reply| reply.send(Err(late.clone()), self.sent));
                    }
                    call.await
                }
            }
        };
        // First, so that the next request of a caller that gets its answer finds the place free.
        drop(place);
        self.land(answers);
    }

    fn land(&mut self, answers: Vec<Result<K::Answer, StoreError>>) {
        let (asked, answered) = (self.requests.len(), answers.len());
        let answers = if asked == answered {
            answers
        } else {
            let message = format!("the store returned {answered} answers to {asked} requests");
            StoreError::new(StoreErrorKind::Other, message).for_all(asked)
        };
        for (reply, result) in self.replies.drain(..).zip(answers) {
            reply.send(result, self.sent);
        }
        self.requests.clear();
    }

    /// Takes the requests without an answer.
    fn open(&mut self) -> Vec<Job<K>> {
        let open = self.requests.drain(..).zip(self.replies.drain(..));
        let jobs = open.map(|(request, reply)| Job { request, reply });
        // Requests without a waiting caller are not sent again.
        jobs.filter(|job| !job.reply.is_closed()).collect()
    }
}

impl<K: Kind> Drop for Flight<K> {
    fn drop(&mut self) {
        let mut open = self.open();
        if std::thread::panicking() {
            let panicked = StoreError::new(StoreErrorKind::Other, "the store has panicked");
            open.into_iter().for_each(|job| job.reply.send(Err(panicked.clone()), self.sent));
        } else if let Some(successor) = &self.dispatch.0.successor
            && !open.is_empty()
        {
            open.iter_mut().for_each(|job| job.reply.is_repeat = true);
            successor.put(open);
        }
    }
}

/// The place of a call. Dropping it makes room for the next.
#[derive(Debug)]
pub(crate) struct Place {
    dispatch: Dispatch,
    requests: usize,
    is_renewal: bool,
    is_stray: bool,
}

impl Place {
    /// The place that the requests were given.
    pub(crate) fn new(dispatch: Dispatch, requests: usize, is_renewal: bool) -> Self {
        Self { dispatch, requests, is_renewal, is_stray: false }
    }

    /// Gives the place back before the call has ended.
    pub(crate) fn give_back(&mut self) {
        let mut queues = self.dispatch.0.queues();
        queues.calls -= 1;
        queues.requests -= self.requests;
        queues.strays += usize::from(!self.is_renewal);
        drop(queues);
        self.is_stray = true;
        self.dispatch.pump();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_stray {
            self.give_back();
        }
        self.dispatch.0.queues().strays -= usize::from(!self.is_renewal);
    }
}
