//! The mutex that is set once. Only here, for a process has one.

use db_mutex::{DbMutex, Error, Invalid, db_mutex, global, testing};

#[db_mutex("global", guard)]
async fn job() -> Result<String, Error> {
    Ok(guard.lock_id().to_string())
}

#[db_mutex("global", on_held = "skip")]
async fn skipped() -> Option<u8> {
    Some(1)
}

#[tokio::test(start_paused = true)]
async fn it_is_set_once() {
    let error = job().await.unwrap_err();
    assert!(matches!(error, Error::Invalid(Invalid::GlobalMutex { .. })), "{error:?}");
    assert!(error.to_string().contains("db_mutex::global::set"), "{error}");
    assert_eq!(skipped().await, None);
    assert!(global::get().is_err());

    let mutex: DbMutex = testing::mutex().0;
    global::set(mutex.clone()).unwrap();
    assert_eq!(job().await.unwrap(), "global");
    assert_eq!(skipped().await, Some(1));
    assert!(global::get().unwrap().find("global").await.unwrap().is_some());

    let error = global::set(mutex).unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
}
