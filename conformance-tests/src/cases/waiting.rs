//! The hint for waiters. It promises only to end.

use std::time::{Duration, Instant};

use crate::answer::{answered, refused};
use crate::subject::{Subject, minute};

pub(crate) async fn waiting_for_a_release_ends_in_time(store: &Subject) {
    let (held, absent) = (store.id("held"), store.id("absent"));
    store.grant(&held, minute()).await;
    let at_most = Duration::from_millis(200);
    for id in [&held, &absent] {
        // Far more than a round trip takes, so that only a wait without an end fails here.
        let wait = tokio::time::timeout(at_most + Duration::from_secs(5), store.wait_for_release(id, at_most));
        let outcome = wait.await.expect("waiting for a release must end when `at_most` is over");
        answered(outcome, "wait_for_release");
    }
    refused(store.ask(&held).await, "waiting for a release must not release the lock");
}

pub(crate) async fn waiting_for_a_release_takes_its_time(store: &Subject) {
    let held = store.id("held");
    store.grant(&held, minute()).await;
    let waiting = Duration::from_millis(500);
    // A store may be mistaken about a release now and then; not so often that its waiters ask all the time.
    const MOST: u32 = 50;
    let started = Instant::now();
    let mut returned = 0;
    while let Some(left) = waiting.checked_sub(started.elapsed()) {
        answered(store.wait_for_release(&held, left).await, "wait_for_release");
        returned += 1;
        assert!(
            returned <= MOST,
            "wait_for_release MUST wait for `at_most` unless the store learns of a release (wait 1): it has returned {returned} \
             times in {:?}, and the lock was held all the time",
            started.elapsed()
        );
    }
}

pub(crate) async fn waiting_for_a_release_leaves_its_thread_free(store: &Subject) {
    let held = store.id("held");
    store.grant(&held, minute()).await;
    let at_most = Duration::from_secs(5);
    let started = Instant::now();
    tokio::select! {
        biased;
        outcome = store.wait_for_release(&held, at_most) => answered(outcome, "wait_for_release"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    assert!(
        started.elapsed() < at_most / 2,
        "wait_for_release MUST NOT block its thread while it waits (wait 1): a timer of the same task was due after 50 ms, and \
         had to wait for {:?}",
        started.elapsed()
    );
}
