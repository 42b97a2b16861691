//! One lock's trouble stays its own: what others do, or what befalls them, delays no lock and loses none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db_mutex_core::store::{Limits, LockStore, StoreTime};
use db_mutex_core::{DbMutex, Guard, LockId, LostReason, WaitLimit};
use tokio::time::{Instant, sleep, timeout};

use crate::troubled::{Kind, Trouble, Troubled};

const SECOND: Duration = Duration::from_secs(1);

async fn keep(mutex: &DbMutex, ids: impl IntoIterator<Item = String>, ttl: Duration) -> Vec<Guard> {
    let acquiring: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let lock = mutex.lock(id).ttl(ttl).keep_alive(true);
            tokio::spawn(async move { lock.acquire().await.unwrap() })
        })
        .collect();
    let mut guards = Vec::new();
    for guard in acquiring {
        guards.push(guard.await.unwrap());
    }
    guards
}

#[track_caller]
fn all_are_held(guards: &[Guard]) {
    let lost = guards.iter().filter(|guard| !guard.is_valid()).count();
    assert_eq!(lost, 0, "of {} leases {lost} were lost", guards.len());
}

/// A short lock is taken again and again beside twenty thousand long leases. In version 1 its short limit held for all.
#[tokio::test(start_paused = true)]
async fn a_short_lease_loses_no_long_one() {
    let store = Troubled::new(SECOND / 5, |_, _| Trouble::None);
    let mutex = store.builder().build().unwrap();
    let guards = keep(&mutex, (0..20_000).map(|number| format!("long {number}")), 60 * SECOND).await;
    let begun = Instant::now();
    let mut taken = 0;
    while begun.elapsed() < 180 * SECOND {
        let short = mutex.lock("short").ttl(SECOND * 3).keep_alive(true).acquire().await.unwrap();
        sleep(SECOND).await;
        short.release().await.unwrap();
        taken += 1;
    }
    assert!(taken > 50, "the short lock was taken {taken} times");
    all_are_held(&guards);
}

/// Another transaction has locked the row of one lease, for longer than that lease lasts.
#[tokio::test(start_paused = true)]
async fn a_locked_row_loses_only_its_own_lease() {
    let store = Troubled::new(Duration::from_millis(5), |kind, id| match (kind, id) {
        (Kind::Renew | Kind::Delete, "job 7") => Trouble::Busy,
        _ => Trouble::None,
    });
    let mutex = store.builder().build().unwrap();
    let mut guards = keep(&mutex, (0..20).map(|number| format!("job {number}")), 6 * SECOND).await;
    sleep(30 * SECOND).await;
    let locked = guards.remove(7);
    assert!(!locked.is_valid());
    all_are_held(&guards);
    for guard in guards {
        guard.release().await.unwrap();
    }
}

/// A release that hangs, and one that fails for long, hold up no other.
#[tokio::test(start_paused = true)]
async fn a_stuck_release_holds_up_no_other() {
    for trouble in [Trouble::Hangs, Trouble::Away, Trouble::ReadOnly] {
        let store = Troubled::new(Duration::from_millis(5), move |kind, id| match (kind, id) {
            (Kind::Delete, "stuck") => trouble,
            _ => Trouble::None,
        });
        let mutex = store.builder().build().unwrap();
        drop(mutex.lock("stuck").acquire().await.unwrap());
        sleep(SECOND).await;
        let begun = Instant::now();
        for number in 0..100 {
            drop(mutex.lock(format!("job {number}")).acquire().await.unwrap());
        }
        while mutex.shutdown(Duration::from_millis(10)).await.len() > 1 {}
        assert!(begun.elapsed() < SECOND, "{trouble:?}: the others were released after {:?}", begun.elapsed());
        assert_eq!(mutex.shutdown(SECOND).await, [LockId::new("stuck").unwrap()]);
    }
}

/// The repeats of many releases take the only place for releases, one after the other, until the limit of a call each.
#[tokio::test(start_paused = true)]
async fn a_release_waits_for_no_repeats_of_others() {
    let mut store = Troubled::new(Duration::from_millis(5), |kind, id| match (kind, id) {
        (Kind::Delete, "job") | (Kind::Insert | Kind::Renew | Kind::Find, _) => Trouble::None,
        (Kind::Delete, _) => Trouble::TimesOut,
    });
    store.limits = Limits::new().concurrency(4).batch(1).call(SECOND);
    let mutex = store.builder().build().unwrap();
    for number in 0..10 {
        drop(mutex.lock(format!("stuck {number}")).acquire().await.unwrap());
    }
    let guard = mutex.lock("job").acquire().await.unwrap();
    // All have been tried once.
    sleep(12 * SECOND).await;
    drop(guard);
    // Behind the call that is under way.
    sleep(2 * SECOND).await;
    assert!(!store.is_taken("job").await);
}

