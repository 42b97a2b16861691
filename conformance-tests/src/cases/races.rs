//! Many at once: tasks of one handle, and of two, which stand for two processes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, Fence, Inserted, Lease, LockId, LockStore, OwnerToken};
use tokio::sync::Barrier;
use tokio::task::{JoinHandle, yield_now};

use crate::answer::{answered, refused};
use crate::subject::{Subject, insert_request, minute, moment, new_owner};

/// Lets `tasks` tasks request one id at the same moment, on the handles in turn, and returns the granted leases.
async fn race(handles: &[Arc<dyn LockStore>], id: &LockId, tasks: usize) -> Vec<Lease> {
    let start = Arc::new(Barrier::new(tasks));
    let racers: Vec<JoinHandle<Inserted>> = (0..tasks)
        .map(|number| {
            let (store, id, start) = (Arc::clone(&handles[number % handles.len()]), id.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                let request = insert_request(new_owner(), &id, minute());
                answered(store.insert_if_absent(&request).await, "insert_if_absent in a race")
            })
        })
        .collect();
    let mut leases = Vec::new();
    for answer in finished(racers).await {
        if let Inserted::Granted(lease) = answer {
            leases.push(lease);
        }
    }
    leases
}

/// What the tasks returned; the panic of a task becomes the case's own.
async fn finished<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        match task.await {
            Ok(result) => results.push(result),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
    results
}

