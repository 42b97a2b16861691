use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use db_mutex_core::store::PendingDelete;
use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::{place_error, store_error};
use crate::identity::Identity;
use crate::open::Place;
use crate::sql::Sql;

enum Job {
    /// Somebody waits for the answer.
    Work(Box<dyn FnOnce(&mut Database) + Send>),
    /// Nobody does.
    Delete(PendingDelete),
}

/// The thread that owns the connection. SQLite blocks, so it has a thread; a thread of its own answers in half the time of
/// a pool of them, keeps its statements prepared, and does what it is sent in the order of sending.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
}

impl Worker {
    /// Starts the thread and opens the database in it. The thread ends with the last clone.
    pub(crate) async fn start(place: Place, sql: Sql) -> Result<Self, StoreError> {
        let (jobs, inbox) = channel();
        let (opened, answer) = oneshot::channel();
        let path = place.path.clone();
        thread::Builder::new()
            .name("db-mutex-sqlite".into())
            .spawn(move || match Database::open(place, sql) {
                Ok(database) => {
                    let _ = opened.send(Ok(()));
                    serve(database, &inbox);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|error| {
                place_error(&path, Kind::Other, "needs a thread, which could not start").with_source(error)
            })?;
        answer.await.unwrap_or_else(|_| Err(thread_is_gone()))?;
        Ok(Self { jobs })
    }

    /// Runs `work` on the thread and waits for its answer. When the future is dropped, the work is done all the same.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Work(Box::new(move |database| {
            let result = database.ensure_current().and_then(|()| work(database));
            let _ = reply.send(result);
        }));
        self.jobs.send(job).map_err(|_| thread_is_gone())?;
        answer.await.unwrap_or_else(|_| Err(thread_is_gone()))
    }

    /// Deletes on the thread without anybody waiting for it; gives the delete back when there is no thread any more.
    pub(crate) fn delete_soon(&self, delete: PendingDelete) -> Result<(), PendingDelete> {
        match self.jobs.send(Job::Delete(delete)) {
            Err(SendError(Job::Delete(delete))) => Err(delete),
            _ => Ok(()),
        }
    }
}

/// How long a delete that failed for a passing reason waits before it is tried again.
const PAUSE: Duration = Duration::from_millis(50);

fn serve(mut database: Database, inbox: &Receiver<Job>) {
    let mut failed: VecDeque<PendingDelete> = VecDeque::new();
    let mut tried = Instant::now();
    loop {
        let job = match failed.is_empty() {
            true => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => inbox.recv_timeout(PAUSE),
        };
        match job {
            Ok(Job::Work(work)) => work(&mut database),
            Ok(Job::Delete(delete)) => failed.extend(database.delete_unwatched(delete)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if tried.elapsed() >= PAUSE
            && let Some(delete) = failed.pop_front()
        {
            failed.extend(database.delete_unwatched(delete));
            tried = Instant::now();
        }
    }
    for delete in failed {
        drop(database.delete_unwatched(delete));
    }
}

fn thread_is_gone() -> StoreError {
    StoreError::new(Kind::Other, "the thread of the SQLite store has ended; open the store again")
}

/// A connection, its statements, and the files that it was opened on.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) connection: Connection,
    pub(crate) sql: Sql,
    place: Place,
    files: Files,
}

/// Which files the connection works on.
#[derive(Debug)]
enum Files {
    /// None: the database is in memory.
    None,
    /// Those that it was opened on.
    Opened(Identity),
    /// Those are gone, and others could not be opened yet.
    Gone,
}

impl Database {
    fn open(place: Place, sql: Sql) -> Result<Self, StoreError> {
        let connection = place.open()?;
        let files = if place.is_memory() { Files::None } else { Files::Opened(Identity::of(&place.path)) };
        Ok(Self { connection, sql, place, files })
    }

    /// Opens the database anew if its files were deleted or replaced.
    fn ensure_current(&mut self) -> Result<(), StoreError> {
        match &self.files {
            Files::None => return Ok(()),
            Files::Opened(identity) if *identity == Identity::of(&self.place.path) => return Ok(()),
            Files::Opened(_) => {
                tracing::warn!(file = ?self.place.path, "the lock file was replaced; locks acquired in the old one are lost");
            }
            Files::Gone => {}
        }
        // The old one is closed first: within a process SQLite would go on with its index of the old log.
        self.connection = Connection::open_in_memory().map_err(|error| self.error(error))?;
        self.files = Files::Gone;
        self.connection = self.place.open()?;
        self.files = Files::Opened(Identity::of(&self.place.path));
        Ok(())
    }

    /// Returns the delete if it failed for a reason that may pass, such as a writer elsewhere.
    fn delete_unwatched(&mut self, delete: PendingDelete) -> Option<PendingDelete> {
        let Err(error) = self.ensure_current().and_then(|()| self.delete(delete.request())) else { return None };
        let lock_id = &delete.request().lock_id;
        if error.is_transient() {
            tracing::debug!(%lock_id, %error, "a release in the background failed; trying again");
            return Some(delete);
        }
        tracing::warn!(%lock_id, %error, "a release in the background failed; the lock stays until its ttl");
        None
    }

    pub(crate) fn error(&self, error: rusqlite::Error) -> StoreError {
        store_error(&self.place.path, error)
    }
}