/// A store that accepts no writes for a while, or has no space left: the release is tried again, and the lock does not stay.
#[tokio::test(start_paused = true)]
async fn a_release_is_repeated_on_every_error_until_its_lease_is_over() {
    let is_back = Arc::new(AtomicBool::new(false));
    let back = Arc::clone(&is_back);
    let store = Troubled::new(Duration::from_millis(5), move |kind, _| match kind {
        Kind::Delete if !back.load(Ordering::SeqCst) => Trouble::ReadOnly,
        _ => Trouble::None,
    });
    let mutex = store.builder().build().unwrap();
    drop(mutex.lock("job").acquire().await.unwrap());
    sleep(20 * SECOND).await;
    assert!(store.is_taken("job").await);
    is_back.store(true, Ordering::SeqCst);
    assert!(mutex.shutdown(10 * SECOND).await.is_empty());
    assert!(!store.is_taken("job").await);
}

/// Twelve locks are forced out, and finding out why takes long. Each hears of it at once, and a lease beside them is renewed.
#[tokio::test(start_paused = true)]
async fn each_that_was_forced_out_hears_of_it_at_once() {
    let store = Troubled::new(Duration::from_millis(5), |kind, _| match kind {
        Kind::Find => Trouble::Hangs,
        _ => Trouble::None,
    });
    let mutex = store.builder().build().unwrap();
    let guards = keep(&mutex, (0..12).map(|number| format!("forced {number}")), 6 * SECOND).await;
    let others = keep(&mutex, ["other".to_owned()], 6 * SECOND).await;
    for guard in &guards {
        store.memory.change_row(guard.lock_id(), |row| (row.owner, row.expires_at) = (None, StoreTime::ZERO));
    }
    let begun = Instant::now();
    for guard in &guards {
        assert_eq!(guard.lost().await, LostReason::Expired);
    }
    // The next renewal is two seconds away.
    assert!(begun.elapsed() < 3 * SECOND, "the last heard of it after {:?}", begun.elapsed());
    sleep(20 * SECOND).await;
    all_are_held(&others);
}

/// Each renewal takes longer than its attempt: its answer comes late, and is the only one that says that the lock is gone.
#[tokio::test(start_paused = true)]
async fn a_lock_that_was_forced_out_hears_of_it_from_a_late_answer() {
    let latency = Duration::from_millis(700);
    let store = Troubled::new(latency, |_, _| Trouble::None);
    let mutex = store.builder().build().unwrap();
    let guard = mutex.lock("job").ttl(6 * SECOND).keep_alive(true).acquire().await.unwrap();
    store.memory.change_row(guard.lock_id(), |row| (row.owner, row.expires_at) = (None, StoreTime::ZERO));
    // The renewal is due two seconds after the request was sent; the deadline is more than three seconds later.
    let told = timeout(2 * SECOND + SECOND / 2, guard.cancel_token().cancelled()).await;
    assert!(told.is_ok() && !guard.is_valid());
}

/// A panic of the store, or a call that returns too few answers, is a failed attempt of those that it concerns.
#[tokio::test(start_paused = true)]
async fn a_panic_or_a_missing_answer_ends_no_renewing() {
    for trouble in [Trouble::Panics, Trouble::IsShort, Trouble::Hangs] {
        let times = Arc::new(std::sync::atomic::AtomicUsize::new(2));
        let store = Troubled::new(Duration::from_millis(5), move |kind, id| {
            let left = || times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if kind == Kind::Renew && id == "job 7" && left() { trouble } else { Trouble::None }
        });
        let mutex = store.builder().build().unwrap();
        let guards = keep(&mutex, (0..20).map(|number| format!("job {number}")), 6 * SECOND).await;
        sleep(60 * SECOND).await;
        all_are_held(&guards);
        for guard in guards {
            guard.release().await.unwrap();
        }
    }
}

