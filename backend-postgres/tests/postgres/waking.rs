//! What waiters are woken by, each store standing for a process of its own.

use std::time::{Duration, Instant};

use db_mutex_core::store::{DeleteRequest, Inserted, LockStore, Renewed};
use db_mutex_core::{DbMutex, OwnerToken, StoreErrorKind};
use db_mutex_postgres::PostgresStore;
use tokio_postgres::Client;

use crate::database::{
    MINUTE, ask, builder, grant, id, insert, mutex, owner, release, renewal, store, table, until_wanted,
};
use crate::server::{administrator, connection, url};

/// A wait that only a notification ends before the test is over.
const LONG: Duration = Duration::from_secs(20);
/// Half of it: a waiter that returns sooner was woken.
const WOKEN: Duration = Duration::from_secs(10);
/// What a waiter that only asks every half a second is far from, half of the time.
const PROMPT: Duration = Duration::from_millis(100);

/// Waits as a mutex does, but asks only when it is woken. Answers the owner token and when it was granted the lock.
fn take(store: &PostgresStore, lock_id: &'static str) -> tokio::task::JoinHandle<(OwnerToken, Instant)> {
    let store = store.clone();
    tokio::spawn(async move {
        let owner = owner();
        loop {
            match store.insert_if_absent(&insert(lock_id, owner, MINUTE)).await {
                Ok(Inserted::Granted(_)) => return (owner, Instant::now()),
                // Another's statement has the row for a moment: as a mutex does, ask again.
                Err(error) if error.kind() == StoreErrorKind::Busy => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                }
                answer => drop(answer.unwrap()),
            }
            let begun = Instant::now();
            store.wait_for_release(&id(lock_id), LONG).await.unwrap();
            assert!(begun.elapsed() < WOKEN, "the waiter was not woken");
        }
    })
}

