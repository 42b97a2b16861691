use std::time::Duration;

use db_mutex_core::RunError;

use crate::flaky::{Fault, Flaky};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn run_answers_what_the_body_returned_and_releases() {
    let store = Flaky::new();
    let output = store.mutex().run("job", async |guard| guard.fence().get() > 0).await.unwrap();
    assert!(output);
    assert!(!store.is_taken("job").await);
}

#[tokio::test]
async fn run_can_be_spawned_and_borrow() {
    let mutex = Flaky::new().mutex();
    let words = tokio::spawn(async move {
        let words = ["a".to_owned()];
        mutex
            .run("job", async |guard| {
                tokio::task::yield_now().await;
                format!("{}{}", words[0], guard.lock_id())
            })
            .await
    });
    assert_eq!(words.await.unwrap().unwrap(), "ajob");
}

#[tokio::test]
async fn a_lease_that_ended_before_the_body_loses_no_work() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let outcome = mutex.run("job", async |_| {
        store.clock.advance(61 * SECOND);
        "the work of an hour"
    });
    match outcome.await.unwrap_err() {
        RunError::Lost { output, .. } => assert_eq!(output, Some("the work of an hour")),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_error_of_the_body_is_not_hidden_by_one_of_the_release() {
    for fault in [Fault::Fails, Fault::ReplyLost] {
        let store = Flaky::new();
        let outcome: Result<Result<(), &str>, _> = store
            .mutex()
            .run("job", async |_| {
                store.next([fault]);
                Err("the body's own")
            })
            .await;
        assert_eq!(outcome.unwrap(), Err("the body's own"));
    }
}

#[tokio::test]
async fn an_error_of_the_body_is_not_hidden_by_the_end_of_the_lease() {
    let store = Flaky::new();
    let mutex = store.mutex();
    let outcome = mutex.run("job", async |_| {
        store.clock.advance(61 * SECOND);
        store.next([Fault::Fails]);
        Err::<(), _>("the body's own")
    });
    match outcome.await.unwrap_err() {
        RunError::Lost { output, .. } => assert_eq!(output, Some(Err("the body's own"))),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_lock_taken_away_by_force_is_told() {
    let store = Flaky::new();
    let outcome = store.mutex().run("job", async |_| store.mutex().force_release("job").await.unwrap()).await;
    assert!(outcome.unwrap_err().is_lost());
}

#[tokio::test]
async fn held_fails_or_is_skipped() {
    let store = Flaky::new();
    let _guard = store.mutex().lock("job").acquire().await.unwrap();
    let mutex = store.mutex();
    assert!(mutex.run("job", async |_| unreachable!()).await.map(|(): ()| ()).unwrap_err().is_held());
    assert!(mutex.run_or_skip("job", async |_| unreachable!()).await.map(|ran: Option<()>| ran).unwrap().is_none());
    assert_eq!(mutex.run_or_skip("other", async |_| 1).await.unwrap(), Some(1));
}
