use std::sync::atomic::Ordering;
use std::time::Duration;

use db_mutex_core::{Error, LostReason, OnLost, RunError};
use tokio::time::{Instant, sleep, timeout};

use crate::flaky::{Fault, Flaky};

const SECOND: Duration = Duration::from_secs(1);
/// The margin of a lease of ten seconds is half a second.
const TEN: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_for_as_long_as_its_guard_lives() {
    let store = Flaky::on_tokio_time();
    let mutex = store.builder().keep_alive(true).build().unwrap();
    let guard = mutex.lock("job").ttl(TEN).acquire().await.unwrap();
    for _ in 0..100 {
        sleep(TEN).await;
        assert!(guard.is_valid() && store.is_taken("job").await);
    }
    assert_eq!(guard.lost_reason(), None);
    guard.release().await.unwrap();
    let renewals = store.asked.renewals.load(Ordering::SeqCst);
    sleep(10 * TEN).await;
    assert_eq!(store.asked.renewals.load(Ordering::SeqCst), renewals, "a released lock was renewed");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_not_kept_alive_is_lost_at_its_deadline() {
    let store = Flaky::on_tokio_time();
    let guard = store.mutex().lock("job").ttl(TEN).acquire().await.unwrap();
    let token = guard.cancel_token();
    let begun = Instant::now();
    assert_eq!(guard.lost().await, LostReason::Expired);
    assert!(begun.elapsed() <= TEN - SECOND / 2 + SECOND / 50, "{:?}", begun.elapsed());
    timeout(SECOND / 50, token.cancelled()).await.expect("the token is told too");
    assert!(store.is_taken("job").await, "the others still wait");
}

#[tokio::test(start_paused = true)]
async fn failed_attempts_do_not_end_the_renewing() {
    let store = Flaky::on_tokio_time();
    let guard = store.mutex().lock("job").ttl(TEN).keep_alive(true).acquire().await.unwrap();
    for faults in [vec![Fault::Fails; 5], vec![Fault::ReplyLost; 5], vec![Fault::ReplyNever; 2]] {
        store.next(faults);
        sleep(3 * TEN).await;
        assert!(guard.is_valid(), "the renewing has ended: {:?}", guard.lost_reason());
    }
}

/// The signal has a timer of its own: it waits for no attempt.
#[tokio::test(start_paused = true)]
async fn the_loss_is_told_in_time_while_an_attempt_hangs() {
    for fault in [Fault::ReplyNever, Fault::Fails] {
        let store = Flaky::on_tokio_time();
        let guard = store.mutex().lock("job").ttl(TEN).keep_alive(true).acquire().await.unwrap();
        let token = guard.cancel_token();
        // `ReplyNever` does what it is asked: only the holder does not hear of it.
        store.next(vec![fault; 1_000]);
        let begun = Instant::now();
        token.cancelled().await;
        assert!(begun.elapsed() <= TEN - SECOND / 2 + SECOND / 50, "{fault:?}: {:?}", begun.elapsed());
        assert_eq!(guard.lost_reason(), Some(LostReason::StoreUnreachable));
        assert!(!guard.is_valid());
    }
}

#[tokio::test(start_paused = true)]
async fn a_loss_tells_its_reason() {
    let store = Flaky::on_tokio_time();
    let lock = store.mutex().lock("job").ttl(TEN).keep_alive(true);
    let guard = lock.acquire().await.unwrap();
    store.mutex().force_release("job").await.unwrap();
    assert_eq!(timeout(TEN / 2, guard.lost()).await, Ok(LostReason::ReleasedByForce));
    assert!(guard.extend(TEN).await.unwrap_err().is_lost());

    let guard = lock.acquire().await.unwrap();
    store.mutex().force_release("job").await.unwrap();
    let _successor = store.mutex().lock("job").acquire().await.unwrap();
    assert_eq!(timeout(TEN / 2, guard.lost()).await, Ok(LostReason::TakenOver));
    drop(guard);
    sleep(SECOND).await;
    assert!(store.is_taken("job").await, "the successor's lock was touched");
}

/// As after a failover that has lost the grant, or where a proxy leads to another server.
#[tokio::test(start_paused = true)]
async fn a_lock_that_the_store_does_not_know_is_missing_and_has_not_expired() {
    let store = Flaky::on_tokio_time();
    let lock = store.mutex().lock("job").ttl(TEN).keep_alive(true);
    for has_a_row in [false, true] {
        let guard = lock.acquire().await.unwrap();
        store.undo_grant("job", has_a_row).await;
        assert_eq!(timeout(TEN / 2, guard.lost()).await, Ok(LostReason::Missing), "has a row: {has_a_row}");

        let guard = lock.acquire().await.unwrap();
        store.undo_grant("job", has_a_row).await;
        match guard.release().await.unwrap_err() {
            Error::Lost { reason, .. } => assert_eq!(reason, LostReason::Missing, "has a row: {has_a_row}"),
            error => panic!("{error:?}"),
        }
        lock.acquire().await.unwrap().release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_hangs_is_not_kept_alive_forever() {
    let store = Flaky::on_tokio_time();
    let lock = store.mutex().lock("job").ttl(TEN).keep_alive(true).hold_at_most(60 * SECOND);
    let guard = lock.acquire().await.unwrap();
    let begun = Instant::now();
    assert_eq!(guard.lost().await, LostReason::HeldTooLong);
    assert!(begun.elapsed() > 59 * SECOND && begun.elapsed() <= 61 * SECOND, "{:?}", begun.elapsed());
    sleep(2 * TEN).await;
    assert!(!store.is_taken("job").await, "it was renewed all the same");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_announced() {
    let store = Flaky::on_tokio_time();
    let guard = store.mutex().lock("job").ttl(TEN).acquire().await.unwrap();
    guard.until_expiring(3 * SECOND).await;
    let left = guard.remaining().unwrap();
    assert!(left <= 3 * SECOND && left > 2 * SECOND, "{left:?}");

    let kept = store.mutex().lock("kept").ttl(TEN).keep_alive(true).acquire().await.unwrap();
    assert!(timeout(10 * TEN, kept.until_expiring(3 * SECOND)).await.is_err(), "it is renewed before");
}

#[tokio::test(start_paused = true)]
async fn enough_time_is_ensured_or_it_is_an_error() {
    let store = Flaky::on_tokio_time();
    let guard = store.mutex().lock("job").ttl(TEN).acquire().await.unwrap();
    guard.ensure(5 * SECOND).await.unwrap();
    assert_eq!(store.asked.renewals.load(Ordering::SeqCst), 0);
    guard.ensure(120 * SECOND).await.unwrap();
    assert!(guard.remaining().unwrap() >= 120 * SECOND);
    store.next([Fault::Fails]);
    assert!(guard.ensure(300 * SECOND).await.unwrap_err().is_transient());
    store.mutex().force_release("job").await.unwrap();
    assert!(guard.ensure(300 * SECOND).await.unwrap_err().is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_dropped_when_the_lock_is_lost() {
    let store = Flaky::on_tokio_time();
    let mutex = store.mutex();
    let lock = mutex.lock("job").ttl(TEN).on_lost(OnLost::Drop);
    let begun = Instant::now();
    let outcome: Result<(), _> = lock.run(async |_| std::future::pending().await).await;
    match outcome.unwrap_err() {
        RunError::Lost { reason, output: None, .. } => assert_eq!(reason, LostReason::Expired),
        error => panic!("{error}"),
    }
    assert!(begun.elapsed() < TEN);
    assert!(!store.is_taken("job").await, "it was released before its end");
    assert_eq!(mutex.lock("job").on_lost(OnLost::Drop).run(async |_| 42).await.unwrap(), 42);
}

/// Leases of many ages end up in the same requests.
#[tokio::test(start_paused = true)]
async fn a_thousand_leases_are_renewed_with_a_few_requests() {
    let store = Flaky::on_tokio_time();
    let mutex = store.builder().keep_alive(true).ttl(TEN).build().unwrap();
    let mut guards = Vec::new();
    for number in 0..1_000 {
        guards.push(mutex.lock(format!("job-{number}")).acquire().await.unwrap());
        sleep(Duration::from_millis(3)).await;
    }
    sleep(2 * TEN).await;
    let before = store.asked.renewals.load(Ordering::SeqCst);
    let intervals = 30;
    sleep(TEN / 3 * intervals).await;
    let requests = store.asked.renewals.load(Ordering::SeqCst) - before;
    println!("1000 leases: {requests} requests in {intervals} intervals");
    assert!(requests <= 3 * intervals as usize, "{requests} requests in {intervals} intervals");
    assert!(guards.iter().all(db_mutex_core::Guard::is_valid));
}

/// The code under the lock may be stopped for longer than the lease: it has to know before its next step.
#[tokio::test(start_paused = true)]
async fn a_holder_that_was_stopped_beyond_its_lease_knows_at_once() {
    let store = Flaky::new();
    let guard = store.mutex().lock("job").ttl(TEN).keep_alive(true).acquire().await.unwrap();
    // No task of this process runs meanwhile.
    store.clock.advance(2 * TEN);
    assert!(!guard.is_valid());
    assert_eq!(guard.lost_reason(), Some(LostReason::Expired));
    let successor = store.mutex().lock("job").acquire().await.unwrap();
    sleep(TEN).await;
    assert_eq!(guard.lost().await, LostReason::Expired);
    drop(guard);
    sleep(SECOND).await;
    successor.release().await.unwrap();
}
