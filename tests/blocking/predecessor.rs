//! The tests that django-db-mutex has for its context manager, by its names, for the blocking form.

use db_mutex::admin::LockState;
use db_mutex::{Error, Ttl, blocking, testing};

use crate::{SECOND, watched};

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

fn mutex() -> (blocking::DbMutex, testing::ManualClock) {
    let (mutex, clock) = testing::mutex();
    (mutex.blocking(), clock)
}

fn is_held(mutex: &blocking::DbMutex, lock_id: &str) -> bool {
    mutex.find(lock_id).unwrap().is_some_and(|row| row.state() == LockState::Held)
}

fn run_get_lock(mutex: &blocking::DbMutex) -> Result<bool, Error> {
    Ok(mutex.run("lock_id", |_| is_held(mutex, "lock_id"))?)
}

#[test]
fn no_lock_before() {
    watched(|| {
        let (mutex, _clock) = mutex();
        assert!(run_get_lock(&mutex).unwrap(), "the lock is held while the closure runs");
        assert!(!is_held(&mutex, "lock_id"), "and released after it");
    });
}

#[test]
fn lock_before() {
    watched(|| {
        let (mutex, _clock) = mutex();
        let other = mutex.lock("lock_id").acquire().unwrap();
        let error = run_get_lock(&mutex).unwrap_err();
        assert!(error.is_held(), "{error}");
        assert!(other.is_valid() && is_held(&mutex, "lock_id"), "the other one still has it");
    });
}

#[test]
fn lock_before_suppress_acquisition_errors() {
    watched(|| {
        let (mutex, _clock) = mutex();
        let other = mutex.lock("lock_id").acquire().unwrap();
        let suppressed = || mutex.run_or_skip("lock_id", |_| is_held(&mutex, "lock_id")).unwrap();
        assert_eq!(suppressed(), None);
        other.release().unwrap();
        assert_eq!(suppressed(), Some(true));
    });
}

#[test]
fn lock_different_id() {
    watched(|| {
        let (mutex, _clock) = mutex();
        let _other = mutex.lock("another_lock_id").acquire().unwrap();
        assert!(run_get_lock(&mutex).unwrap());
    });
}

/// Acquires a lock, and crashes.
fn crash(lock: &blocking::Lock) {
    std::mem::forget(lock.acquire().unwrap());
}

#[test]
fn lock_timeout_default() {
    watched(|| {
        let (mutex, clock) = mutex();
        crash(&mutex.lock("lock_id"));
        clock.advance(29 * MINUTE);
        assert!(run_get_lock(&mutex).unwrap_err().is_held());
        clock.advance(2 * MINUTE);
        assert!(run_get_lock(&mutex).unwrap());
    });
}

#[test]
fn lock_timeout_never() {
    watched(|| {
        let (mutex, clock) = mutex();
        crash(&mutex.lock("lock_id").ttl(Ttl::NEVER));
        clock.advance(10 * 365 * 24 * 60 * MINUTE);
        assert!(run_get_lock(&mutex).unwrap_err().is_held());
    });
}

#[test]
fn lock_timeout_custom() {
    watched(|| {
        let (mutex, clock) = mutex();
        crash(&mutex.lock("lock_id").ttl(3 * MINUTE));
        clock.advance(2 * MINUTE);
        assert!(run_get_lock(&mutex).unwrap_err().is_held());
        clock.advance(2 * MINUTE);
        assert!(run_get_lock(&mutex).unwrap());
    });
}

#[test]
fn lock_timeout_error() {
    watched(|| {
        let (mutex, clock) = mutex();
        let too_long = |_: &blocking::Guard| {
            clock.advance(MINUTE + SECOND);
            // Another one takes the lock over.
            mutex.lock("lock_id").acquire()?.release()
        };
        let error = mutex.lock("lock_id").ttl(MINUTE).run(too_long).unwrap_err();
        assert!(error.is_lost() && matches!(error.into_output(), Some(Ok(()))));
    });
}