/// Ten thousand ids are waited for by one process. Their questions delay no renewal.
#[tokio::test(start_paused = true)]
async fn ten_thousand_ids_that_are_waited_for_lose_no_lease() {
    let store = Troubled::new(Duration::from_millis(20), |_, _| Trouble::None);
    let held = store.builder().build().unwrap();
    let others = keep(&held, (0..10_000).map(|number| format!("job {number}")), 600 * SECOND).await;
    let mutex = store.builder().build().unwrap();
    let mine = keep(&mutex, ["mine".to_owned()], 6 * SECOND).await;
    let waiters: Vec<_> = (0..10_000)
        .map(|number| {
            let lock = mutex.lock(format!("job {number}")).wait(60 * SECOND);
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect();
    sleep(50 * SECOND).await;
    all_are_held(&mine);
    for waiter in waiters {
        assert!(waiter.await.unwrap().unwrap_err().is_held());
    }
    drop(others);
}

/// The store goes away, and the lease of the holder ends: nothing is known of who holds the lock.
#[tokio::test(start_paused = true)]
async fn held_is_never_said_from_memory() {
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    let store = Troubled::new(Duration::from_millis(5), move |_, _| match away.load(Ordering::SeqCst) {
        true => Trouble::Away,
        false => Trouble::None,
    });
    let holder = store.builder().build().unwrap();
    let guard = holder.lock("job").ttl(5 * SECOND).acquire().await.unwrap();
    let mutex = store.builder().build().unwrap();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let lock = mutex.lock("job").wait(20 * SECOND);
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect();
    sleep(2 * SECOND).await;
    is_away.store(true, Ordering::SeqCst);
    for waiter in waiters {
        let error = waiter.await.unwrap().unwrap_err();
        assert!(!error.is_held() && error.is_transient(), "{error:?}");
    }
    drop(guard);
}

/// The first in line is not polled any more: those behind it are served all the same, and it keeps its place.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_not_polled_delays_no_one() {
    let store = Troubled::new(Duration::from_millis(5), |_, _| Trouble::None);
    let mutex = store.builder().build().unwrap();
    let guard = mutex.lock("job").acquire().await.unwrap();
    let forever = mutex.lock("job").wait(WaitLimit::Forever);
    let mut sleeper = Box::pin(forever.acquire());
    assert!(timeout(SECOND, &mut sleeper).await.is_err());
    let second = tokio::spawn({
        let lock = mutex.lock("job").wait(20 * SECOND);
        async move { lock.acquire().await }
    });
    sleep(SECOND).await;
    guard.release().await.unwrap();
    let guard = timeout(3 * SECOND, second).await.expect("the second is served").unwrap().unwrap();
    guard.release().await.unwrap();
    let guard = timeout(3 * SECOND, sleeper).await.expect("it is served when it is polled again").unwrap();
    guard.release().await.unwrap();
    assert!(!store.is_taken("job").await);
}

/// A waiter is dropped after the store has granted it the lock, and before it hears of it.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_while_it_is_granted_leaves_nothing_behind() {
    for after in 0..60 {
        let store = Troubled::new(Duration::from_millis(5), |_, _| Trouble::None);
        let mutex = store.builder().build().unwrap();
        let guard = mutex.lock("job").acquire().await.unwrap();
        let waiting = mutex.lock("job").wait(WaitLimit::Forever);
        let mut waiter = Box::pin(waiting.acquire());
        assert!(timeout(SECOND, &mut waiter).await.is_err());
        guard.release().await.unwrap();
        sleep(Duration::from_millis(after)).await;
        drop(waiter);
        assert!(mutex.shutdown(10 * SECOND).await.is_empty());
        assert!(!store.is_taken("job").await, "dropped {after} ms after the release");
    }
}

/// A store that takes one call at a time: nothing is reserved, and renewals go first.
#[tokio::test(start_paused = true)]
async fn a_store_of_one_call_at_a_time_keeps_its_leases() {
    let mut store = Troubled::new(Duration::from_millis(20), |_, _| Trouble::None);
    store.limits = db_mutex_core::store::Limits::new().concurrency(1);
    let mutex = store.builder().build().unwrap();
    let guards = keep(&mutex, (0..5).map(|number| format!("kept {number}")), 6 * SECOND).await;
    let busy: Vec<_> = (0..100)
        .map(|number| {
            let lock = mutex.lock(format!("job {number}"));
            tokio::spawn(async move {
                let begun = Instant::now();
                while begun.elapsed() < 30 * SECOND {
                    lock.acquire().await.unwrap().release().await.unwrap();
                }
            })
        })
        .collect();
    for task in busy {
        task.await.unwrap();
    }
    all_are_held(&guards);
    assert!(store.find(guards[0].lock_id()).await.unwrap().unwrap().is_taken());
}

/// A store with the six methods only, whose calls take five milliseconds: 32 tasks do not wait for one another.
#[tokio::test(start_paused = true)]
async fn a_store_of_single_calls_is_as_fast_as_its_calls() {
    let mut store = Troubled::new(Duration::from_millis(5), |_, _| Trouble::None);
    store.limits = db_mutex_core::store::Limits::new();
    let mutex = store.builder().build().unwrap();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..32)
        .map(|task| {
            let lock = mutex.lock(format!("job {task}"));
            tokio::spawn(async move {
                for _ in 0..100 {
                    lock.acquire().await.unwrap().release().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // A hundred pairs of two calls.
    assert!(begun.elapsed() <= Duration::from_millis(1_100), "{:?}", begun.elapsed());
}
