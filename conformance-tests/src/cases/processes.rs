//! Several processes on one database. Each is the test's own program, started again; see [`crate::process`].

use std::time::Duration;

use db_mutex_core::store::{Inserted, LockState};

use crate::answer::{granted, not_renewed, refused, released};
use crate::case::Body;
use crate::process::{Others, ThisOne};
use crate::subject::{Subject, minute};

const PROCESSES: usize = 3;
const ROUNDS: usize = 10;

/// The part of a process that a case has started.
pub(crate) fn in_another<'a>(store: &'a Subject, this: &'a ThisOne) -> Body<'a> {
    match this.case.as_str() {
        "processes_exclude_one_another" => Box::pin(take_turns(store, this)),
        "what_a_process_does_is_seen_by_another" => Box::pin(end_it_and_acquire(store, this)),
        "a_lease_outlives_its_process" => Box::pin(acquire_and_die(store, this)),
        other => panic!("the case {other} has no part for other processes"),
    }
}

pub(crate) async fn processes_exclude_one_another(store: &Subject) {
    let mut others = Others::start(store, PROCESSES);
    for number in 0..PROCESSES {
        others.wait_for(&format!("{number} is ready")).await;
    }
    others.meeting().signal("begin");
    others.finish().await;
    let fences = others.meeting().fences();
    assert_eq!(fences.len(), PROCESSES * ROUNDS, "each acquisition of each process must be granted once");
    let rising = fences.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(rising, "the fencing tokens of several processes MUST rise in the order of the grants (F1): {fences:?}");
}

async fn take_turns(store: &Subject, this: &ThisOne) {
    let id = store.id("job");
    this.meeting.signal(&format!("{} is ready", this.number));
    this.meeting.wait_for("begin").await;
    for _ in 0..ROUNDS {
        let owner = crate::subject::new_owner();
        let lease = loop {
            match store.ask_as(owner, &id, minute()).await {
                Inserted::Granted(lease) => break lease,
                Inserted::Held(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                other => panic!("a new owner token must be granted or refused; the store answered {other:?}"),
            }
        };
        let inside = this.meeting.enter(lease.fence);
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(inside);
        released(store.release(owner, &id).await, "delete MUST release a lock for the owner that was granted it");
    }
}

pub(crate) async fn what_a_process_does_is_seen_by_another(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    // If a handle remembers anything, it is that the lock is held, and by whom.
    refused(store.ask(&id).await, "a held id must be refused");
    assert_eq!(store.row(&id).await.state(), LockState::Held, "find must show a held lock");
    let mut others = Others::start(store, 1);
    others.wait_for("ended by force").await;
    let state = store.row(&id).await.state();
    assert_eq!(state, LockState::Free, "find MUST show what another process has stored (A2): it has released the lock");
    let promise = "renew MUST be refused once another process has released the lock (A2)";
    not_renewed(store.prolong(owner, &id, minute()).await, promise);
    others.meeting().signal("acquire it");
    others.wait_for("acquired").await;
    let holder = refused(store.ask(&id).await, "insert_if_absent MUST refuse what another process was granted (A2)");
    let row = store.row(&id).await;
    assert_eq!(row.fence, holder.fence, "find and a refusal must show the acquisition of another process");
    others.finish().await;
}

async fn end_it_and_acquire(store: &Subject, this: &ThisOne) {
    let id = store.id("job");
    let promise = "insert_if_absent MUST refuse what another process was granted (A2)";
    let holder = refused(store.ask(&id).await, promise);
    released(store.force_fence(&id, holder.fence).await, "a forced delete MUST end what another process has acquired");
    this.meeting.signal("ended by force");
    this.meeting.wait_for("acquire it").await;
    granted(store.ask(&id).await, "a released id must be granted");
    this.meeting.signal("acquired");
}

pub(crate) async fn a_lease_outlives_its_process(store: &Subject) {
    let id = store.id("job");
    let mut others = Others::start(store, 1);
    others.wait_for("acquired").await;
    others.kill();
    let promise = "a lease MUST last its TTL, also when its process was killed, and with it its connections (insert 4)";
    refused(store.ask(&id).await, promise);
    assert_eq!(store.row(&id).await.state(), LockState::Held, "find must show a lease that lasts as held: {promise}");
    released(store.force(&id).await, "force must release a lock whose process was killed");
    granted(store.ask(&id).await, "a released id must be granted");
}

async fn acquire_and_die(store: &Subject, this: &ThisOne) {
    store.grant(&store.id("job"), minute()).await;
    this.meeting.signal("acquired");
    // Until it is killed.
    tokio::time::sleep(Duration::from_secs(60)).await;
}
