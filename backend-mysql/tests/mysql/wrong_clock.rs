//! A server whose clock is ahead for a while, and then right again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{DeleteRequest, InsertRequest, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{DbMutex, Ttl};
use db_mutex_mysql::MySqlStore;

use crate::database::{
    Database, MINUTE, ask, both, granted, id, request, until, until_free, waits_for_no_lock, while_busy,
};
use crate::servers::shift_row;
use db_mutex_test_servers::OwnServer;
use db_mutex_test_servers::Proxy;

const HOUR: Duration = Duration::from_secs(3_600);

async fn row(store: &MySqlStore) -> LockRow {
    store.find(&id("job")).await.unwrap().unwrap()
}

fn years(row: &LockRow) -> u64 {
    row.expires_at.since(row.now).as_secs() / (24 * 365 * HOUR).as_secs()
}

fn renewal(held: &InsertRequest, ttl: Duration) -> RenewRequest {
    RenewRequest::new(held.lock_id.clone(), held.owner, Ttl::new(ttl).unwrap())
}

async fn renew(store: &MySqlStore, held: &InsertRequest, ttl: Duration) {
    let renewal = renewal(held, ttl);
    match while_busy(|| store.renew(&renewal)).await {
        Ok(Renewed::Renewed(_)) => {}
        other => panic!("the holder lost its lease: {other:?}"),
    }
}

/// Whether another is refused.
async fn is_refused(store: &MySqlStore) -> bool {
    matches!(while_busy(|| ask(store, "job", MINUTE)).await.unwrap(), Inserted::Held(_))
}

async fn a_run_while_the_clock_was_ahead_leaves_the_lock_free(server: &OwnServer) {
    let database = Database::new(server.url());
    let store = database.store().await;
    let mutex = DbMutex::new(Arc::new(store.clone())).unwrap();
    server.set_clock("+10y");
    let fence = mutex.lock("job").run(async |guard| guard.fence()).await.unwrap();
    let rested = request("rested", MINUTE);
    granted(store.insert_if_absent(&rested).await.unwrap());
    let rest = Duration::from_secs(10);
    store.delete(&DeleteRequest::by_owner(id("rested"), rested.owner).hold_at_least(rest)).await.unwrap();
    server.set_clock("+0");

    let row = row(&store).await;
    assert!(!row.is_taken(), "a released lock stays taken until {} years from now", years(&row));
    assert!(granted(ask(&store, "job", MINUTE).await.unwrap()).fence > fence);

    // A rest that was begun then lasts its length from the first attempt on.
    let Inserted::Held(holder) = ask(&store, "rested", MINUTE).await.unwrap() else { panic!("it did not rest") };
    assert!(holder.expires_in <= Some(rest), "{holder:?}");
    until_free(&store, "rested").await;
}

async fn a_crashed_holder_blocks_for_its_longest_ttl(server: &OwnServer) {
    let store = Database::new(server.url()).store().await;
    let (short, long) = (Duration::from_secs(5), Duration::from_secs(10));
    server.set_clock("+10y");
    let crashed = request("job", short);
    let lease = granted(store.insert_if_absent(&crashed).await.unwrap());
    renew(&store, &crashed, long).await;
    renew(&store, &crashed, short).await;
    server.set_clock("+0");

    // Reading does not begin it, an attempt does.
    let ahead = row(&store).await;
    assert!(years(&ahead) >= 9 && ahead.expires_in() <= Some(long));
    let Inserted::Held(holder) = ask(&store, "job", MINUTE).await.unwrap() else { panic!("a held lock was granted") };
    assert!(holder.expires_in <= Some(long) && holder.expires_in > Some(short), "{holder:?}");
    let ended = row(&store).await;
    assert!(ended.expires_at <= ended.now + long, "it ends in {} years", years(&ended));
    // Another attempt does not prolong it.
    assert!(is_refused(&store).await);
    assert_eq!(row(&store).await.expires_at, ended.expires_at);

    until_free(&store, "job").await;
    let successor = granted(ask(&store, "job", MINUTE).await.unwrap());
    assert!(successor.fence > lease.fence);
    assert!(matches!(store.renew(&renewal(&crashed, long)).await.unwrap(), Renewed::NotHeld));
}

/// Many at once, as after a fault that befell all locks.
async fn a_batch_ends_all_that_are_ahead(server: &OwnServer) {
    let store = Database::new(server.url()).store().await;
    let requests = || (0..100).map(|number| request(&format!("job-{number}"), MINUTE)).collect::<Vec<_>>();
    server.set_clock("+10y");
    assert!(store.insert_many(&requests()).await.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))));
    server.set_clock("+0");
    for answer in store.insert_many(&requests()).await {
        let Ok(Inserted::Held(holder)) = answer else { panic!("a held lock was not refused: {answer:?}") };
        assert!(holder.expires_in <= Some(MINUTE), "{holder:?}");
    }
    for row in store.list(&ListFilter::all()).await.unwrap() {
        assert!(row.expires_at <= row.now + MINUTE, "{row:?}");
    }
}

