//! The hint for waiters. It promises only to end.

use std::time::Duration;

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
