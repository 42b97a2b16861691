use db_mutex_core::{Error, StoreErrorKind, Ttl};

use crate::project::{Database, Project, on_both, secs};

on_both! {
    django_is_refused_while_rust_holds
    rust_is_refused_while_django_holds
    rust_waits_for_django
    django_is_refused_while_a_lock_rests
    a_list_shows_the_locks_of_both
    a_release_by_force_is_seen_by_the_other_side
}

async fn django_is_refused_while_rust_holds(database: Database) {
    let project = Project::new(database);
    let guard = project.mutex().await.lock("job").acquire().await.unwrap();
    assert!(!project.is_free_to_django("job"));
    assert!(project.is_free_to_django("another job"));
    guard.release().await.unwrap();
    assert!(project.is_free_to_django("job"));
}

async fn rust_is_refused_while_django_holds(database: Database) {
    let project = Project::new(database);
    let mutex = project.mutex().await;
    let holder = project.django_holds("job");
    let Error::Held { holder: refused_by, .. } = mutex.lock("job").acquire().await.unwrap_err() else { panic!() };
    assert_eq!(refused_by.name.as_str(), "a process with django-db-mutex");
    assert!(refused_by.expires_in.is_some_and(|left| left > secs(29 * 60) && left <= secs(30 * 60)));
    mutex.lock("another job").acquire().await.unwrap().release().await.unwrap();
    assert_eq!(holder.end(), "released");
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
}

async fn rust_waits_for_django(database: Database) {
    let project = Project::new(database);
    let mutex = project.mutex().await;
    let holder = project.django_holds("job");
    let waiting = tokio::spawn(async move { mutex.lock("job").wait(secs(30)).acquire().await });
    assert_eq!(tokio::task::spawn_blocking(|| holder.end()).await.unwrap(), "released");
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

async fn django_is_refused_while_a_lock_rests(database: Database) {
    let project = Project::new(database);
    let mutex = project.mutex().await;
    mutex.lock("job").hold_at_least(secs(20 * 60)).acquire().await.unwrap().release().await.unwrap();
    assert!(!project.is_free_to_django("job"));
}

/// In the list of an operator are the locks of both.
async fn a_list_shows_the_locks_of_both(database: Database) {
    let project = Project::new(database);
    let mutex = project.mutex().await;
    let holder = project.django_holds("of django");
    let guard = mutex.lock("of rust").ttl(Ttl::NEVER).acquire().await.unwrap();
    let rows = mutex.list(&db_mutex_core::admin::ListFilter::taken()).await.unwrap();
    let ids: Vec<_> = rows.iter().map(|row| row.lock_id.as_str()).collect();
    assert_eq!(ids, ["of django", "of rust"]);
    assert!(rows[0].fence > db_mutex_core::Fence::new(0));
    guard.release().await.unwrap();
    assert_eq!(holder.end(), "released");
}

/// Both sides notice at the latest when they release.
async fn a_release_by_force_is_seen_by_the_other_side(database: Database) {
    let project = Project::new(database);
    let mutex = project.mutex().await;
    let holder = project.django_holds("job");
    assert!(mutex.force_release("job").await.unwrap());
    let guard = mutex.lock("job").acquire().await.unwrap();
    assert_eq!(holder.end(), "timed out");
    assert!(project.django(&["delete", "job"]).status().unwrap().success());
    let error = guard.release().await.unwrap_err();
    assert!(matches!(error, Error::Lost { reason: db_mutex_core::LostReason::ReleasedByForce, .. }), "{error}");
    assert!(project.is_free_to_django("job"));
}

/// A row of an outer transaction in Django can neither be seen nor be waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_django_has_not_committed_is_busy() {
    let project = Project::new(Database::Postgres);
    let mutex = project.mutex().await;
    let (client, connection) = tokio_postgres::connect(project.database(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let insert = "BEGIN; INSERT INTO db_mutex_dbmutex (lock_id, creation_time) VALUES ('job', now())";
    client.batch_execute(insert).await.unwrap();
    let error = mutex.lock("job").acquire().await.unwrap_err();
    assert!(matches!(&error, Error::Store { source, .. } if source.kind() == StoreErrorKind::Busy), "{error}");
    mutex.lock("another job").acquire().await.unwrap().release().await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let error = mutex.lock("job").acquire().await.unwrap_err();
    assert!(error.is_held(), "{error}");
}
