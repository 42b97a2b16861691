//! A real hot standby: refused as read-only where it is the only host, with or without a table, and passed over otherwise.

use std::error::Error;
use std::time::Duration;

use db_mutex_core::{DbMutex, StoreErrorKind as Kind, TableName};
use db_mutex_postgres::PostgresStore;
use db_mutex_postgres::tokio_postgres::Client;
use db_mutex_test_servers::OwnPair;

use crate::{fresh_table, server, texts};

/// Waits until a server has so many connections for notifications.
async fn until_listeners(client: &Client, number: &str) {
    let listeners = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE '%wake-ups'";
    for _ in 0..3_000 {
        if texts(client, listeners).await == [number] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {number} within 30 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_standby_is_refused_and_passed_over() {
    let pair = OwnPair::start();
    let table = TableName::new("standby").unwrap();
    let builder = || PostgresStore::builder().table(table.clone());
    builder().connect(pair.url_of(0)).await.unwrap();

    // Also where the table would have to be made first.
    for table in [table.clone(), fresh_table("standby")] {
        let error = PostgresStore::builder().table(table).connect(pair.url_of(1)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::ReadOnly, "{error:?}");
        assert!(error.to_string().contains("replica"), "{error}");
    }

    let both = pair.url_of_both([1, 0]);
    for target in ["", "&target_session_attrs=read-write", "&target_session_attrs=primary"] {
        let store = builder().connect(&format!("{both}{target}")).await.unwrap();
        DbMutex::new(store).unwrap().lock("job").acquire().await.unwrap().release().await.unwrap();
    }
    let error = builder().connect(&format!("{both}&target_session_attrs=any")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ReadOnly, "the first that answers is the standby: {error:?}");
    let error = builder().connect(&format!("{}&target_session_attrs=primary", pair.url_of(1))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ReadOnly, "{error:?}");
    assert!(error.to_string().ends_with("is a standby; connect to the primary"), "{error}");

    // A primary whose sessions became read-only is left by connections that are open, too.
    let moving = DbMutex::new(builder().connect(&both).await.unwrap()).unwrap();
    let any = format!("{}&target_session_attrs=any", pair.url_of_both([0, 1]));
    let moving_too = DbMutex::new(builder().connect(&any).await.unwrap()).unwrap();
    let administrator = server::connection(pair.url_of(0)).await;
    // So is it by the connection for notifications.
    let held = moving.lock("held").acquire().await.unwrap();
    let waiting_for_held = {
        let moving = moving.clone();
        tokio::spawn(async move { moving.lock("held").wait(Duration::from_secs(120)).acquire().await })
    };
    until_listeners(&administrator, "1").await;
    administrator.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    administrator.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let mut numbers = 0..;
    let error = loop {
        // Until all processes have heard of it.
        if let Err(error) = moving.lock(format!("moving-{}", numbers.next().unwrap())).acquire().await {
            break error;
        }
    };
    let cause = error.source().unwrap().to_string();
    assert!(error.is_transient(), "{error:?}");
    assert!(cause.contains("is a standby"), "{cause}");
    assert!(cause.contains("accepts no writes (default_transaction_read_only is on)"), "{cause}");
    let waiting = {
        let moving = moving.clone();
        tokio::spawn(async move { moving.lock("waiting").wait(Duration::from_secs(60)).acquire().await })
    };
    pair.promote(1);
    waiting.await.unwrap().unwrap().release().await.unwrap();
    // Where any server may be taken, one that refuses a write is left all the same.
    moving_too.lock("any").acquire().await.unwrap().release().await.unwrap();
    until_listeners(&server::connection(pair.url_of(1)).await, "1").await;
    until_listeners(&administrator, "0").await;
    held.release().await.unwrap();
    waiting_for_held.await.unwrap().unwrap().release().await.unwrap();
    moving.lock("moved").acquire().await.unwrap().release().await.unwrap();

    pair.follow(0);
    pair.kill(1);
    let error = builder().connect(&both).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "it may be promoted: {error:?}");
    assert!(error.to_string().contains("is a standby") && error.to_string().contains("refused"), "{error}");
    pair.promote(0);
    let store = builder().connect(&both).await.unwrap();
    // Not the one of before: its release may not have reached the standby.
    DbMutex::new(store).unwrap().lock("another").acquire().await.unwrap().release().await.unwrap();
}