/// The lease is longer than the clock is ahead, so it does not expire by that. The holder renews while the clock is ahead,
/// others ask all the time.
async fn a_clock_ahead_during_a_lease_gives_no_second_holder(server: &OwnServer) {
    let store = Database::new(server.url()).store().await;
    let holder = request("job", HOUR);
    let lease = granted(store.insert_if_absent(&holder).await.unwrap());
    let over = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (store, over) = (store.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    assert!(is_refused(&store).await, "a second holder");
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let before = row(&store).await.now;
        server.set_clock("+30m");
        renew(&store, &holder, HOUR).await;
        server.set_clock("+0");
        // A renewal for less asks for nothing, and does not make the lease look excessive.
        renew(&store, &holder, Duration::from_secs(1)).await;
        // Of several attempts at once, one ends the excess; the others leave a row that is locked.
        let mut attempts = 0;
        let after = loop {
            assert!(is_refused(&store).await);
            let after = row(&store).await;
            if after.expires_at <= after.now + HOUR {
                break after;
            }
            attempts += 1;
            assert!(attempts < 1_000, "the lease is still ahead: {after:?}");
        };
        assert!(after.expires_at >= before + HOUR, "the lease was cut short: {after:?}");
        renew(&store, &holder, HOUR).await;
    }
    over.store(true, Ordering::SeqCst);
    for other in others {
        other.await.unwrap();
    }
    assert_eq!(row(&store).await.fence, lease.fence);
    let release = DeleteRequest::by_owner(id("job"), holder.owner);
    while_busy(|| store.delete(&release)).await.unwrap();
    granted(ask(&store, "job", MINUTE).await.unwrap());
}

/// An attempt has met a row from the future, and the holder renews before the attempt ends the excess: by the clock of the
/// attempt's beginning the holder would lose the time that it was told meanwhile.
#[tokio::test]
async fn the_end_of_an_excess_keeps_what_a_renewal_was_told() {
    for database in both() {
        let (proxy, near) = (Proxy::to(&database.url).await, database.store().await);
        let far = MySqlStore::builder().table(database.table.clone()).pool_size(1).connect(proxy.url()).await.unwrap();
        let holder = request("job", MINUTE);
        granted(near.insert_if_absent(&holder).await.unwrap());
        shift_row(&database.url, database.table.as_str(), &id("job"), HOUR).await;
        proxy.hold_requests_with("START TRANSACTION");
        let asking = tokio::spawn(async move { ask(&far, "job", MINUTE).await });
        proxy.holds_one().await;
        let before = row(&near).await.now;
        renew(&near, &holder, MINUTE).await;
        proxy.let_go();
        assert!(matches!(asking.await.unwrap().unwrap(), Inserted::Held(_)));
        let after = row(&near).await;
        assert!(after.expires_at >= before + MINUTE, "the lease was cut short: {after:?}");
        assert!(after.expires_at <= after.now + MINUTE, "the lease is still ahead: {after:?}");
    }
}

/// The row may be locked when the excess is to be ended: it is left to the next attempt.
#[tokio::test]
async fn an_excessive_row_that_is_locked_is_left_alone() {
    for database in both() {
        let store = database.store().await;
        granted(ask(&store, "job", MINUTE).await.unwrap());
        shift_row(&database.url, database.table.as_str(), &id("job"), HOUR).await;
        let before = row(&store).await.expires_at;
        let other = database.lock_row("job").await;
        waits_for_no_lock(async |_| {
            let Inserted::Held(holder) = ask(&store, "job", MINUTE).await.unwrap() else { panic!("it is held") };
            assert!(holder.expires_in <= Some(MINUTE), "{holder:?}");
        })
        .await;
        assert_eq!(row(&store).await.expires_at, before);
        drop(other);
        until(async || {
            assert!(is_refused(&store).await);
            row(&store).await.expires_at < before
        })
        .await;
    }
}

/// Each scenario is a test, on a server of its own.
macro_rules! scenarios {
    ($($server:ident = $name:literal: $($scenario:ident),*;)*) => {$(
        mod $server {
            use super::OwnServer;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    super::$scenario(&OwnServer::start($name)).await;
                }
            )*
        }
    )*};
}

scenarios! {
    mariadb = "mariadb-faketime":
        a_run_while_the_clock_was_ahead_leaves_the_lock_free, a_crashed_holder_blocks_for_its_longest_ttl,
        a_batch_ends_all_that_are_ahead, a_clock_ahead_during_a_lease_gives_no_second_holder;
    mysql = "mysql-faketime":
        a_run_while_the_clock_was_ahead_leaves_the_lock_free, a_crashed_holder_blocks_for_its_longest_ttl,
        a_batch_ends_all_that_are_ahead, a_clock_ahead_during_a_lease_gives_no_second_holder;
}
