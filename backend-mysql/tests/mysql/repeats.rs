//! What a lost reply leaves behind, and how many round trips there are.

use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{DbMutex, StoreErrorKind, Ttl};
use db_mutex_mysql::MySqlStore;

use crate::database::{Database, MINUTE, ask, both, granted, id, request, until_free};
use db_mutex_test_servers::Proxy;

async fn through(proxy: &Proxy, database: &Database) -> MySqlStore {
    MySqlStore::builder().table(database.table.clone()).pool_size(1).connect(proxy.url()).await.unwrap()
}

#[tokio::test]
async fn an_acquisition_whose_reply_was_lost_is_had_once() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let store = through(&proxy, &database).await;
        granted(ask(&store, "warm", MINUTE).await.unwrap());
        let request = request("job", MINUTE);
        proxy.lose_the_next_reply();
        let lease = granted(store.insert_if_absent(&request).await.unwrap());
        let row = database.store().await.find(&id("job")).await.unwrap().unwrap();
        assert_eq!((row.fence, row.acquired_at), (lease.fence, lease.acquired_at));
        // Had twice, the token would have moved on from the time of the acquisition.
        assert_eq!(row.fence.get(), row.acquired_at.as_micros());
    }
}

#[tokio::test]
async fn a_renewal_whose_reply_was_lost_is_had() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let store = through(&proxy, &database).await;
        let request = request("job", MINUTE);
        granted(store.insert_if_absent(&request).await.unwrap());
        proxy.lose_the_next_reply();
        let renewed = store.renew(&RenewRequest::new(id("job"), request.owner, Ttl::NEVER)).await.unwrap();
        assert!(matches!(renewed, Renewed::Renewed(lease) if lease.expires_at.is_never()));
    }
}

#[tokio::test]
async fn a_release_whose_reply_was_lost_is_had() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let store = through(&proxy, &database).await;
        let request = request("job", MINUTE);
        granted(store.insert_if_absent(&request).await.unwrap());
        let release = DeleteRequest::by_owner(id("job"), request.owner);
        proxy.lose_the_next_reply();
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Already);
        proxy.lose_the_next_reply();
        assert_eq!(store.delete_many(&[release]).await.remove(0).unwrap(), Deleted::Released);
        granted(ask(&store, "job", MINUTE).await.unwrap());
    }
}

/// In the meantime two others had the lock: the row has no trace of the first release. "Not held" would be a guess.
#[tokio::test]
async fn a_release_of_which_no_trace_is_left_is_an_error_and_not_a_lost_lock() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let (far, near) = (through(&proxy, &database).await, database.store().await);
        let mine = request("job", MINUTE);
        granted(far.insert_if_absent(&mine).await.unwrap());
        // The statement is prepared, so that it is the release itself whose reply is kept back.
        let none = DeleteRequest::by_owner(id("none"), mine.owner);
        assert_eq!(far.delete(&none).await.unwrap(), Deleted::NotHeld);
        proxy.keep_replies();
        let releasing = tokio::spawn({
            let far = far.clone();
            async move { far.delete(&DeleteRequest::by_owner(id("job"), mine.owner)).await }
        });
        until_free(&near, "job").await;
        let next = request("job", MINUTE);
        granted(near.insert_if_absent(&next).await.unwrap());
        near.delete(&DeleteRequest::by_owner(id("job"), next.owner)).await.unwrap();
        proxy.cut();
        let error = releasing.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains("no longer held"), "{error}");
    }
}

/// The driver's pool went on, on another connection, while the statement of a dropped future was still on its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_does_not_overtake_a_dropped_acquisition_that_is_on_its_way() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let mutex = DbMutex::new(through(&proxy, &database).await).unwrap();
        mutex.lock("warm").acquire().await.unwrap().release().await.unwrap();

        proxy.delay_the_next_request(500);
        let lock = mutex.lock("job");
        let acquiring = tokio::time::timeout(Duration::from_millis(100), lock.acquire()).await;
        assert!(acquiring.is_err(), "the acquisition has to be on its way: {acquiring:?}");
        assert!(mutex.shutdown(Duration::from_secs(30)).await.is_empty());
        let row = database.store().await.find(&id("job")).await.unwrap().unwrap();
        assert!(!row.owned && row.released_at.is_some(), "it was granted, and then released: {row:?}");
    }
}

