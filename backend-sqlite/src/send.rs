use std::cell::RefCell;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use db_mutex_core::{LockId, StoreError, StoreErrorKind as Kind};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::connect::Place;
use crate::error::{place_error, store_error};
use crate::identity::Identity;
use crate::sql::Sql;

type Job = Box<dyn FnOnce(&mut Database) + Send>;

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
                Ok(mut database) => {
                    let _ = opened.send(Ok(()));
                    inbox.into_iter().for_each(|job: Job| job(&mut database));
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
        let job: Job = Box::new(move |database| {
            let result = database.ensure_current().and_then(|()| work(database));
            let _ = reply.send(result);
            database.goes_on();
        });
        self.jobs.send(job).map_err(|_| thread_is_gone())?;
        answer.await.unwrap_or_else(|_| Err(thread_is_gone()))
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
        let connection = place.open()?;
        let files = Files::of(&place, &connection);
        Ok(Self { connection, sql, place, files, is_new: true, released_last: RefCell::default() })
    }

    /// After the first request: from now on it moves the log into the file as seldom as SQLite does by default.
    fn goes_on(&mut self) {
        if std::mem::take(&mut self.is_new) {
            let _ = self.connection.execute_batch("PRAGMA wal_autocheckpoint = 1000");
        }
    }

    pub(crate) fn busy_timeout(&self) -> Duration {
        self.place.busy_timeout
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
        self.files = Files::of(&self.place, &self.connection);
        Ok(())
    }

    pub(crate) fn error(&self, error: rusqlite::Error) -> StoreError {
        store_error(&self.place.path, error)
    }
}
