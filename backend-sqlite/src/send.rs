use std::cell::RefCell;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use db_mutex_core::{LockId, StoreError, StoreErrorKind as Kind};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::connect::Place;
use crate::error::{place_error, store_error};
use crate::identity::Identity;
use crate::inbox::{Access, Asked, Inbox, Job, Kind as RequestKind};
use crate::sql::Sql;

/// The thread that owns the connection. SQLite blocks, so it needs a thread. A dedicated thread takes half the time of a
/// thread pool, and keeps its statements prepared. The [`Inbox`] decides the order of its work.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
    /// How long a request may wait for other writers, counted from its arrival.
    busy_timeout: Duration,
}

impl Worker {
    /// Starts the thread and opens the database in it. The thread ends with the last clone.
    pub(crate) async fn start(place: Place, sql: Sql) -> Result<Self, StoreError> {
        let (jobs, inbox) = channel();
        let (opened, answer) = oneshot::channel();
        let (path, busy_timeout) = (place.path.clone(), place.busy_timeout);
        thread::Builder::new()
            .name("db-mutex-sqlite".into())
            .spawn(move || match Database::open(place, sql) {
                Ok(mut database) => {
                    let _ = opened.send(Ok(()));
                    Inbox::new(inbox).serve(&mut database);
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|error| {
                place_error(&path, Kind::Other, "needs a thread, which could not start").with_source(error)
            })?;
        answer.await.unwrap_or_else(|_| Err(thread_is_gone()))?;
        Ok(Self { jobs, busy_timeout })
    }

    /// Runs `work` on the thread and waits for the result. Repeats it while it is busy, up to the time limit.
    ///
    /// If the future is dropped, an insert that has not begun is skipped. Everything else is still done.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        kind: RequestKind,
        work: impl FnMut(&mut Database, Access) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.send(kind, work, |_| false).await
    }

    /// The same for many requests, which are done again if any of them is busy: each may be repeated.
    pub(crate) async fn call_many<T: Send + 'static>(
        &self,
        kind: RequestKind,
        count: usize,
        mut work: impl FnMut(&mut Database, Access) -> Vec<Result<T, StoreError>> + Send + 'static,
    ) -> Vec<Result<T, StoreError>> {
        let work = move |database: &mut Database, access| Ok(work(database, access));
        let is_any_busy = |answers: &Vec<Result<T, StoreError>>| {
            answers.iter().any(|answer| answer.as_ref().is_err_and(|error| error.kind() == Kind::Busy))
        };
        self.send(kind, work, is_any_busy).await.unwrap_or_else(|error| error.for_all(count))
    }

    async fn send<T: Send + 'static>(
        &self,
        kind: RequestKind,
        work: impl FnMut(&mut Database, Access) -> Result<T, StoreError> + Send + 'static,
        is_busy: fn(&T) -> bool,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Asked { work, is_busy, reply: Some(reply) });
        let job = Job { kind, deadline: Instant::now() + self.busy_timeout, request };
        self.jobs.send(job).map_err(|_| thread_is_gone())?;
        answer.await.unwrap_or_else(|_| Err(thread_is_gone()))
    }

    pub(crate) fn busy_timeout(&self) -> Duration {
        self.busy_timeout
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
    /// Whether nothing was asked of it yet.
    is_new: bool,
    /// The lock that was released last, until one is asked for alone.
    pub(crate) released_last: RefCell<Option<LockId>>,
}

/// Which files the connection works on.
#[derive(Debug)]
enum Files {
    /// None: the database is in memory.
    None,
    /// Those that it was opened on.
    Opened(Identity),
    /// None yet, so it has to be opened at the next request: those are gone and others could not be opened, or there was
    /// nothing to read in them.
    Gone,
}

impl Files {
    fn of(place: &Place, connection: &Connection) -> Self {
        if place.is_memory() {
            return Self::None;
        }
        match connection.path() {
            Some("") => Self::Gone,
            _ => Self::Opened(Identity::of(&place.path)),
        }
    }
}

impl Database {
    fn open(place: Place, sql: Sql) -> Result<Self, StoreError> {
        let connection = place.open(place.busy_timeout)?;
        let files = Files::of(&place, &connection);
        Ok(Self { connection, sql, place, files, is_new: true, released_last: RefCell::default() })
    }

    /// After the first request: from now on it moves the log into the file as seldom as SQLite does by default.
    pub(crate) fn goes_on(&mut self) {
        if std::mem::take(&mut self.is_new) {
            let _ = self.connection.execute_batch("PRAGMA wal_autocheckpoint = 1000");
        }
    }

    /// Reopens the database if its files were deleted or replaced, and waits for other writers meanwhile.
    pub(crate) fn ensure_current(&mut self, wait: Duration) -> Result<(), StoreError> {
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
        self.connection = self.place.open(wait)?;
        self.files = Files::of(&self.place, &self.connection);
        Ok(())
    }

    pub(crate) fn error(&self, error: rusqlite::Error) -> StoreError {
        store_error(&self.place.path, error)
    }
}
