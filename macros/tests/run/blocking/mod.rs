//! Functions that block. A test that hangs fails.

mod forms;
mod options;
mod predecessor;

use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use db_mutex::admin::LockState;
use db_mutex::blocking::DbMutex;
use db_mutex::testing::{self, ManualClock};

/// Runs a test on a thread without a runtime, and fails if that takes a minute.
fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel();
    let thread = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if ended.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
        panic!("it hangs");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

fn mutex() -> (DbMutex, ManualClock) {
    let (mutex, clock) = testing::mutex();
    (mutex.blocking(), clock)
}

/// Whether a lock is held at this moment.
fn is_held(mutex: &DbMutex, lock_id: &str) -> bool {
    let row = mutex.find(lock_id).expect("the store in memory does not fail");
    row.is_some_and(|row| row.state() == LockState::Held)
}
