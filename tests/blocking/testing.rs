//! The mutex on the clock of a test, in its blocking form.

use std::thread;

use db_mutex::testing;
use tokio::task::spawn_blocking;

use crate::{SECOND, current_thread, watched};

#[test]
fn it_works_in_a_test_without_a_runtime() {
    watched(|| {
        let (mutex, clock) = testing::mutex();
        let mutex = mutex.blocking();
        let guard = mutex.lock("job").ttl(60 * SECOND).acquire().unwrap();
        assert!(mutex.lock("job").acquire().unwrap_err().is_held());
        clock.advance(61 * SECOND);
        assert!(!guard.is_valid());
        let next = mutex.lock("job").acquire().unwrap();
        let other = mutex.clone();
        let waiting = thread::spawn(move || other.lock("job").wait(50 * SECOND).run(|_| ()));
        next.release().unwrap();
        waiting.join().unwrap().unwrap();
        drop(mutex.lock("job").acquire().unwrap());
        assert_eq!(mutex.shutdown(30 * SECOND).unwrap(), []);
    });
}

#[test]
fn it_works_in_spawn_blocking_of_a_test_with_paused_time() {
    watched(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mutex, _clock) = testing::mutex();
            let held = mutex.lock("job").acquire().await.unwrap();
            let blocking = mutex.blocking();
            let refused = spawn_blocking(move || blocking.lock("job").acquire().map(drop));
            assert!(refused.await.unwrap().unwrap_err().is_held());
            // Tokio's time stands still while it runs, so it ends with the release and not with its limit.
            let blocking = mutex.blocking();
            let waiting = spawn_blocking(move || blocking.lock("job").wait(50 * SECOND).run(|_| ()));
            tokio::task::yield_now().await;
            held.release().await.unwrap();
            waiting.await.unwrap().unwrap();
        });
    });
}

/// Its background is in a runtime that nothing drives meanwhile.
#[test]
fn it_is_refused_outside_of_the_runtime_that_has_used_it() {
    watched(|| {
        let (mutex, _clock) = testing::mutex();
        let runtime = current_thread();
        runtime.block_on(async { mutex.lock("job").acquire().await.unwrap().release().await.unwrap() });
        let error = mutex.blocking().lock("job").acquire().unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        let cause = source.source().map_or_else(|| source.to_string(), ToString::to_string);
        assert!(cause.contains("the clock of a test"), "{cause}");
        // After its end there is none, and the mutex has a thread.
        drop(runtime);
        mutex.blocking().lock("job").acquire().unwrap().release().unwrap();
    });
}

/// Nothing drives a runtime that is only entered. Where it is driven by others, it works.
#[test]
fn it_is_refused_in_a_runtime_that_is_only_entered() {
    watched(|| {
        let (mutex, _clock) = testing::mutex();
        let runtime = current_thread();
        let entered = runtime.enter();
        for _ in 0..2 {
            let error = mutex.blocking().lock("job").acquire().unwrap_err();
            let text = format!("{error:?}");
            assert!(text.contains("the clock of a test") && text.contains("spawn_blocking"), "{text}");
        }
        drop(entered);
        let blocking = mutex.blocking();
        runtime
            .block_on(async { spawn_blocking(move || blocking.lock("job").acquire().unwrap().release()).await })
            .unwrap()
            .unwrap();
        let (mutex, _clock) = testing::mutex();
        let runtime = crate::multi_thread(1);
        let _entered = runtime.enter();
        mutex.blocking().lock("job").acquire().unwrap().release().unwrap();
    });
}
