//! What is left behind by those who go: by waiters, runtimes and the last clone, while requests of theirs are queued or under
//! way. Nothing may stay taken that no one has, and `shutdown` may not say that nothing is pending too early.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use db_mutex_core::store::{Limits, StoreTime};
use db_mutex_core::{DbMutex, LockId, WaitLimit};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::server::{Server, runtime};
use crate::troubled::{Trouble, Troubled};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A waiter is dropped while the engine's question for it is under way. `shutdown` knows nothing of that question.
#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_question_of_a_waiter_that_has_left() {
    let store = Troubled::new(200 * MS, |_, _| Trouble::None);
    let mutex = store.builder().build().unwrap();
    let guard = mutex.lock("job").acquire().await.unwrap();
    let waiting = mutex.lock("job").wait(WaitLimit::Forever);
    let mut waiter = Box::pin(waiting.acquire());
    assert!(timeout(SECOND, &mut waiter).await.is_err());
    guard.release().await.unwrap();
    assert!(timeout(50 * MS, &mut waiter).await.is_err());
    drop(waiter);
    assert!(mutex.shutdown(60 * SECOND).await.is_empty());
    // A process that exits now ...
    let mut was_taken = false;
    for _ in 0..300 {
        was_taken |= store.is_taken("job").await;
        sleep(MS).await;
    }
    assert!(!was_taken, "the lock was granted after shutdown had said that nothing is outstanding");
}

/// The same without any cancellation: the wait limit is over while a question is under way. The caller hears `Held`,
/// calls `shutdown`, and exits, as `db-mutex run --wait` does.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_hears_held_leaves_no_question_behind() {
    let mut ghosts = 0;
    for wait in (1_000..1_500).step_by(10) {
        let store = Troubled::new(200 * MS, |_, _| Trouble::None);
        let (holder, mutex) = (store.builder().build().unwrap(), store.builder().build().unwrap());
        let guard = holder.lock("job").acquire().await.unwrap();
        let waiting = tokio::spawn(async move {
            let outcome = mutex.lock("job").wait(wait * MS).acquire().await;
            let left = mutex.shutdown(60 * SECOND).await;
            (outcome, left, mutex)
        });
        sleep((wait - 30) * MS).await;
        // Free at once.
        store.memory.change_row(guard.lock_id(), |row| (row.owner, row.expires_at) = (None, StoreTime::ZERO));
        let (outcome, left, _mutex) = waiting.await.unwrap();
        if outcome.is_ok() {
            continue;
        }
        assert!(left.is_empty());
        let mut was_taken = false;
        for _ in 0..150 {
            was_taken |= store.is_taken("job").await;
            sleep(MS).await;
        }
        ghosts += u32::from(was_taken);
    }
    assert_eq!(ghosts, 0, "locks were granted after `Held` and after shutdown had said that nothing is outstanding");
}

/// The same when the last clone is dropped: the background ends at once, and the lock stays for its whole TTL.
#[test]
fn the_last_clone_drains_the_question_of_a_waiter_that_has_left() {
    let mut store = Server::new();
    store.insert = 300 * MS;
    let running = runtime();
    let other = DbMutex::builder(store.clone()).build().unwrap();
    let mutex = DbMutex::builder(store.clone()).build().unwrap();
    let held = running.block_on(other.lock("job").acquire()).unwrap();
    running.block_on(async {
        let waiting = mutex.lock("job").wait(WaitLimit::Forever);
        let mut waiter = Box::pin(waiting.acquire());
        assert!(timeout(SECOND, &mut waiter).await.is_err());
        // A question is under way, which will be granted.
        while store.under_way.load(Ordering::SeqCst) == 0 {
            assert!(timeout(MS, &mut waiter).await.is_err());
        }
        held.release().await.unwrap();
        drop(waiter);
    });
    drop(mutex);
    thread::sleep(3 * SECOND);
    assert!(!store.is_taken("job"), "no one has it, and it stays: {:?}", store.row("job"));
}

/// An insert is given up, its deletes are done, and then its runtime ends: the successor sends it again.
#[test]
fn a_request_that_was_given_up_is_not_sent_again_when_its_runtime_ends() {
    let mut store = Server::new();
    store.limits = Limits::new().call(100 * MS);
    let mutex = DbMutex::builder(store.clone()).ttl(1_800 * SECOND).build().unwrap();
    store.stuck.store(1, Ordering::SeqCst);
    let first = runtime();
    // The insert has not left; the runtime is then not polled any more, as in a program that is not async.
    assert!(first.block_on(async { timeout(20 * MS, mutex.lock("job").acquire()).await }).is_err());
    let second = runtime();
    // It may still be sent: `shutdown` says so.
    assert_eq!(second.block_on(mutex.shutdown(SECOND)), [LockId::new("job").unwrap()]);
    drop(first);
    thread::sleep(500 * MS);
    assert!(second.block_on(mutex.shutdown(10 * SECOND)).is_empty());
    assert!(!store.is_taken("job"), "no one has it, and it stays: {:?}", store.row("job"));
}

/// An insert that waits for a connection in a runtime that is not polled any more is sent when it is polled again.
#[test]
fn a_request_in_a_runtime_that_is_not_polled_leaves_no_ghost() {
    let mut store = Server::new();
    store.limits = Limits::new().call(100 * MS);
    let connections = Arc::new(Semaphore::new(1));
    store.connections = Some(Arc::clone(&connections));
    store.behind = Some(Arc::new(Semaphore::new(3)));
    let mutex = DbMutex::builder(store.clone()).ttl(1_800 * SECOND).build().unwrap();
    let first = runtime();
    let busy = connections.try_acquire().unwrap();
    assert!(first.block_on(async { timeout(20 * MS, mutex.lock("job").acquire()).await }).is_err());
    let second = runtime();
    assert_eq!(second.block_on(mutex.shutdown(SECOND)), [LockId::new("job").unwrap()]);
    drop(busy);
    first.block_on(async { sleep(100 * MS).await });
    assert!(second.block_on(mutex.shutdown(10 * SECOND)).is_empty());
    assert!(!store.is_taken("job"), "no one has it, and it stays: {:?}", store.row("job"));
}

/// A runtime ends while many requests are queued: each call that is dropped makes room for the next, which is dropped too.
#[test]
fn a_runtime_that_ends_with_many_requests_does_not_overflow_the_stack() {
    for one_id in [false, true] {
        let mut store = Server::new();
        store.limits = if one_id { Limits::new().batch(1_000) } else { Limits::new() };
        store.stuck.store(100, Ordering::SeqCst);
        let mutex = DbMutex::builder(store).build().unwrap();
        let first = runtime();
        for number in 0..5_000 {
            let lock = mutex.lock(format!("job {}", if one_id { 0 } else { number }));
            drop(first.spawn(async move { lock.acquire().await }));
        }
        first.block_on(async { sleep(100 * MS).await });
        drop(first);
    }
}
