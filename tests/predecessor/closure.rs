use db_mutex::{RunError, Ttl};

use crate::{Database, secs, three_minutes};

#[tokio::test]
async fn no_lock_before() {
    let database = Database::new().await;
    let held = database.mutex.run("lock_id", async |_guard| database.is_held("lock_id").await).await.unwrap();
    assert!(held, "the lock is held while the closure runs");
    assert!(!database.is_held("lock_id").await, "and released after it");
}

#[tokio::test]
async fn lock_before() {
    let database = Database::new().await;
    let other = database.another().await.lock("lock_id").acquire().await.unwrap();
    let error = database.mutex.run("lock_id", async |_guard| panic!("it is not run")).await.unwrap_err();
    assert!(error.is_held(), "{error}");
    assert!(database.is_held("lock_id").await, "the other one still has it");
    other.release().await.unwrap();
}

#[tokio::test]
async fn lock_before_suppress_acquisition_errors() {
    let database = Database::new().await;
    let other = database.another().await.lock("lock_id").acquire().await.unwrap();
    let output = database.mutex.run_or_skip("lock_id", async |_guard| panic!("it is not run")).await.unwrap();
    assert_eq!(output, None);
    assert!(database.is_held("lock_id").await, "the other one still has it");
    other.release().await.unwrap();
    assert_eq!(database.mutex.run_or_skip("lock_id", async |_guard| 42).await.unwrap(), Some(42));
}

#[tokio::test]
async fn lock_different_id() {
    let database = Database::new().await;
    let other = database.another().await.lock("lock_id").acquire().await.unwrap();
    let both = database
        .mutex
        .run("lock_id2", async |_guard| database.is_held("lock_id").await && database.is_held("lock_id2").await)
        .await
        .unwrap();
    assert!(both);
    assert!(database.is_held("lock_id").await && !database.is_held("lock_id2").await);
    other.release().await.unwrap();
}

#[tokio::test]
async fn lock_timeout_default() {
    let database = Database::new().await;
    database.crash_with_a_lock(None).await;
    for minutes in [1, 8, 20] {
        database.pass(secs(minutes * 60));
        assert!(database.mutex.run("lock_id", async |_guard| ()).await.unwrap_err().is_held());
    }
    database.pass(secs(60));
    database.mutex.run("lock_id", async |_guard| ()).await.unwrap();
}

#[tokio::test]
async fn lock_timeout_never() {
    let database = Database::new().await;
    database.crash_with_a_lock(Some(Ttl::NEVER)).await;
    for days in [1, 2 * 365] {
        database.pass(secs(days * 24 * 60 * 60));
        assert!(database.mutex.run("lock_id", async |_guard| ()).await.unwrap_err().is_held());
    }
}

#[tokio::test]
async fn lock_timeout_custom() {
    let database = Database::new().await;
    database.crash_with_a_lock(Some(three_minutes())).await;
    database.pass(secs(2 * 60));
    assert!(database.mutex.run("lock_id", async |_guard| ()).await.unwrap_err().is_held());
    database.pass(secs(60));
    database.mutex.run("lock_id", async |_guard| ()).await.unwrap();
}

#[tokio::test]
async fn lock_timeout_error() {
    let database = Database::new().await;
    let body = async |_guard: &_| {
        database.pass(secs(181));
        // Another one takes the lock over, and is done before this one.
        database.another().await.run("lock_id", async |_guard| ()).await.unwrap();
        42
    };
    let error = database.mutex.lock("lock_id").ttl(three_minutes()).run(body).await.unwrap_err();
    assert!(matches!(error, RunError::Lost { output: Some(42), .. }), "{error}");
}