/// Releases, and asks again while another's statement has the row.
async fn delete(store: &PostgresStore, request: &DeleteRequest) {
    while let Err(error) = store.delete(request).await {
        assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

pub(crate) async fn round_trip(client: &Client) -> Duration {
    let statement = client.prepare("SELECT 1").await.unwrap();
    let mut times = Vec::new();
    for _ in 0..200 {
        let sent = Instant::now();
        client.query_one(&statement, &[]).await.unwrap();
        times.push(sent.elapsed());
    }
    median(times)
}

fn tell(what: &str, handed_over: Duration, round_trip: Duration) {
    let ratio = handed_over.as_secs_f64() / round_trip.as_secs_f64();
    println!("{what}: p50 {handed_over:?} = {ratio:.1} round trips of {round_trip:?}");
}

#[tokio::test]
async fn a_release_in_another_process_wakes_the_waiter() {
    let (one, two) = (store("hand_over").await, store("hand_over").await);
    let handed_over = hand_overs(&one, &two, "hand_over", &administrator().await).await;
    assert!(handed_over < PROMPT);
}

/// Hands a lock over 200 times, and answers how long that took in the middle, from the end of the release on.
pub(crate) async fn hand_overs(one: &PostgresStore, two: &PostgresStore, table_name: &str, near: &Client) -> Duration {
    let (admin, table) = (administrator().await, table(table_name));
    let (mut handed_over, mut woken, mut granted) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..200 {
        let asked = Instant::now();
        let (holder, _) = grant(one, "job", MINUTE).await;
        granted.push(asked.elapsed());
        let two = two.clone();
        let waiter = tokio::spawn(async move {
            assert!(matches!(ask(&two, "job", MINUTE).await.unwrap(), Inserted::Held(_)));
            two.wait_for_release(&id("job"), LONG).await.unwrap();
            let woken = Instant::now();
            let (owner, _) = grant(&two, "job", MINUTE).await;
            (owner, woken, Instant::now())
        });
        until_wanted(&admin, &table, "job").await;
        delete(one, &release("job", holder)).await;
        let released = Instant::now();
        let (owner, rung, taken) = waiter.await.unwrap();
        assert!(rung.saturating_duration_since(released) < WOKEN, "the waiter was not woken");
        woken.push(rung.saturating_duration_since(released));
        handed_over.push(taken.saturating_duration_since(released));
        delete(one, &release("job", owner)).await;
    }
    let (handed_over, round_trip) = (median(handed_over), round_trip(near).await);
    tell("a grant without waiters", median(granted), round_trip);
    tell("from release to waking", median(woken), round_trip);
    tell("from release to the next grant", handed_over, round_trip);
    handed_over
}

async fn hand_over(one: DbMutex, two: DbMutex, number: u32) -> Vec<Duration> {
    let name = format!("job-{number}");
    tokio::time::sleep(Duration::from_millis(25) * number).await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let held = one.lock(&name).acquire().await.unwrap();
        let lock = two.lock(&name).wait(MINUTE);
        let waiter = tokio::spawn(async move { (lock.acquire().await.unwrap(), Instant::now()) });
        tokio::time::sleep(Duration::from_millis(1_000 + u64::from(number * 37 % 400))).await;
        held.release().await.unwrap();
        let released = Instant::now();
        let (guard, taken) = waiter.await.unwrap();
        times.push(taken.saturating_duration_since(released));
        guard.release().await.unwrap();
    }
    times
}

/// As users wait, who ask from time to time too: at random moments of a pause that has become long.
#[tokio::test]
async fn a_mutex_hands_over_without_waiting_for_the_next_poll() {
    let (one, two) = (mutex(&store("mutexes").await), mutex(&store("mutexes").await));
    let mut running: Vec<_> = (0..40).map(|number| tokio::spawn(hand_over(one.clone(), two.clone(), number))).collect();
    let mut times = Vec::new();
    for running in &mut running {
        times.extend(running.await.unwrap());
    }
    assert_eq!(times.len(), 200);
    let handed_over = median(times);
    tell("from release to the next guard, 40 locks", handed_over, round_trip(&administrator().await).await);
    assert!(handed_over < PROMPT);
}

/// Between the refusal and the mark the lock may be released: then there is no notification.
#[tokio::test]
async fn a_release_before_the_wait_is_not_missed() {
    let (one, two) = (store("early").await, store("early").await);
    for name in ["first", "second"] {
        let (holder, _) = grant(&one, name, MINUTE).await;
        assert!(matches!(ask(&two, name, MINUTE).await.unwrap(), Inserted::Held(_)));
        delete(&one, &release(name, holder)).await;
        let begun = Instant::now();
        two.wait_for_release(&id(name), LONG).await.unwrap();
        assert!(begun.elapsed() < WOKEN, "the release was missed");
    }
}

/// A grant removes the mark; who was refused by it marks again.
#[tokio::test]
async fn a_waiter_that_comes_too_late_is_woken_by_the_next_release() {
    let (one, two, three) = (store("three").await, store("three").await, store("three").await);
    let (admin, table) = (administrator().await, table("three"));
    for _ in 0..20 {
        let (holder, _) = grant(&one, "job", MINUTE).await;
        let (mut left, mut right) = (take(&two, "job"), take(&three, "job"));
        until_wanted(&admin, &table, "job").await;
        delete(&one, &release("job", holder)).await;
        let ((owner, _), other) = tokio::select! {
            taken = &mut left => (taken.unwrap(), right),
            taken = &mut right => (taken.unwrap(), left),
        };
        until_wanted(&admin, &table, "job").await;
        delete(&one, &release("job", owner)).await;
        let (owner, _) = other.await.unwrap();
        delete(&one, &release("job", owner)).await;
    }
}

#[tokio::test]
async fn an_operators_force_and_a_release_of_many_wake_too() {
    let (one, two) = (store("force").await, store("force").await);
    let (admin, table) = (administrator().await, table("force"));
    let (holder, _) = grant(&one, "job", MINUTE).await;
    let waiter = take(&two, "job");
    until_wanted(&admin, &table, "job").await;
    one.delete_many(&[release("job", holder), release("other", holder)]).await[0].as_ref().unwrap();
    waiter.await.unwrap();

    let waiter = take(&two, "job");
    until_wanted(&admin, &table, "job").await;
    let fence = one.find(&id("job")).await.unwrap().unwrap().fence;
    delete(&one, &DeleteRequest::by_fence(id("job"), fence)).await;
    waiter.await.unwrap();
}

#[tokio::test]
async fn a_waiter_through_a_pooler_polls() {
    let named = format!("{}&application_name=polling", url("pgbouncer"));
    let one = mutex(&store("pooled").await);
    let two = mutex(&builder("pooled").prepared_statements(false).connect(&named).await.unwrap());
    let held = one.lock("job").acquire().await.unwrap();
    let lock = two.lock("job").wait(MINUTE);
    let waiter = tokio::spawn(async move { lock.acquire().await.unwrap() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    held.release().await.unwrap();
    waiter.await.unwrap().release().await.unwrap();
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'polling wake-ups'";
    assert_eq!(administrator().await.query_one(listening, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// A waiter's mark blocks no one and is not blocked: not by renewals, and not by a transaction that has verified.
#[tokio::test]
async fn a_waiter_and_a_verified_transaction_do_not_wait_for_each_other() {
    let (one, two) = (store("beside").await, store("beside").await);
    let (mutex, table, admin) = (mutex(&one), table("beside"), administrator().await);
    for (level, at_once) in [("READ COMMITTED", true), ("REPEATABLE READ", false)] {
        let guard = mutex.lock("job").ttl(MINUTE).acquire().await.unwrap();
        let mut mine = connection(&url("postgres")).await;
        let transaction = mine.transaction().await.unwrap();
        transaction.batch_execute(&format!("SET TRANSACTION ISOLATION LEVEL {level}")).await.unwrap();
        one.verify_in(&transaction, &guard).await.unwrap();
        assert!(matches!(ask(&two, "job", MINUTE).await.unwrap(), Inserted::Held(_)));
        two.wait_for_release(&id("job"), Duration::from_millis(300)).await.unwrap();
        if at_once {
            until_wanted(&admin, &table, "job").await;
            let renewed = one.renew(&renewal("job", *guard.owner_token(), MINUTE)).await.unwrap();
            assert!(matches!(renewed, Renewed::Renewed(_)));
        }
        transaction.commit().await.unwrap();

        let waiter = take(&two, "job");
        until_wanted(&admin, &table, "job").await;
        guard.release().await.unwrap();
        let (owner, _) = waiter.await.unwrap();
        delete(&two, &release("job", owner)).await;
    }
}

/// While a verified transaction keeps away what is free, a waiter must not ask again and again.
#[tokio::test]
async fn what_is_free_and_verified_does_not_let_waiters_spin() {
    let (one, two) = (store("spin").await, store("spin").await);
    let mutex = mutex(&one);
    let guard = mutex.lock("job").ttl(Duration::from_millis(1_500)).acquire().await.unwrap();
    let mut mine = administrator().await;
    let transaction = mine.transaction().await.unwrap();
    one.verify_in(&transaction, &guard).await.unwrap();
    crate::database::until_free(&one, "job").await;
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(ask(&two, "job", MINUTE).await.unwrap_err().kind(), StoreErrorKind::Busy);
        two.wait_for_release(&id("job"), Duration::from_millis(500)).await.unwrap();
    }
    // One wait may end at once; the others have to last.
    assert!(begun.elapsed() >= Duration::from_millis(1_500), "{:?}", begun.elapsed());
    transaction.rollback().await.unwrap();
}
