//! A failover behind `HAProxy`: one name, which leads to a standby for a while.

use std::time::Duration;

use db_mutex_core::store::LockStore;
use db_mutex_core::{DbMutex, LockId};
use db_mutex_postgres::PostgresStore;
use db_mutex_test_servers::OwnPair;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use crate::table;

const MINUTE: Duration = Duration::from_secs(60);

/// Waits until the proxy leads to the standby.
async fn until_it_leads_to_the_standby(url: &str) {
    let begun = Instant::now();
    let url = format!("{}?sslmode=disable", url.split('?').next().unwrap());
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
            tokio::spawn(connection);
            if let Ok(row) = client.query_one("SELECT pg_is_in_recovery()", &[]).await
                && row.get::<_, bool>(0)
            {
                return;
            }
        }
        assert!(begun.elapsed() < MINUTE, "it does not lead to the standby");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "scripts/test-long has this server"]
async fn a_lease_goes_on_behind_haproxy_and_a_store_is_opened_meanwhile() {
    let pair = OwnPair::start();
    pair.set_synchronous(0, true);
    let url = pair.behind_haproxy();
    let builder = || PostgresStore::builder().table(table("failover"));
    let mutex = DbMutex::new(builder().connect(&url).await.unwrap()).unwrap();
    let guard = mutex.lock("held").ttl(MINUTE / 2).keep_alive(true).acquire().await.unwrap();
    let waiter = DbMutex::new(builder().connect(&url).await.unwrap()).unwrap();
    let waiting = tokio::spawn(async move { waiter.lock("held").wait(10 * MINUTE).acquire().await });

    pair.kill(0);
    until_it_leads_to_the_standby(&url).await;
    let opening = builder().connect_within(MINUTE);
    let opening = tokio::spawn(async move { opening.connect(&url).await });
    sleep(Duration::from_millis(500)).await;
    pair.promote(1);
    let promoted = Instant::now();
    let opened = opening.await.unwrap().unwrap();
    println!("a store was opened {:?} after the promotion", promoted.elapsed());

    // What the new primary says, which only a renewal changes.
    let new = builder().connect(pair.url_of(1)).await.unwrap();
    let held = LockId::new("held").unwrap();
    let ends = async || new.find(&held).await.unwrap().unwrap().expires_at;
    let before = ends().await;
    while ends().await == before {
        assert!(promoted.elapsed() < MINUTE, "the lease is not renewed");
        sleep(Duration::from_millis(50)).await;
    }
    println!("the lease was renewed {:?} after the promotion", promoted.elapsed());
    assert!(guard.is_valid(), "{:?}", guard.lost_reason());
    DbMutex::new(opened).unwrap().lock("another").acquire().await.unwrap().release().await.unwrap();
    guard.release().await.unwrap();
    let next = timeout(MINUTE, waiting).await.expect("the waiter gets its turn").unwrap().unwrap();
    next.release().await.unwrap();
}
