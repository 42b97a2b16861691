//! The tests that django-db-mutex has for its decorator, by its names.

use db_mutex::blocking::DbMutex;
use db_mutex::{Error, db_mutex, testing};

use super::{is_held, mutex, watched};
use crate::secs;

#[db_mutex("lock_id", store = mutex, blocking)]
fn run_get_lock(mutex: &DbMutex) -> Result<bool, Error> {
    Ok(is_held(mutex, "lock_id"))
}

#[test]
fn no_lock_before() {
    watched(|| {
        let (mutex, _clock) = mutex();
        assert!(run_get_lock(&mutex).unwrap(), "the lock is held while the function runs");
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

#[db_mutex("lock_id", store = mutex, on_held = "skip", blocking)]
fn run_get_lock_suppressed(mutex: &DbMutex) -> Option<bool> {
    Some(is_held(mutex, "lock_id"))
}

#[test]
fn lock_before_suppress_acquisition_errors() {
    watched(|| {
        let (mutex, _clock) = mutex();
        let other = mutex.lock("lock_id").acquire().unwrap();
        assert_eq!(run_get_lock_suppressed(&mutex), None);
        other.release().unwrap();
        assert_eq!(run_get_lock_suppressed(&mutex), Some(true));
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

/// Lets a function begin, and its process crash: the thread never goes on.
fn crash(mutex: &DbMutex, run: impl FnOnce(&DbMutex) + Send + 'static) {
    let theirs = mutex.clone();
    std::thread::spawn(move || run(&theirs));
    while !is_held(mutex, "lock_id") {
        std::thread::yield_now();
    }
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

#[test]
fn lock_timeout_default() {
    #[db_mutex("lock_id", store = mutex, blocking)]
    fn run_forever(mutex: &DbMutex) -> Result<(), Error> {
        forever()
    }
    watched(|| {
        let (mutex, clock) = mutex();
        crash(&mutex, |mutex| run_forever(mutex).unwrap());
        clock.advance(secs(29 * 60));
        assert!(run_get_lock(&mutex).unwrap_err().is_held());
        clock.advance(secs(2 * 60));
        assert!(run_get_lock(&mutex).unwrap());
    });
}

#[test]
fn lock_timeout_never() {
    #[db_mutex("lock_id", store = mutex, ttl = "none", blocking)]
    fn run_forever(mutex: &DbMutex) -> Result<(), Error> {
        forever()
    }
    watched(|| {
        let (mutex, clock) = mutex();
        crash(&mutex, |mutex| run_forever(mutex).unwrap());
        clock.advance(secs(10 * 365 * 24 * 60 * 60));
        assert!(run_get_lock(&mutex).unwrap_err().is_held());
    });
}

#[test]
fn lock_timeout_custom() {
    #[db_mutex("lock_id", store = mutex, ttl = "3m", blocking)]
    fn run_forever(mutex: &DbMutex) -> Result<(), Error> {
        forever()
    }
    watched(|| {
        let (mutex, clock) = mutex();
        crash(&mutex, |mutex| run_forever(mutex).unwrap());
        clock.advance(secs(2 * 60));
        assert!(run_get_lock(&mutex).unwrap_err().is_held());
        clock.advance(secs(2 * 60));
        assert!(run_get_lock(&mutex).unwrap());
    });
}

#[test]
fn lock_timeout_error() {
    #[db_mutex("lock_id", store = mutex, ttl = "1m", blocking)]
    fn too_long(mutex: &DbMutex, clock: &testing::ManualClock) -> Result<(), Error> {
        clock.advance(secs(61));
        // Another one takes the lock over.
        mutex.lock("lock_id").acquire()?.release()
    }
    watched(|| {
        let (mutex, clock) = mutex();
        let error = too_long(&mutex, &clock).unwrap_err();
        assert!(error.is_lost(), "{error}");
    });
}
