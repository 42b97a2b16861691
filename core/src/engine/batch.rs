//! Which requests are sent together, and when.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Weak;

use super::inline::InlineCall;
use super::job::{Job, Kind};
use crate::{DeleteRequest, InsertRequest, RenewRequest};

/// The requests that have not been sent, and the calls in flight.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) renewals: VecDeque<Job<RenewRequest>>,
    pub(crate) releases: VecDeque<Job<DeleteRequest>>,
    pub(crate) acquisitions: VecDeque<Job<InsertRequest>>,
    pub(crate) reads: VecDeque<Read>,
    /// The calls that have a place, and the requests in them.
    pub(crate) calls: usize,
    pub(crate) requests: usize,
    /// The calls, other than renewals, that took longer than their limit and have given their place back.
    pub(crate) strays: usize,
    /// Whether a task waits for the end of the collecting time, and whether that time is over.
    pub(crate) gathering: bool,
    pub(crate) gathered: bool,
    /// The last call that its caller polls, and whether a task limits for how long.
    pub(crate) inline: Weak<InlineCall>,
    pub(crate) watching: bool,
    /// Whether a thread is sending requests, and has to check once more.
    pub(crate) pumping: bool,
    pub(crate) pump_again: bool,
}

/// A call that changes no lock.
pub(crate) type Read = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The requests of one call.
pub(crate) enum Batch {
    Read(Read),
    Renewals(Vec<Job<RenewRequest>>),
    Releases(Vec<Job<DeleteRequest>>),
    Acquisitions(Vec<Job<InsertRequest>>),
}

/// How many calls share the requests of a steady flow. A call costs the server much more than one more request in it, so
/// with more calls each does less. With two, the server too often idles while one of them is on its way.
const IN_STEADY_FLOW: usize = 3;

/// How many calls and requests may be in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// How many calls may be under way, and how many of these only renewals.
    pub(crate) all: usize,
    pub(crate) reserved: usize,
    /// The most requests in a call.
    pub(crate) batch: usize,
}

impl Queues {
    /// Queues requests: repeats after the others, and those that keep their place for a shorter time first.
    pub(crate) fn put<K: Kind>(&mut self, jobs: Vec<Job<K>>) {
        let order = |job: &Job<K>| (job.reply.is_repeat, job.reply.limit);
        let queue = K::queue(self);
        for job in jobs {
            let at = queue.partition_point(|earlier| order(earlier) <= order(&job));
            queue.insert(at, job);
        }
    }

    /// Takes the requests to send together now, and gives them a place.
    pub(crate) fn next_batch(&mut self, places: Places) -> Option<Batch> {
        if self.calls < places.all
            && let Some(jobs) = take(&mut self.renewals, places.batch)
        {
            return Some(Batch::Renewals(self.enter(jobs)));
        }
        if !self.has_free(places) {
            return None;
        }
        if let Some(read) = self.reads.pop_front() {
            self.calls += 1;
            self.requests += 1;
            return Some(Batch::Read(read));
        }
        if !self.gathered && !self.are_enough(places) {
            return None;
        }
        if let Some(jobs) = take(&mut self.releases, places.batch) {
            return Some(Batch::Releases(self.enter(jobs)));
        }
        let jobs = take(&mut self.acquisitions, places.batch)?;
        Some(Batch::Acquisitions(self.enter(jobs)))
    }

    /// Whether requests are collected that nothing else would send.
    pub(crate) fn have_to_gather(&self, places: Places) -> bool {
        self.waiting() > 0 && !self.gathering && self.has_free(places)
    }

    /// Whether there is a place for requests other than renewals.
    fn has_free(&self, places: Places) -> bool {
        self.calls + places.reserved < places.all
    }

    /// Whether there are enough requests to send: in a steady flow, a few places then have an equal share. The other places
    /// are for requests that have waited long enough because of a slow call.
    fn are_enough(&self, places: Places) -> bool {
        let others = (places.all - 1).clamp(1, IN_STEADY_FLOW - 1);
        places.batch == 1 || self.calls == 0 || self.waiting() * others >= self.requests
    }

    /// Whether a request that is sent now is alone, because no other is in flight or waits.
    pub(crate) fn are_idle(&self) -> bool {
        self.calls == 0 && self.strays == 0 && !self.pumping && self.waiting() == 0 && self.reads.is_empty()
    }

    /// Gives the requests of a call their place.
    pub(crate) fn enter<K: Kind>(&mut self, jobs: Vec<Job<K>>) -> Vec<Job<K>> {
        self.calls += 1;
        self.requests += jobs.len();
        jobs
    }

    fn waiting(&self) -> usize {
        self.renewals.len() + self.releases.len() + self.acquisitions.len()
    }
}

/// Takes at most `most` requests that have the same limit and ids that differ; `None` if there are none. Those for which no one
/// waits any more are dropped.
fn take<K: Kind>(queue: &mut VecDeque<Job<K>>, most: usize) -> Option<Vec<Job<K>>> {
    let (mut jobs, mut ids, mut skipped) = (Vec::<Job<K>>::new(), HashSet::new(), Vec::new());
    while jobs.len() < most && skipped.len() < most {
        let Some(job) = queue.pop_front() else { break };
        if job.reply.is_closed() {
            continue;
        }
        let fits = jobs.first().is_none_or(|first| first.reply.limit == job.reply.limit);
        if fits && (most == 1 || ids.insert(job.request.lock_id().clone())) {
            jobs.push(job);
        } else {
            skipped.push(job);
        }
    }
    skipped.into_iter().rev().for_each(|job| queue.push_front(job));
    (!jobs.is_empty()).then_some(jobs)
}
