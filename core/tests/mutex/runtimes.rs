//! Runtimes that are blocked, that end, and that are several; and no runtime at all.

use std::thread;
use std::time::Duration;

use db_mutex_core::testing::MemoryStore;
use db_mutex_core::{DbMutex, LockId};

use crate::server::{Server, runtime};

const SECOND: Duration = Duration::from_secs(1);

fn mutex(store: &MemoryStore, ttl: Duration) -> DbMutex {
    DbMutex::builder(store.clone()).ttl(ttl).keep_alive(true).build().unwrap()
}

#[test]
fn code_that_blocks_its_runtime_keeps_its_lock() {
    let store = MemoryStore::new();
    let mutex = mutex(&store, 3 * SECOND);
    runtime().block_on(async {
        let guard = mutex.lock("job").acquire().await.unwrap();
        let token = guard.cancel_token();
        thread::sleep(9 * SECOND);
        assert!(guard.is_valid() && !token.is_cancelled(), "{:?}", guard.lost_reason());
        guard.release().await.unwrap();
    });
}

#[test]
fn a_lease_outlives_the_runtime_in_which_it_was_acquired() {
    let store = MemoryStore::new();
    let mutex = mutex(&store, 3 * SECOND);
    let first = runtime();
    let guard = first.block_on(mutex.lock("job").acquire()).unwrap();
    drop(first);
    thread::sleep(9 * SECOND);
    assert!(guard.is_valid(), "{:?}", guard.lost_reason());
    // Another runtime releases it.
    runtime().block_on(guard.release()).unwrap();
    runtime().block_on(async { mutex.lock("job").acquire().await.unwrap().release().await.unwrap() });
}

#[test]
fn two_runtimes_and_plain_threads_share_a_mutex() {
    let store = MemoryStore::new();
    let mutex = mutex(&store, 5 * SECOND);
    let counter = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = runtime();
                for _ in 0..25 {
                    let guard = runtime.block_on(mutex.lock("job").wait(30 * SECOND).acquire()).unwrap();
                    let before = counter.load(std::sync::atomic::Ordering::SeqCst);
                    thread::yield_now();
                    counter.store(before + 1, std::sync::atomic::Ordering::SeqCst);
                    // Every other guard is dropped where no runtime is.
                    if before.is_multiple_of(2) { drop(guard) } else { runtime.block_on(guard.release()).unwrap() }
                }
            });
        }
    });
    assert_eq!(counter.into_inner(), 100);
    assert!(runtime().block_on(mutex.shutdown(30 * SECOND)).is_empty());
}

/// The future is dropped with its runtime, while its request is under way.
#[test]
fn an_acquisition_that_ends_with_its_runtime_leaves_nothing_behind() {
    let store = MemoryStore::new();
    let mutex = mutex(&store, 60 * SECOND);
    let first = runtime();
    for number in 0..50 {
        let lock = mutex.lock(format!("job {number}"));
        first.spawn(async move {
            let _guard = lock.acquire().await;
            std::future::pending::<()>().await;
        });
    }
    first.block_on(tokio::task::yield_now());
    drop(first);
    assert!(runtime().block_on(mutex.shutdown(30 * SECOND)).is_empty());
    let taken = runtime().block_on(mutex.list(&db_mutex_core::admin::ListFilter::taken())).unwrap();
    assert!(taken.is_empty(), "{taken:?}");
}

/// What a user's own test does: tokio's time is paused, the mutex's is not.
#[tokio::test(start_paused = true)]
async fn a_mutex_in_a_test_with_paused_time_behaves() {
    let store = MemoryStore::new();
    let mutex = mutex(&store, 30 * SECOND);
    let guard = mutex.lock("job").acquire().await.unwrap();
    assert!(mutex.lock("job").acquire().await.unwrap_err().is_held());
    let waiter = tokio::spawn({
        let lock = mutex.lock("job").wait(20 * SECOND);
        async move { lock.acquire().await }
    });
    tokio::time::sleep(3_600 * SECOND).await;
    assert!(guard.is_valid(), "an hour of tokio's time is no time for the lease");
    guard.release().await.unwrap();
    waiter.await.unwrap().unwrap().release().await.unwrap();
    drop(mutex.lock("dropped").acquire().await.unwrap());
    assert_eq!(mutex.shutdown(20 * SECOND).await, Vec::<LockId>::new());
}

/// A thread without a tokio runtime waits for a lock.
#[test]
fn a_thread_without_a_runtime_hears_an_error_and_not_a_panic() {
    let mut store = Server::new();
    store.insert = SECOND / 20;
    let mutex = DbMutex::builder(store).build().unwrap();
    let lock = mutex.lock("job");
    let mut acquiring = Box::pin(lock.acquire());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| acquiring.as_mut().poll(&mut context)));
    assert!(polled.is_ok(), "it panics");
}
