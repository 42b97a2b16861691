//! The requests that have arrived, and those that wait for the write lock.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use db_mutex_core::{StoreError, StoreErrorKind};
use tokio::sync::oneshot;

use crate::send::Database;

/// What a request does, as far as its turn depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads only, so it waits for no writer.
    Read,
    /// Reads first, and often writes nothing: a refused insert.
    Insert,
    /// Writes: a renewal, a delete, a purge.
    Change,
}

/// What an attempt at a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read: others are waiting for the write lock. What has to write is busy.
    Read,
    /// Read and write.
    Write,
}

/// A request whose answer is still to come.
pub(crate) struct Job {
    pub(crate) kind: Kind,
    /// Until when it may wait for other writers, counted from its arrival.
    pub(crate) deadline: Instant,
    pub(crate) request: Box<dyn Request>,
}

/// The work of a request, and who is waiting for it.
pub(crate) trait Request: Send {
    /// Does the work, and sends the answer unless that is "busy" and another attempt follows. Returns whether it sent it.
    fn attempt(&mut self, database: &mut Database, access: Access, deadline: Instant) -> bool;

    /// Whether no one waits for the answer any more.
    fn is_abandoned(&self) -> bool;
}

/// Some work and its answer. The work may be done again if it was busy.
pub(crate) struct Asked<Work, Answer> {
    pub(crate) work: Work,
    pub(crate) is_busy: fn(&Answer) -> bool,
    pub(crate) reply: Option<oneshot::Sender<Result<Answer, StoreError>>>,
}

impl<Work, Answer> Request for Asked<Work, Answer>
where
    Work: FnMut(&mut Database, Access) -> Result<Answer, StoreError> + Send,
    Answer: Send,
{
    fn attempt(&mut self, database: &mut Database, access: Access, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_last = access == Access::Write && left.is_zero();
        let answer = database.ensure_current(left).and_then(|()| (self.work)(database, access));
        let is_busy = match &answer {
            Ok(answer) => (self.is_busy)(answer),
            Err(error) => error.kind() == StoreErrorKind::Busy,
        };
        if is_busy && !is_last {
            return false;
        }
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Job {
    fn attempt(&mut self, database: &mut Database, access: Access) -> bool {
        // A caller that sent a renewal or a delete and is gone relies on it. A lock that no one waits for must not be acquired.
        if self.kind != Kind::Change && self.request.is_abandoned() {
            return true;
        }
        self.request.attempt(database, access, self.deadline)
    }
}

/// Executes requests in order of arrival, except that reads never wait for writes.
///
/// SQLite itself would wait in the middle of a request, and delay all later ones by as much. So it does not wait here: a
/// busy request is put aside until the next attempt.
pub(crate) struct Inbox {
    jobs: Receiver<Job>,
    /// Those that wait for the write lock, in the order of their arrival.
    waiting: VecDeque<Job>,
    attempts: usize,
    next_attempt: Instant,
}

enum Next {
    Arrived(Job),
    AttemptAgain,
    End,
}

impl Inbox {
    /// How long it is until the next attempt to get the write lock, in milliseconds: as long as SQLite's own handler waits.
    const PAUSES: [u64; 10] = [1, 2, 5, 10, 15, 20, 25, 25, 25, 50];

    /// About as long as it takes to wake a thread.
    const AWAKE: Duration = Duration::from_micros(50);

    pub(crate) fn new(jobs: Receiver<Job>) -> Self {
        Self { jobs, waiting: VecDeque::new(), attempts: 0, next_attempt: Instant::now() }
    }

    /// Works until no one can send anything any more and nothing waits.
    pub(crate) fn serve(mut self, database: &mut Database) {
        loop {
            match self.next() {
                Next::Arrived(job) => self.arrived(job, database),
                Next::AttemptAgain => self.attempt_again(database),
                Next::End => return,
            }
        }
    }

    fn next(&mut self) -> Next {
        if self.waiting.is_empty() {
            return self.next_arrival();
        }
        let pause = self.next_attempt.saturating_duration_since(Instant::now());
        if pause.is_zero() {
            return Next::AttemptAgain;
        }
        match self.jobs.recv_timeout(pause) {
            Ok(job) => Next::Arrived(job),
            Err(RecvTimeoutError::Timeout) => Next::AttemptAgain,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(pause);
                Next::AttemptAgain
            }
        }
    }

    /// A caller that has its answer often asks again at once, and waking this thread would take longer than the request. So it
    /// stays awake for a moment.
    fn next_arrival(&self) -> Next {
        let begun = Instant::now();
        while begun.elapsed() < Self::AWAKE {
            match self.jobs.try_recv() {
                Ok(job) => return Next::Arrived(job),
                Err(TryRecvError::Disconnected) => return Next::End,
                Err(TryRecvError::Empty) => thread::yield_now(),
            }
        }
        self.jobs.recv().map_or(Next::End, Next::Arrived)
    }

    fn arrived(&mut self, mut job: Job, database: &mut Database) {
        let access = if self.waiting.is_empty() { Access::Write } else { Access::Read };
        // A renewal or a delete must not overtake the insert of its owner.
        let has_to_wait = job.kind == Kind::Change && access == Access::Read;
        if has_to_wait || !job.attempt(database, access) {
            if self.waiting.is_empty() {
                self.pause_after(0, job.deadline);
            }
            self.waiting.push_back(job);
        } else {
            database.goes_on();
        }
    }

    /// If the first is busy, so are the others: they wait for the same lock.
    fn attempt_again(&mut self, database: &mut Database) {
        while let Some(job) = self.waiting.front_mut() {
            if !job.attempt(database, Access::Write) {
                let (attempts, deadline) = (self.attempts + 1, job.deadline);
                return self.pause_after(attempts, deadline);
            }
            self.attempts = 0;
            self.waiting.pop_front();
        }
    }

    fn pause_after(&mut self, attempts: usize, deadline: Instant) {
        let pause = Self::PAUSES[attempts.min(Self::PAUSES.len() - 1)];
        self.attempts = attempts;
        self.next_attempt = (Instant::now() + Duration::from_millis(pause)).min(deadline);
    }
}