/// A request that is granted, renewed or released takes one round trip; the reason why not takes a second.
#[tokio::test]
async fn each_success_is_one_round_trip() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let store = through(&proxy, &database).await;
        // Statements are prepared at their first use.
        let warm = request("warm", MINUTE);
        granted(store.insert_if_absent(&warm).await.unwrap());
        store.delete(&DeleteRequest::by_owner(id("warm"), warm.owner)).await.unwrap();
        proxy.round_trips();

        let mine = request("job", MINUTE);
        granted(store.insert_if_absent(&mine).await.unwrap());
        assert_eq!(proxy.round_trips(), 1, "acquire");
        assert!(matches!(ask(&store, "job", MINUTE).await.unwrap(), Inserted::Held(_)));
        assert_eq!(proxy.round_trips(), 2, "refused");
        granted(store.insert_if_absent(&mine).await.unwrap());
        assert_eq!(proxy.round_trips(), 3, "acquire a second time");
        store.renew(&RenewRequest::new(id("job"), mine.owner, Ttl::NEVER)).await.unwrap();
        assert_eq!(proxy.round_trips(), 1, "renew");
        let release = DeleteRequest::by_owner(id("job"), mine.owner);
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
        assert_eq!(proxy.round_trips(), 1, "release");
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Already);
        assert_eq!(proxy.round_trips(), 2, "release again");
        granted(ask(&store, "job", Duration::from_millis(100)).await.unwrap());
        assert_eq!(proxy.round_trips(), 1, "acquire after a release");
        until_free(&store, "job").await;
        proxy.round_trips();
        granted(ask(&store, "job", MINUTE).await.unwrap());
        assert_eq!(proxy.round_trips(), 1, "take over");

        let many: Vec<_> = (0..200).map(|number| request(&format!("many {number}"), MINUTE)).collect();
        assert!(store.insert_many(&many).await.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))));
        // What is longer than a packet of the network comes in pieces, and the server may answer the first of them early:
        // never more than a few, where one by one it would be hundreds.
        assert!(proxy.round_trips() <= 3, "acquire many");
        let renewals: Vec<_> =
            many.iter().map(|request| RenewRequest::new(request.lock_id.clone(), request.owner, Ttl::NEVER)).collect();
        assert!(store.renew_many(&renewals).await.iter().all(|answer| matches!(answer, Ok(Renewed::Renewed(_)))));
        assert!(proxy.round_trips() <= 3, "renew many");
        let releases: Vec<_> =
            many.iter().map(|request| DeleteRequest::by_owner(request.lock_id.clone(), request.owner)).collect();
        assert!(store.delete_many(&releases).await.iter().all(|answer| matches!(answer, Ok(Deleted::Released))));
        assert!(proxy.round_trips() <= 3, "release many");
    }
}

/// The first attempt may have released it before the row was locked: "busy" would say that nothing has happened.
#[tokio::test]
async fn a_release_whose_reply_was_lost_and_that_then_meets_a_locked_row_is_unknown() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let store = through(&proxy, &database).await;
        let mine = request("job", MINUTE);
        granted(store.insert_if_absent(&mine).await.unwrap());
        let release = DeleteRequest::by_owner(id("job"), mine.owner);
        let locked = database.lock_row("job").await;
        for many in [false, true] {
            proxy.lose_the_next_reply();
            let answer = if many {
                store.delete_many(std::slice::from_ref(&release)).await.remove(0)
            } else {
                store.delete(&release).await
            };
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "many: {many}, {error:?}");
        }
        drop(locked);
    }
}

/// The row may be locked by the first attempt, which the server has not ended yet.
#[tokio::test]
async fn an_acquisition_whose_reply_was_lost_and_that_then_meets_a_locked_row_waits_for_a_moment() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let store = through(&proxy, &database).await;
        let mine = request("job", MINUTE);
        granted(store.insert_if_absent(&mine).await.unwrap());
        store.delete(&DeleteRequest::by_owner(id("job"), mine.owner)).await.unwrap();
        let locked = database.lock_row("job").await;
        for many in [false, true] {
            let next = request("job", MINUTE);
            proxy.lose_the_next_reply();
            let answer =
                if many { store.insert_many(&[next]).await.remove(0) } else { store.insert_if_absent(&next).await };
            let error = answer.unwrap_err();
            let seen = (error.kind(), error.is_undone());
            assert_eq!(seen, (StoreErrorKind::Unavailable, false), "many: {many}, {error:?}");
        }
        let next = request("job", MINUTE);
        proxy.lose_the_next_reply();
        let ends = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(locked);
        };
        let (answer, ()) = tokio::join!(store.insert_if_absent(&next), ends);
        granted(answer.unwrap());
    }
}
