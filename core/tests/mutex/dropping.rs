use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use db_mutex_core::testing::MemoryStore;
use db_mutex_core::{DbMutex, LockId};

use crate::flaky::{Fault, Flaky};

const SECOND: Duration = Duration::from_secs(1);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn a_dropped_guard_is_released() {
    let store = Flaky::new();
    let mutex = store.mutex();
    drop(mutex.lock("job").acquire().await.unwrap());
    assert!(mutex.shutdown(60 * SECOND).await.is_empty());
    assert!(!store.is_taken("job").await);
}

#[tokio::test]
async fn a_guard_dropped_while_unwinding_is_released() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = guard;
        panic!("the work went wrong");
    }));
    assert!(panicked.is_err());
    assert!(mutex.shutdown(60 * SECOND).await.is_empty());
    assert!(!store.is_taken("job").await);
}

#[tokio::test(start_paused = true)]
async fn a_release_in_the_background_is_not_given_up_while_the_store_is_away() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    store.next([Fault::Fails; 60]);
    drop(guard);
    assert_eq!(mutex.shutdown(60 * SECOND).await.len(), 1);
    assert!(mutex.shutdown(600 * SECOND).await.is_empty());
    assert!(!store.is_taken("job").await);
}

#[tokio::test]
async fn a_release_in_the_background_outlives_a_store_that_is_away_for_a_moment() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    store.next([Fault::Fails, Fault::Fails]);
    drop(guard);
    assert!(mutex.shutdown(60 * SECOND).await.is_empty());
    assert!(!store.is_taken("job").await);
}

#[test]
fn a_guard_may_be_dropped_where_there_is_no_runtime() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let running = runtime();
    let guard = running.block_on(mutex.lock("job").acquire()).unwrap();
    drop(guard);
    assert!(running.block_on(mutex.shutdown(60 * SECOND)).is_empty());
    assert!(!running.block_on(store.is_taken("job")));
}

#[test]
fn a_guard_dropped_after_its_runtime_is_released() {
    let store = Flaky::new();
    let mutex = store.on_a_thread();
    let running = runtime();
    let guard = running.block_on(mutex.lock("job").acquire()).unwrap();
    drop(running);
    drop(guard);
    let later = runtime();
    assert!(later.block_on(mutex.shutdown(60 * SECOND)).is_empty());
    assert!(!later.block_on(store.is_taken("job")));
    drop(later.block_on(mutex.lock("other").acquire()).unwrap());
    assert!(later.block_on(mutex.shutdown(60 * SECOND)).is_empty());
}

#[tokio::test]
async fn an_acquire_dropped_on_its_way_leaves_no_ghost() {
    let store = Flaky::new();
    let mutex = store.mutex();
    store.next([Fault::ReplyNever]);
    let lock = mutex.lock("job");
    let given_up = tokio::time::timeout(Duration::from_millis(20), lock.acquire()).await;
    assert!(given_up.is_err());
    store.until_free("job").await;
}

#[tokio::test]
async fn a_dropped_waiter_leaves_the_holder_alone() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    let lock = mutex.lock("job").wait(60 * SECOND);
    assert!(tokio::time::timeout(Duration::from_millis(100), lock.acquire()).await.is_err());
    assert!(mutex.shutdown(60 * SECOND).await.is_empty());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_run_that_is_dropped_releases_its_lock() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let run = mutex.run("job", async |_| std::future::pending::<()>().await);
    assert!(tokio::time::timeout(Duration::from_millis(20), run).await.is_err());
    store.until_free("job").await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_says_what_it_had_to_leave() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    store.next([Fault::ReplyNever]);
    drop(guard);
    assert_eq!(mutex.shutdown(SECOND).await, [LockId::new("job").unwrap()]);
}

/// A task that watches over calls kept it for as long as the runtime did.
#[test]
fn a_store_ends_with_its_mutex_also_where_nothing_runs_the_runtime_any_more() {
    let (runtime, store) = (runtime(), Arc::new(MemoryStore::new()));
    let kept = Arc::downgrade(&store);
    runtime.block_on(async {
        let mutex = DbMutex::new(store).unwrap();
        mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
    });
    // The thread of the mutex ends by itself.
    let began = Instant::now();
    while kept.strong_count() > 0 {
        assert!(began.elapsed() < 20 * SECOND, "it is kept");
        std::thread::sleep(Duration::from_millis(5));
    }
}
