//! A database that answers at first, and then no more.

use std::time::Duration;

use db_mutex_core::{DbMutex, Error};
use tokio::task::{JoinHandle, spawn};
use tokio::time::{Instant, sleep};

use crate::flaky::{Fault, Flaky};

const SECOND: Duration = Duration::from_secs(1);

/// The database answers no more.
fn fall_silent(store: &Flaky) {
    store.next([Fault::ReplyNever; 1_000]);
}

/// A mutex whose lock `job` a process has that has crashed.
async fn held_for(store: &Flaky, ttl: Duration) -> DbMutex {
    let mutex = store.mutex();
    let _ = mutex.lock("job").ttl(ttl).acquire().await.unwrap().into_owner_token();
    mutex
}

fn waits(mutex: &DbMutex, limit: Duration) -> JoinHandle<Result<(), Error>> {
    let lock = mutex.lock("job").wait(limit);
    spawn(async move { lock.acquire().await.map(drop) })
}

fn is_failure(error: &Error) -> bool {
    matches!(error, Error::Store { .. })
}

#[tokio::test(start_paused = true)]
async fn held_is_not_returned_after_the_end_of_the_lease_that_the_database_told_of() {
    let store = Flaky::on_tokio_time();
    let mutex = held_for(&store, 2 * SECOND).await;
    let begun = Instant::now();
    let mut waiters = vec![waits(&mutex, 5 * SECOND), waits(&mutex, 6 * SECOND)];
    sleep(SECOND).await;
    fall_silent(&store);
    // It came after every answer.
    waiters.push(waits(&mutex, 4 * SECOND));
    for waiter in waiters {
        let error = waiter.await.unwrap().unwrap_err();
        assert!(is_failure(&error), "{error}");
    }
    assert!(begun.elapsed() < 20 * SECOND, "one attempt beyond the limit, not {:?}", begun.elapsed());
}

/// Also if only its own first question was answered.
#[tokio::test(start_paused = true)]
async fn the_answer_to_the_first_question_ages_too() {
    let store = Flaky::on_tokio_time();
    let mutex = held_for(&store, SECOND).await;
    let waiter = waits(&mutex, 3 * SECOND);
    tokio::task::yield_now().await;
    fall_silent(&store);
    let error = waiter.await.unwrap().unwrap_err();
    assert!(is_failure(&error), "{error}");
}

#[tokio::test(start_paused = true)]
async fn held_is_returned_within_the_lease_to_those_who_asked_before() {
    let store = Flaky::on_tokio_time();
    let mutex = held_for(&store, 60 * SECOND).await;
    let begun = Instant::now();
    let before = [waits(&mutex, 5 * SECOND), waits(&mutex, 6 * SECOND)];
    sleep(SECOND).await;
    fall_silent(&store);
    let after = waits(&mutex, 4 * SECOND);
    for waiter in before {
        let error = waiter.await.unwrap().unwrap_err();
        assert!(error.is_held(), "{error}");
    }
    assert!(begun.elapsed() < 7 * SECOND, "{:?}", begun.elapsed());
    let error = after.await.unwrap().unwrap_err();
    assert!(is_failure(&error), "no answer was to a question that was sent after it came: {error}");
}

/// A database that answers decides, also if the lease ends about when the limit does.
#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_about_the_limit_is_asked_for_again() {
    let store = Flaky::on_tokio_time();
    let mutex = held_for(&store, 5 * SECOND).await;
    let error = waits(&mutex, 4_999 * SECOND / 1_000).await.unwrap().unwrap_err();
    assert!(error.is_held(), "{error}");
    let waiter = waits(&mutex, SECOND);
    assert!(waiter.await.unwrap().is_ok(), "it is over");
}
