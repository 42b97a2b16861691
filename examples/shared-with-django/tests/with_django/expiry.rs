use std::time::{Duration, Instant};

use db_mutex_core::{DbMutex, Error, LostReason, Ttl};

use crate::project::{Database, Project, eventually, on_both, secs};

on_both! {
    a_lease_of_rust_ends_for_django_by_its_own_ttl
    a_lease_of_rust_outlasts_the_ttl_of_django
    a_lock_of_django_that_has_ended_is_taken_over
    without_a_ttl_django_waits_for_rust_to_clear_up
}

/// Django's TTL is half an hour, the lease of Rust two seconds: Django deletes the row after two seconds, not later or earlier.
async fn a_lease_of_rust_ends_for_django_by_its_own_ttl(database: Database) {
    let project = Project::new(database);
    let before = Instant::now();
    let guard = project.mutex().await.lock("job").ttl(secs(2)).acquire().await.unwrap();
    eventually("Django acquires it", || project.is_free_to_django("job"));
    assert!(before.elapsed() >= secs(2));
    let error = guard.release().await.unwrap_err();
    assert!(matches!(error, Error::Lost { reason: LostReason::Expired, .. }), "{error}");
}

/// The other way round: without the renewals, and without a time of creation that is in the future, Django would delete it.
async fn a_lease_of_rust_outlasts_the_ttl_of_django(database: Database) {
    let project = Project::with_ttl(database, Some(secs(1)));
    let mutex = project.mutex().await;
    let renewed = mutex.lock("renewed").ttl(secs(4)).keep_alive(true).acquire().await.unwrap();
    let long = mutex.lock("long").ttl(secs(60)).acquire().await.unwrap();
    let never = mutex.lock("never").ttl(Ttl::NEVER).acquire().await.unwrap();
    let started = Instant::now();
    while started.elapsed() < secs(6) {
        for lock_id in ["renewed", "long", "never"] {
            assert!(!project.is_free_to_django(lock_id), "{lock_id}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for guard in [renewed, long, never] {
        guard.release().await.unwrap();
    }
    assert!(project.is_free_to_django("renewed") && project.is_free_to_django("never"));
}

async fn a_lock_of_django_that_has_ended_is_taken_over(database: Database) {
    let project = Project::with_ttl(database, Some(secs(2)));
    let mutex = project.mutex().await;
    let holder = project.django_holds("job");
    let first = mutex.find("job").await.unwrap().unwrap();
    let lock = mutex.lock("job").ttl(secs(60)).wait(secs(30));
    let guard = lock.acquire().await.unwrap();
    assert!(guard.lease().acquired_at.since(first.acquired_at) >= secs(2));
    assert!(guard.fence() > first.fence);
    // It is late, and does not release the lock of its successor.
    assert_eq!(holder.end(), "timed out");
    assert!(!project.is_free_to_django("job"));
    guard.release().await.unwrap();
}

/// With `DB_MUTEX_TTL_SECONDS = None` Django deletes nothing: it is blocked by a lease of Rust that has ended until Rust asks
/// for that lock, or purges.
async fn without_a_ttl_django_waits_for_rust_to_clear_up(database: Database) {
    let project = Project::with_ttl(database, None);
    let mutex = project.mutex().await;
    let holder = project.django_holds("of django");
    let error = mutex.lock("of django").wait(secs(1)).acquire().await.unwrap_err();
    assert!(matches!(&error, Error::Held { holder, .. } if holder.expires_in.is_none()), "{error}");

    std::mem::forget(mutex.lock("job").ttl(secs(1)).acquire().await.unwrap());
    tokio::time::sleep(secs(2)).await;
    assert!(!project.is_free_to_django("job"));
    assert_eq!(mutex.purge_expired(Duration::ZERO).await.unwrap(), 1);
    assert!(project.is_free_to_django("job"));
    assert_eq!(holder.end(), "released");
}

/// A process of Django whose clock is ahead of the database's by less than the margin does not delete a lease that has not ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_margin_for_the_clocks_is_added_to_a_lease() {
    let project = Project::new(Database::Postgres);
    let mutex = DbMutex::new(project.postgres().await.margin(secs(4))).unwrap();
    let before = Instant::now();
    std::mem::forget(mutex.lock("job").ttl(secs(1)).acquire().await.unwrap());
    eventually("Django acquires it", || project.is_free_to_django("job"));
    assert!(before.elapsed() >= secs(5));
}
