//! The guard, for the body.

use db_mutex::{DbMutex, Error, Fence, db_mutex, testing};

#[db_mutex("job", store = mutex, guard)]
async fn named_guard(mutex: &DbMutex) -> Result<Fence, Error> {
    guard.extend(std::time::Duration::from_secs(60)).await?;
    Ok(guard.fence())
}

#[db_mutex("job", store = mutex, guard = lease)]
async fn named_otherwise(mutex: &DbMutex, guard: u8) -> Result<(Fence, u8), Error> {
    Ok((lease.fence(), guard))
}

#[tokio::test(start_paused = true)]
async fn the_body_has_the_guard() {
    let (mutex, _clock) = testing::mutex();
    let first = named_guard(&mutex).await.unwrap();
    let (second, argument) = named_otherwise(&mutex, 5).await.unwrap();
    assert!(second > first);
    assert_eq!(argument, 5);
}
