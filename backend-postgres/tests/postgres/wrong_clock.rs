//! A server whose clock is ahead for a while, and then right again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db_mutex_core::StoreErrorKind;
use db_mutex_core::admin::LockRow;
use db_mutex_core::store::{Inserted, LockStore, Renewed};
use db_mutex_postgres::PostgresStore;

use crate::database::{MINUTE, ask, builder, grant, id, insert, mutex, owner, release, renewal, until_free};
use db_mutex_test_servers::OwnServer;

const HOUR: Duration = Duration::from_secs(3_600);

async fn row(store: &PostgresStore) -> LockRow {
    store.find(&id("job")).await.unwrap().unwrap()
}

async fn is_held(store: &PostgresStore) -> bool {
    matches!(ask(store, "job", MINUTE).await.unwrap(), Inserted::Held(_))
}

#[tokio::test]
async fn a_run_while_the_clock_was_ahead_leaves_the_lock_free() {
    let server = OwnServer::start("postgres-faketime");
    let store = builder("ahead").connect(server.url()).await.unwrap();
    let mutex = mutex(&store);
    server.set_clock("+10y");
    let fence = mutex.lock("job").run(async |guard| guard.fence()).await.unwrap();
    let (rested, _) = grant(&store, "rested", MINUTE).await;
    let rest = Duration::from_secs(10);
    store.delete(&release("rested", rested).hold_at_least(rest)).await.unwrap();
    server.set_clock("+0");

    let row = row(&store).await;
    assert!(!row.is_taken(), "a released lock stays taken until {} years from now", years(&row));
    let (_, lease) = grant(&store, "job", MINUTE).await;
    assert!(lease.fence > fence);

    // A rest that was begun then lasts its length from the first attempt on.
    let Inserted::Held(holder) = ask(&store, "rested", MINUTE).await.unwrap() else { panic!("it did not rest") };
    assert!(holder.expires_in <= Some(rest), "{holder:?}");
    until_free(&store, "rested").await;
}

fn years(row: &LockRow) -> u64 {
    row.expires_at.since(row.now).as_secs() / (24 * 365 * HOUR).as_secs()
}

#[tokio::test]
async fn a_holder_that_crashed_while_the_clock_was_ahead_blocks_for_its_longest_ttl() {
    let server = OwnServer::start("postgres-faketime");
    let store = builder("crashed").connect(server.url()).await.unwrap();
    let (short, long) = (Duration::from_secs(5), Duration::from_secs(10));
    server.set_clock("+10y");
    let (crashed, lease) = grant(&store, "job", short).await;
    assert!(matches!(store.renew(&renewal("job", crashed, long)).await.unwrap(), Renewed::Renewed(_)));
    assert!(matches!(store.renew(&renewal("job", crashed, short)).await.unwrap(), Renewed::Renewed(_)));
    server.set_clock("+0");

    // Reading does not begin it, an attempt does.
    let ahead = row(&store).await;
    assert!(years(&ahead) >= 9 && ahead.expires_in() <= Some(long));
    let Inserted::Held(holder) = ask(&store, "job", MINUTE).await.unwrap() else { panic!("a held lock was granted") };
    assert!(holder.expires_in <= Some(long) && holder.expires_in > Some(short), "{holder:?}");
    let ended = row(&store).await;
    assert!(ended.expires_at <= ended.now + long, "it ends in {} years", years(&ended));
    // Another attempt does not prolong it.
    assert!(is_held(&store).await);
    assert_eq!(row(&store).await.expires_at, ended.expires_at);

    until_free(&store, "job").await;
    let (_, successor) = grant(&store, "job", MINUTE).await;
    assert!(successor.fence > lease.fence);
    assert!(matches!(store.renew(&renewal("job", crashed, long)).await.unwrap(), Renewed::NotHeld));
}

/// Many at once, as after a fault that befell all locks.
#[tokio::test]
async fn a_batch_ends_all_that_are_ahead() {
    let server = OwnServer::start("postgres-faketime");
    let store = builder("all_ahead").connect(server.url()).await.unwrap();
    let requests = || (0..100).map(|number| insert(&format!("job-{number}"), owner(), MINUTE)).collect::<Vec<_>>();
    server.set_clock("+10y");
    assert!(store.insert_many(&requests()).await.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))));
    server.set_clock("+0");
    for answer in store.insert_many(&requests()).await {
        let Ok(Inserted::Held(holder)) = answer else { panic!("a held lock was not refused: {answer:?}") };
        assert!(holder.expires_in <= Some(MINUTE), "{holder:?}");
    }
    for row in store.list(&db_mutex_core::admin::ListFilter::all()).await.unwrap() {
        assert!(row.expires_at <= row.now + MINUTE, "{row:?}");
    }
}

/// The lease is longer than the clock is ahead, so it does not expire by that. The holder renews while the clock is ahead,
/// others ask all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_ahead_during_a_lease_gives_no_second_holder_and_loses_no_lease() {
    let server = OwnServer::start("postgres-faketime");
    let store = builder("during").connect(server.url()).await.unwrap();
    let (holder, lease) = grant(&store, "job", HOUR).await;
    let over = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (store, over) = (store.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    match ask(&store, "job", MINUTE).await {
                        Ok(Inserted::Held(_)) => {}
                        Err(error) if error.kind() == StoreErrorKind::Busy => {}
                        other => panic!("a second holder: {other:?}"),
                    }
                }
            })
        })
        .collect();
    let renew = async |ttl: Duration| {
        loop {
            match store.renew(&renewal("job", holder, ttl)).await {
                Ok(Renewed::Renewed(renewed)) => break assert_eq!(renewed.fence, lease.fence),
                Err(error) if error.kind() == StoreErrorKind::Busy => {}
                other => panic!("the holder lost its lease: {other:?}"),
            }
        }
    };
    for _ in 0..20 {
        let before = row(&store).await.now;
        server.set_clock("+30m");
        renew(HOUR).await;
        server.set_clock("+0");
        // A renewal for less asks for nothing, and does not make the lease look excessive.
        renew(Duration::from_secs(1)).await;
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
        renew(HOUR).await;
    }
    over.store(true, Ordering::SeqCst);
    for other in others {
        other.await.unwrap();
    }
    store.delete(&release("job", holder)).await.unwrap();
    grant(&store, "job", MINUTE).await;
}

/// Whether another is refused. Busy is no answer.
async fn is_refused(store: &PostgresStore) -> bool {
    loop {
        match ask(store, "job", MINUTE).await {
            Ok(answer) => return matches!(answer, Inserted::Held(_)),
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Busy, "{error:?}"),
        }
    }
}
