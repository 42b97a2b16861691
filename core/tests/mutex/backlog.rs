//! More requests than the store takes at a time: those who wait for them, or do no longer, and those beside them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::{Limits, LockStore};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::server::{Server, runtime};
use crate::troubled::{Trouble, Troubled};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Requests wait in the queue for longer than their callers do, and are sent after their deletes were. Each call keeps to
/// the store's limit; the background has connections of its own, and is not busy.
#[test]
fn a_request_that_was_given_up_in_the_queue_is_not_sent_later() {
    let mut store = Server::new();
    store.insert = 100 * MS;
    store.limits = Limits::new().concurrency(1).call(200 * MS);
    store.behind = Some(Arc::new(Semaphore::new(3)));
    let mutex = DbMutex::builder(store.clone()).ttl(1_800 * SECOND).build().unwrap();
    let running = runtime();
    running.block_on(async {
        let acquiring: Vec<_> = (0..30)
            .map(|number| {
                let lock = mutex.lock(format!("job {number}"));
                tokio::spawn(async move { lock.acquire().await.map(drop) })
            })
            .collect();
        for task in acquiring {
            let _ = task.await.unwrap();
        }
        let left = mutex.shutdown(30 * SECOND).await;
        assert!(left.is_empty(), "{} left", left.len());
        sleep(5 * SECOND).await;
        assert!(mutex.shutdown(30 * SECOND).await.is_empty());
    });
    let taken = running.block_on(async { store.memory.list(&ListFilter::taken()).await }).unwrap();
    assert!(taken.is_empty(), "{} locks are held by no one for half an hour", taken.len());
}

/// After a burst the queue is full of requests whose callers have gone. All are sent, and those who still wait for an
/// answer ask again every eleven seconds, so the queue never gets shorter.
#[tokio::test(start_paused = true)]
async fn releases_catch_up_after_a_burst() {
    let mut store = Troubled::new(3 * SECOND, |_, _| Trouble::None);
    store.limits = Limits::new().concurrency(64).batch(1);
    let mutex = store.builder().ttl(1_800 * SECOND).build().unwrap();
    let acquiring: Vec<_> = (0..500)
        .map(|number| {
            let lock = mutex.lock(format!("job {number}"));
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect();
    for task in acquiring {
        let _ = task.await.unwrap();
    }
    // Fifteen calls of three seconds at a time: a thousand deletes take 200 s.
    let left = mutex.shutdown(1_500 * SECOND).await.len();
    let calls = store.calls.load(Ordering::SeqCst);
    println!("{left} left, {calls} calls");
    assert!(left == 0, "{left} locks are not released after 1500 s and {calls} calls");
}

/// Reads need no place, and take the connections that are kept for renewals.
#[test]
fn reads_in_the_background_delay_no_renewal() {
    let mut store = Server::new();
    store.find = 3 * SECOND;
    store.behind = Some(Arc::new(Semaphore::new(3)));
    let mutex = DbMutex::builder(store.clone()).ttl(6 * SECOND).keep_alive(true).build().unwrap();
    let first = runtime();
    let guard = first.block_on(mutex.lock("kept").acquire()).unwrap();
    // From another runtime, as by an operator's page.
    let second = runtime();
    second.block_on(async {
        let reads: Vec<_> = (0..9)
            .map(|_| {
                let mutex = mutex.clone();
                tokio::spawn(async move { mutex.list(&ListFilter::taken()).await.unwrap() })
            })
            .collect();
        for read in reads {
            read.await.unwrap();
        }
    });
    assert!(guard.is_valid(), "{:?}", guard.lost_reason());
}
