//! Ids that are made of arguments and fields.

use db_mutex::{DbMutex, Error, db_mutex, testing};

const REGION: &str = "eu";

struct Request {
    user: User,
}

struct User {
    id: u32,
    name: (String, u8),
}

#[db_mutex("report-{id}", store = mutex, guard)]
async fn argument(mutex: &DbMutex, id: u32) -> Result<String, Error> {
    Ok(guard.lock_id().to_string())
}

#[db_mutex("{REGION}/{{{request.user.id:04}}}/{request.user.name.0}:{request.user.name.1:>3}", store = mutex, guard)]
async fn fields(mutex: &DbMutex, request: Request) -> Result<String, Error> {
    drop(request);
    Ok(guard.lock_id().to_string())
}

#[db_mutex("{id}", store = mutex)]
async fn whole(mutex: &DbMutex, id: &str) -> Result<(), Error> {
    Ok(())
}

#[db_mutex("{a}-{r#type}-{a:?}", store = mutex, guard)]
async fn patterns(mutex: &DbMutex, (a, _): (&str, u8), User { id: r#type, .. }: User) -> Result<String, Error> {
    Ok(guard.lock_id().to_string())
}

fn user() -> User {
    User { id: 42, name: ("Ann".into(), 7) }
}

#[tokio::test(start_paused = true)]
async fn placeholders_are_filled_in() {
    let (mutex, _clock) = testing::mutex();
    assert_eq!(argument(&mutex, 7).await.unwrap(), "report-7");
    assert_eq!(fields(&mutex, Request { user: user() }).await.unwrap(), "eu/{0042}/Ann:  7");
    assert_eq!(patterns(&mutex, ("x", 1), user()).await.unwrap(), "x-42-\"x\"");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_turns_out_invalid_is_an_error() {
    let (mutex, _clock) = testing::mutex();
    for bad in ["", "a\nb", &"x".repeat(257)] {
        let error = whole(&mutex, bad).await.unwrap_err();
        assert!(error.is_invalid(), "{error}");
    }
    whole(&mutex, &"x".repeat(256)).await.unwrap();
}