/// Acquires an id against others, asking again until it is granted.
async fn acquire(store: &dyn LockStore, id: &LockId) -> (OwnerToken, Lease) {
    let owner = new_owner();
    loop {
        let request = insert_request(owner, id, minute());
        match answered(store.insert_if_absent(&request).await, "insert_if_absent in a race") {
            Inserted::Granted(lease) => return (owner, lease),
            Inserted::Held(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            other => panic!("a new owner token must be granted or refused; the store answered {other:?}"),
        }
    }
}

async fn release(store: &dyn LockStore, id: &LockId, owner: OwnerToken) {
    let answer = answered(store.delete(&DeleteRequest::by_owner(id.clone(), owner)).await, "delete in a race");
    crate::answer::released(answer, "a lock that was granted must be its owner's until the owner releases it");
}

pub(crate) async fn one_of_a_hundred_tasks_wins(store: &Subject) {
    let leases = race(&[store.first_handle()], &store.id("job"), 100).await;
    assert_eq!(leases.len(), 1, "of a hundred tasks that ask for a free id at once, exactly one must be granted it");
}

pub(crate) async fn two_handles_have_one_winner(store: &Subject) {
    let handles = [store.first_handle(), store.second_handle().await];
    for round in 0..5 {
        let leases = race(&handles, &store.id(&format!("job {round}")), 10).await;
        assert_eq!(leases.len(), 1, "of all that ask for a free id on two handles, exactly one must be granted it");
    }
}

pub(crate) async fn one_of_many_takes_over_an_expired_lock(store: &Subject) {
    let id = store.id("job");
    let (_, ended) = store.grant(&id, moment()).await;
    store.until_free(&id).await;
    let leases = race(&[store.first_handle(), store.second_handle().await], &id, 50).await;
    assert_eq!(leases.len(), 1, "an expired lock must be taken over by exactly one of those who ask at once");
    assert!(leases[0].fence > ended.fence, "a takeover must raise the fencing token");
}

/// No one releases: each takes over from the one before, and only the owner, the fencing token and the times differ. A store that
/// compares what it replaces by its length, or by its age, takes one for the other.
pub(crate) async fn takeovers_of_leases_alike_follow_one_another(store: &Subject) {
    const GRANTS: u64 = 8;
    let (handles, grants) = ([store.first_handle(), store.second_handle().await], Arc::new(AtomicU64::new(0)));
    let tasks = (0..8).map(|number| {
        let (handle, id, grants) = (Arc::clone(&handles[number % 2]), store.id("job"), Arc::clone(&grants));
        tokio::spawn(async move {
            let mut leases = Vec::new();
            while grants.load(Ordering::SeqCst) < GRANTS {
                let request = insert_request(new_owner(), &id, moment());
                let answer = answered(handle.insert_if_absent(&request).await, "insert_if_absent in a race");
                if let Inserted::Granted(lease) = answer {
                    grants.fetch_add(1, Ordering::SeqCst);
                    leases.push(lease);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            leases
        })
    });
    let mut leases = finished(tasks.collect()).await.concat();
    leases.sort_by_key(|lease| lease.fence);
    for pair in leases.windows(2) {
        let follows = pair[0].expires_at <= pair[1].acquired_at && pair[0].fence < pair[1].fence;
        assert!(
            follows,
            "insert_if_absent MUST grant an id to one at a time (A1): {:?} and {:?} were",
            pair[0], pair[1]
        );
    }
}

pub(crate) async fn a_grant_is_seen_through_another_handle(store: &Subject) {
    let id = store.id("job");
    let other = store.second_handle().await;
    let (owner, lease) = store.grant(&id, minute()).await;

    let answer = other.insert_if_absent(&insert_request(new_owner(), &id, minute())).await;
    let holder = refused(answered(answer, "insert_if_absent"), "a grant must be met on every handle of the database");
    assert_eq!(holder.fence, lease.fence, "another handle must show the grant as it was answered");
    let row = answered(other.find(&id).await, "find").expect("another handle must find the row of a grant");
    assert_eq!(row.expires_at, lease.expires_at, "another handle must show the grant as it was answered");

    release(&*other, &id, owner).await;
    crate::answer::granted(store.ask(&id).await, "a release must be met on every handle of the database");
}

pub(crate) async fn one_of_many_deletes_releases(store: &Subject) {
    let id = store.id("job");
    let (owner, _) = store.grant(&id, minute()).await;
    let handles = [store.first_handle(), store.second_handle().await];
    let start = Arc::new(Barrier::new(20));
    let tasks: Vec<JoinHandle<Deleted>> = (0..20)
        .map(|number: usize| {
            let (store, id, start) = (Arc::clone(&handles[number % 2]), id.clone(), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                answered(store.delete(&DeleteRequest::by_owner(id, owner)).await, "delete in a race")
            })
        })
        .collect();
    let answers = finished(tasks).await;
    let releases = answers.iter().filter(|answer| **answer == Deleted::Released).count();
    assert_eq!(
        releases, 1,
        "of all deletes of one lease that come at once, exactly one must answer that it released it"
    );
}

/// Eight tasks on two handles, each in the critical section of one lock eight times.
async fn under_the_lock<Work, Working>(store: &Subject, work: Work)
where
    Work: Fn(Lease) -> Working + Clone + Send + Sync + 'static,
    Working: Future<Output = ()> + Send,
{
    let handles = [store.first_handle(), store.second_handle().await];
    let tasks: Vec<JoinHandle<()>> = (0..8)
        .map(|number: usize| {
            let (store, id, work) = (Arc::clone(&handles[number % 2]), store.id("job"), work.clone());
            tokio::spawn(async move {
                for _ in 0..8 {
                    let (owner, lease) = acquire(&*store, &id).await;
                    work(lease).await;
                    release(&*store, &id, owner).await;
                }
            })
        })
        .collect();
    finished(tasks).await;
}

pub(crate) async fn a_counter_under_the_lock_loses_nothing(store: &Subject) {
    // Read, pause, write: only the lock keeps two of them apart.
    let counter = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&counter);
    under_the_lock(store, move |_| {
        let counter = Arc::clone(&counter);
        async move {
            let before = counter.load(Ordering::SeqCst);
            yield_now().await;
            counter.store(before + 1, Ordering::SeqCst);
        }
    })
    .await;
    let count = counted.load(Ordering::SeqCst);
    assert_eq!(count, 64, "two holders were in the critical section at once: increments under the lock were lost");
}

pub(crate) async fn fences_of_a_race_rise_in_the_order_of_the_grants(store: &Subject) {
    let fences: Arc<Mutex<Vec<Fence>>> = Arc::default();
    let seen = Arc::clone(&fences);
    under_the_lock(store, move |lease| {
        fences.lock().unwrap_or_else(PoisonError::into_inner).push(lease.fence);
        async {}
    })
    .await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(seen.len(), 64, "each acquisition must be granted once");
    let rising = seen.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(rising, "fencing tokens must rise in the order in which the acquisitions happened: {seen:?}");
}
