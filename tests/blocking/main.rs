//! The blocking form, from everywhere it may be called, and where it is refused. A test that hangs fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod guards;
mod predecessor;
#[cfg(all(feature = "postgres", feature = "mysql"))]
mod servers;
mod situations;
mod testing;

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use db_mutex::testing::MemoryStore;
use db_mutex::{DbMutex, Error, Invalid, blocking};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a test on a plain thread, and fails if that takes a minute.
fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel();
    let thread = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if ended.recv_timeout(60 * SECOND) == Err(RecvTimeoutError::Timeout) {
        panic!("it hangs");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// A mutex, and what it needs to exist.
struct Made {
    mutex: blocking::DbMutex,
    _folder: Option<TempDir>,
    _runtime: Option<Runtime>,
}

fn memory() -> Made {
    Made { mutex: DbMutex::new(MemoryStore::new()).unwrap().blocking(), _folder: None, _runtime: None }
}

fn url(folder: &TempDir) -> String {
    format!("sqlite:{}", folder.path().join("locks.db").display())
}

fn sqlite() -> Made {
    let folder = tempfile::tempdir().unwrap();
    Made { mutex: blocking::connect(&url(&folder)).unwrap(), _folder: Some(folder), _runtime: None }
}

/// Connected and first used in a runtime that nothing drives any more.
fn sqlite_of_an_idle_runtime() -> Made {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), current_thread());
    let mutex = runtime.block_on(async {
        let mutex = db_mutex::connect(&url(&folder)).await.unwrap();
        mutex.lock("first").acquire().await.unwrap().release().await.unwrap();
        mutex
    });
    Made { mutex: mutex.into(), _folder: Some(folder), _runtime: Some(runtime) }
}

/// In a table of its own.
#[cfg(all(feature = "postgres", feature = "mysql"))]
fn connector(server: &str) -> db_mutex::Connector {
    static TABLES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = TABLES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let table = format!("blocking_{}_{number}", std::process::id());
    let connector = db_mutex::Connector::new(&db_mutex_test_servers::url(server)).unwrap();
    connector.table(db_mutex::TableName::new(table).unwrap())
}

#[cfg(all(feature = "postgres", feature = "mysql"))]
fn of_server(server: &str) -> Made {
    let mutex = connector(server).blocking_builder().unwrap().build().unwrap();
    Made { mutex: mutex.blocking(), _folder: None, _runtime: None }
}

/// Connected and first used in a runtime that nothing drives any more.
#[cfg(all(feature = "postgres", feature = "mysql"))]
fn of_server_and_an_idle_runtime(server: &str) -> Made {
    let runtime = current_thread();
    let mutex = runtime.block_on(async {
        let mutex = connector(server).connect().await.unwrap();
        mutex.lock("first").acquire().await.unwrap().release().await.unwrap();
        mutex
    });
    Made { mutex: mutex.into(), _folder: None, _runtime: Some(runtime) }
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap()
}

fn is_refused(error: &Error) -> bool {
    let says_what_to_do = error.to_string().contains("`tokio::task::spawn_blocking`");
    matches!(error, Error::Invalid(Invalid::Blocking { .. })) && says_what_to_do
}
