//! What each option does for a function that blocks.

use std::thread;
use std::time::{Duration, Instant};

use db_mutex::blocking::DbMutex;
use db_mutex::testing::MemoryStore;
use db_mutex::{Error, Fence, Invalid, LostReason, db_mutex};

use super::{mutex, watched};
use crate::secs;

#[test]
fn a_wait_limit_is_waited_out() {
    #[db_mutex("job", store = mutex, wait = "300ms", blocking)]
    fn job(mutex: &DbMutex) -> Result<(), Error> {
        Ok(())
    }
    watched(|| {
        let (mutex, _clock) = mutex();
        let _other = mutex.lock("job").acquire().unwrap();
        let begun = Instant::now();
        assert!(job(&mutex).unwrap_err().is_held());
        assert!(begun.elapsed() >= Duration::from_millis(300));
    });
}

#[test]
fn forever_has_no_limit() {
    #[db_mutex("job", store = mutex, wait = "forever", blocking)]
    fn job(mutex: &DbMutex) -> Result<(), Error> {
        Ok(())
    }
    watched(|| {
        let (mutex, _clock) = mutex();
        let other = mutex.lock("job").acquire().unwrap();
        let releasing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            other.release()
        });
        job(&mutex).unwrap();
        releasing.join().unwrap().unwrap();
    });
}

/// In real time: the thread of the mutex renews while this one sleeps.
#[test]
fn keep_alive_renews() {
    #[db_mutex("job", store = mutex, ttl = "1s", keep_alive, blocking, guard)]
    fn job(mutex: &DbMutex) -> Result<bool, Error> {
        thread::sleep(secs(3));
        Ok(guard.is_valid())
    }
    watched(|| {
        let mutex = db_mutex::DbMutex::new(MemoryStore::new()).unwrap().blocking();
        assert!(job(&mutex).unwrap());
    });
}

#[test]
fn hold_at_most_loses_the_lock() {
    #[db_mutex("job", store = mutex, hold_at_most = "1m", guard, blocking)]
    fn job(mutex: &DbMutex, clock: &db_mutex::testing::ManualClock) -> Result<(bool, Option<LostReason>), Error> {
        clock.advance(secs(61));
        Ok((guard.is_valid(), guard.lost_reason()))
    }
    watched(|| {
        let (mutex, clock) = mutex();
        assert_eq!(job(&mutex, &clock).unwrap(), (false, Some(LostReason::HeldTooLong)));
    });
}

#[test]
fn hold_at_least_is_kept() {
    #[db_mutex("job", store = mutex, hold_at_least = "10s", on_held = "skip", blocking = true)]
    fn job(mutex: &DbMutex) -> Option<u8> {
        Some(1)
    }
    watched(|| {
        let (mutex, clock) = mutex();
        assert_eq!(job(&mutex), Some(1));
        assert_eq!(job(&mutex), None);
        clock.advance(secs(11));
        assert_eq!(job(&mutex), Some(1));
    });
}

#[test]
fn the_body_has_the_guard() {
    #[db_mutex("job", store = mutex, guard = lease, blocking)]
    fn job(mutex: &DbMutex, guard: u8) -> Result<(Fence, u8), Error> {
        lease.extend(secs(3_600))?;
        lease.ensure(secs(7_200))?;
        Ok((lease.fence(), guard))
    }
    watched(|| {
        let (mutex, _clock) = mutex();
        let (first, argument) = job(&mutex, 5).unwrap();
        assert!(job(&mutex, 5).unwrap().0 > first);
        assert_eq!(argument, 5);
    });
}

#[test]
fn finished_work_ends_with_the_loss() {
    #[db_mutex("job", store = mutex, ttl = "10s", on_lost = "finish", blocking)]
    fn job(mutex: &DbMutex, clock: &db_mutex::testing::ManualClock, done: &mut bool) -> Result<(), Error> {
        clock.advance(secs(11));
        *done = true;
        Ok(())
    }
    watched(|| {
        let ((mutex, clock), mut done) = (mutex(), false);
        assert!(job(&mutex, &clock, &mut done).unwrap_err().is_lost());
        assert!(done);
    });
}

#[test]
fn a_panic_releases_the_lock() {
    #[db_mutex("job", store = mutex, blocking)]
    fn panics(mutex: DbMutex) -> Result<(), Error> {
        std::panic::resume_unwind(Box::new("on purpose"))
    }
    watched(|| {
        let (mutex, _clock) = mutex();
        let theirs = mutex.clone();
        thread::spawn(move || panics(theirs)).join().unwrap_err();
        assert_eq!(mutex.shutdown(secs(30)).unwrap(), []);
        mutex.lock("job").acquire().unwrap().release().unwrap();
    });
}

/// In async code of a current-thread runtime the function returns the sentence; in `spawn_blocking` it runs.
#[tokio::test]
async fn it_is_refused_where_it_could_deadlock() {
    #[db_mutex("job", store = mutex, on_held = "skip", blocking)]
    fn job(mutex: &DbMutex) -> Result<Option<u8>, Error> {
        Ok(Some(1))
    }
    let mutex = db_mutex::DbMutex::new(MemoryStore::new()).unwrap().blocking();
    let error = job(&mutex).unwrap_err();
    assert!(matches!(error, Error::Invalid(Invalid::Blocking { .. })), "{error:?}");
    assert!(error.to_string().contains("spawn_blocking"), "{error}");
    assert_eq!(tokio::task::spawn_blocking(move || job(&mutex)).await.unwrap().unwrap(), Some(1));
}
