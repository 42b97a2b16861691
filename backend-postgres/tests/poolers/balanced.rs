//! A pooler that sends what it takes for reading to a replica.

use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::LockStore;
use db_mutex_postgres::PostgresStore;
use tokio::time::Instant;

use crate::{server, table, work};

/// Locks are looked at where they are kept: the replica is behind, here for as long as the test takes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/test-long has this server"]
async fn no_lock_is_read_from_a_replica_that_is_behind() {
    let builder = || PostgresStore::builder().table(table("balanced"));
    builder().connect(&server::url("postgres")).await.unwrap();
    let standby = server::connection(&server::url("postgres-standby")).await;
    let primary = server::administrator().await;
    let written: String = primary.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
    let replayed = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    let begun = Instant::now();
    while !standby.query_one(replayed, &[&written]).await.unwrap().get::<_, bool>(0) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the standby does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    standby.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    let balanced = server::connection(&server::url("pgpool")).await;
    // Which would be seen on the primary.
    let behind = table("behind");
    primary.batch_execute(&format!("CREATE TABLE {behind} ()")).await.unwrap();
    let is_balanced = balanced.simple_query(&format!("SELECT FROM {behind}")).await.is_err();
    for parameter in ["", "&pooler=yes"] {
        let store = builder().connect(&format!("{}{parameter}", server::url("pgpool"))).await;
        let store = store.unwrap_or_else(|error| panic!("{parameter}: {error:?}"));
        work(&store, "job").await;
        let mutex = DbMutex::new(store.clone()).unwrap();
        let guard = mutex.lock("listed").acquire().await.unwrap();
        assert_eq!(store.list(&ListFilter::taken()).await.unwrap().len(), 1);
        assert_eq!(store.list(&ListFilter::all()).await.unwrap().len(), 2);
        let lock = mutex.lock("listed").wait(Duration::from_secs(20));
        let waiter = tokio::spawn(async move { lock.acquire().await.unwrap() });
        tokio::time::sleep(Duration::from_millis(500)).await;
        guard.release().await.unwrap();
        waiter.await.unwrap().release().await.unwrap();
        store.purge_expired(Duration::ZERO).await.unwrap();
    }
    standby.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    primary.batch_execute(&format!("DROP TABLE {behind}")).await.unwrap();
    assert!(is_balanced, "otherwise nothing is balanced here");
}
