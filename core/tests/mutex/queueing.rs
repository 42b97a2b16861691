use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_mutex_core::WaitLimit;
use tokio::time::{Instant, sleep, timeout};

use crate::flaky::Flaky;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn waiters_of_a_process_are_served_in_the_order_in_which_they_came() {
    let store = Flaky::on_tokio_time();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for number in 0..100 {
        let lock = mutex.lock("job").wait(WaitLimit::Forever);
        let served = Arc::clone(&served);
        waiters.push(tokio::spawn(async move {
            let guard = lock.acquire().await.unwrap();
            served.lock().unwrap().push(number);
            guard.release().await.unwrap();
        }));
        tokio::task::yield_now().await;
    }
    guard.release().await.unwrap();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(*served.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

/// A release, by a guard that is dropped too, wakes the next waiter at once: no pause, no poll in between.
#[tokio::test(start_paused = true)]
async fn a_release_in_the_same_process_hands_over_without_a_poll() {
    let store = Flaky::on_tokio_time();
    let mutex = store.mutex();
    for dropped in [false, true] {
        let guard = mutex.lock("job").acquire().await.unwrap();
        let waiter = tokio::spawn({
            let lock = mutex.lock("job").wait(WaitLimit::Forever);
            async move { lock.acquire().await.map(|guard| (guard, Instant::now())) }
        });
        // Long enough for the pauses between two polls to be half a second.
        sleep(30 * SECOND).await;
        let before = store.asked.inserts.load(Ordering::SeqCst);
        let released = Instant::now();
        if dropped {
            drop(guard);
        } else {
            guard.release().await.unwrap();
        }
        let (guard, granted) = waiter.await.unwrap().unwrap();
        assert!(granted - released < Duration::from_millis(1), "{:?}", granted - released);
        assert_eq!(store.asked.inserts.load(Ordering::SeqCst) - before, 1);
        guard.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn of_ten_thousand_waiters_one_asks_the_store() {
    let store = Flaky::on_tokio_time();
    let mutex = store.mutex();
    let _guard = mutex.lock("job").ttl(3_600 * SECOND).acquire().await.unwrap();
    let ask = async |waiters: usize, apart: Duration| {
        let before = store.asked.inserts.load(Ordering::SeqCst);
        let mut waiting = Vec::new();
        for _ in 0..waiters {
            let lock = mutex.lock("job").wait(60 * SECOND);
            waiting.push(tokio::spawn(async move { lock.acquire().await.map(drop) }));
            sleep(apart).await;
        }
        for waiter in waiting {
            assert!(waiter.await.unwrap().unwrap_err().is_held());
        }
        store.asked.inserts.load(Ordering::SeqCst) - before
    };
    let (one, many) = (ask(1, Duration::ZERO).await, ask(10_000, Duration::ZERO).await);
    println!("asked in a minute: {one} times for one waiter, {many} times for ten thousand");
    // The pauses between two polls are random.
    assert!(many <= 2 * one, "{many} against {one}");

    // Those who came one after the other also give up one after the other.
    let (one, many) = (ask(1, Duration::ZERO).await, ask(10_000, Duration::from_millis(1)).await);
    println!("asked: {one} times for one waiter, {many} times for ten thousand who came within ten seconds");
    assert!(many <= 2 * one, "{many} against {one}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_leaves_the_line_at_once() {
    let store = Flaky::on_tokio_time();
    let mutex = store.mutex();
    let guard = mutex.lock("job").acquire().await.unwrap();
    let waiting = mutex.lock("job").wait(WaitLimit::Forever);
    let (mut head, mut second) = (Box::pin(waiting.acquire()), Box::pin(waiting.acquire()));
    assert!(timeout(SECOND, &mut head).await.is_err());
    assert!(timeout(SECOND, &mut second).await.is_err());
    drop(head);
    guard.release().await.unwrap();
    let guard = timeout(SECOND, second).await.expect("the second is the head now").unwrap();
    guard.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_does_not_stand_in_line() {
    let store = Flaky::on_tokio_time();
    let mutex = store.mutex();
    let _guard = mutex.lock("job").acquire().await.unwrap();
    let waiting = mutex.lock("job").wait(WaitLimit::Forever);
    let mut waiter = Box::pin(waiting.acquire());
    assert!(timeout(SECOND, &mut waiter).await.is_err());
    let begun = Instant::now();
    assert!(mutex.lock("job").try_acquire().await.unwrap_err().is_held());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
