use db_mutex::{Guard, Ttl};

use crate::{Database, secs, three_minutes};

#[tokio::test]
async fn no_lock_before() {
    let database = Database::new().await;
    let guard = database.mutex.lock("lock_id").acquire().await.unwrap();
    assert!(database.is_held("lock_id").await);
    guard.release().await.unwrap();
    assert!(!database.is_held("lock_id").await);
}

#[tokio::test]
async fn lock_before() {
    let database = Database::new().await;
    let other = database.another().await.lock("lock_id").acquire().await.unwrap();
    let error = database.mutex.lock("lock_id").acquire().await.unwrap_err();
    assert!(error.is_held(), "{error}");
    assert!(database.is_held("lock_id").await, "the other one still has it");
    other.release().await.unwrap();
}

/// Without the lock there is no guard, so "held" is returned in any case: the context manager raises it, too. The caller
/// decides that it is no error.
#[tokio::test]
async fn lock_before_suppress_acquisition_errors() {
    async fn guard_if_free(database: &Database) -> Option<Guard> {
        match database.mutex.lock("lock_id").acquire().await {
            Ok(guard) => Some(guard),
            Err(error) if error.is_held() => None,
            Err(error) => panic!("{error}"),
        }
    }
    let database = Database::new().await;
    let other = database.another().await.lock("lock_id").acquire().await.unwrap();
    assert!(guard_if_free(&database).await.is_none());
    assert!(database.is_held("lock_id").await, "the other one still has it");
    other.release().await.unwrap();
    assert!(guard_if_free(&database).await.is_some());
}

#[tokio::test]
async fn lock_different_id() {
    let database = Database::new().await;
    let other = database.another().await.lock("lock_id").acquire().await.unwrap();
    let guard = database.mutex.lock("lock_id2").acquire().await.unwrap();
    assert!(database.is_held("lock_id").await && database.is_held("lock_id2").await);
    guard.release().await.unwrap();
    assert!(database.is_held("lock_id").await && !database.is_held("lock_id2").await);
    other.release().await.unwrap();
}

#[tokio::test]
async fn lock_timeout_default() {
    let database = Database::new().await;
    database.crash_with_a_lock(None).await;
    for minutes in [1, 8, 20] {
        database.pass(secs(minutes * 60));
        assert!(database.mutex.lock("lock_id").acquire().await.unwrap_err().is_held());
    }
    database.pass(secs(60));
    database.mutex.lock("lock_id").acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn lock_timeout_never() {
    let database = Database::new().await;
    database.crash_with_a_lock(Some(Ttl::NEVER)).await;
    for days in [1, 2 * 365] {
        database.pass(secs(days * 24 * 60 * 60));
        assert!(database.mutex.lock("lock_id").acquire().await.unwrap_err().is_held());
    }
}

#[tokio::test]
async fn lock_timeout_custom() {
    let database = Database::new().await;
    database.crash_with_a_lock(Some(three_minutes())).await;
    database.pass(secs(2 * 60));
    assert!(database.mutex.lock("lock_id").acquire().await.unwrap_err().is_held());
    database.pass(secs(60));
    database.mutex.lock("lock_id").acquire().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn lock_timeout_error() {
    let database = Database::new().await;
    let guard = database.mutex.lock("lock_id").ttl(three_minutes()).acquire().await.unwrap();
    database.pass(secs(181));
    // Another one takes the lock over, and is done before this one.
    database.another().await.lock("lock_id").acquire().await.unwrap().release().await.unwrap();
    let error = guard.release().await.unwrap_err();
    assert!(error.is_lost(), "{error}");
}
