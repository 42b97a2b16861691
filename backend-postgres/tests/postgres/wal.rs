//! What attempts write, counted on a server without other clients.

use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, LockStore};
use db_mutex_core::{HolderName, Ttl};
use db_mutex_postgres::PostgresStore;
use tokio_postgres::Client;

use crate::database::{MINUTE, ask, builder, grant, id, insert, owner, release, renewal};
use crate::server::connection;
use db_mutex_test_servers::OwnServer;

/// WAL records, and times that the WAL was made durable, once all of `store`'s sessions have ended: only then is what
/// they have counted in the view.
async fn written(client: &Client, store: PostgresStore) -> (i64, i64) {
    drop(store);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'db-mutex'";
    while client.query_one(sessions, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let row = client.query_one("SELECT wal_records, wal_sync FROM pg_stat_wal", &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Leaves only our own statements to write: no background work.
async fn quiet(client: &Client) {
    for setting in
        ["wal_writer_delay = '10s'", "autovacuum = off", "bgwriter_lru_maxpages = 0", "checkpoint_timeout = '1h'"]
    {
        client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    client.batch_execute("CHECKPOINT").await.unwrap();
}

async fn refuse(store: &PostgresStore, times: usize) {
    for _ in 0..times {
        assert!(matches!(ask(store, "job", MINUTE).await.unwrap(), Inserted::Held(_)));
    }
}

/// Attempts whose owner was released before, alone and in a batch, and a batch of refusals.
async fn refuse_otherwise(store: &PostgresStore) {
    let (spent, _) = grant(store, "spent", MINUTE).await;
    store.delete(&release("spent", spent)).await.unwrap();
    let requests = [insert("job", owner(), MINUTE), insert("spent", spent, MINUTE)];
    for _ in 0..1_000 {
        assert!(matches!(store.insert_if_absent(&requests[1]).await.unwrap(), Inserted::Spent));
        let answers = store.insert_many(&requests).await;
        assert!(matches!(answers[..], [Ok(Inserted::Held(_)), Ok(Inserted::Spent)]), "{answers:?}");
    }
}

async fn refuse_after_grant(store: &PostgresStore) {
    grant(store, "job", MINUTE).await;
    refuse(store, 10).await;
}

async fn pairs(store: &PostgresStore, times: usize) {
    for _ in 0..times {
        let (owner, _) = grant(store, "pair", MINUTE).await;
        assert_eq!(store.delete(&release("pair", owner)).await.unwrap(), Deleted::Released);
    }
}

async fn renewals(store: &PostgresStore, times: usize) {
    let (owner, _) = grant(store, "renewed", MINUTE).await;
    for _ in 0..times {
        store.renew(&renewal("renewed", owner, MINUTE)).await.unwrap();
    }
}

/// What `work` writes.
async fn cost(server: &OwnServer, client: &Client, table: &str, work: impl AsyncFnOnce(&PostgresStore)) -> (i64, i64) {
    let connect = || builder(table).connect(server.url());
    let before = written(client, connect().await.unwrap()).await;
    let store = connect().await.unwrap();
    work(&store).await;
    let after = written(client, store).await;
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test]
async fn a_refusal_writes_nothing_and_a_pair_waits_for_the_disk_once() {
    let server = OwnServer::start("postgres-plain");
    let client = connection(server.url()).await;
    quiet(&client).await;
    cost(&server, &client, "wal", async |store| refuse_after_grant(store).await).await;

    let (records, syncs) = cost(&server, &client, "wal", async |store| refuse(store, 1_000).await).await;
    println!("1000 refused attempts: {records} WAL records, {syncs} fsyncs");
    // Now and then the server writes a record of its own (a snapshot of what runs), and flushes it.
    assert!(syncs <= 3, "a refused attempt waited for the disk");
    assert!(records <= 10, "a refused attempt wrote WAL");

    let (records, syncs) = cost(&server, &client, "wal", async |store| refuse_otherwise(store).await).await;
    println!("2000 other refused attempts, with one pair: {records} WAL records, {syncs} fsyncs");
    assert!(syncs <= 4, "a refused attempt waited for the disk");
    assert!(records <= 20, "a refused attempt wrote WAL");

    let (records, syncs) = cost(&server, &client, "wal", async |store| renewals(store, 1_000).await).await;
    println!("1000 renewals: {records} WAL records, {syncs} fsyncs");
    assert!(records <= 3_100, "a renewal wrote more than the row and its commit");

    let (records, syncs) = cost(&server, &client, "wal", async |store| pairs(store, 1_000).await).await;
    println!("1000 acquire/release pairs: {records} WAL records, {syncs} fsyncs");
    assert!(syncs <= 1_010, "a release waited for the disk");
    // As many as before there were notifications.
    assert!(records <= 5_500, "a pair without waiters wrote more than it has to");
    assert!(syncs >= 990, "an acquisition did not wait for the disk");
}

/// If a crash undid these, nothing would ever end the locks.
#[tokio::test]
async fn a_release_of_a_lease_without_an_end_and_a_forced_one_are_durable() {
    let server = OwnServer::start("postgres-plain");
    let client = connection(server.url()).await;
    quiet(&client).await;
    let endless = async |store: &PostgresStore| {
        for _ in 0..100 {
            let request = InsertRequest::new(id("endless"), owner(), Ttl::NEVER, HolderName::of_this_process());
            assert!(matches!(store.insert_if_absent(&request).await.unwrap(), Inserted::Granted(_)));
            assert_eq!(store.delete(&release("endless", request.owner)).await.unwrap(), Deleted::Released);
        }
    };
    let (_, syncs) = cost(&server, &client, "durable", endless).await;
    println!("100 pairs of a lease without an end: {syncs} fsyncs");
    assert!(syncs >= 200, "releases of leases without an end did not wait for the disk");
    let forced = async |store: &PostgresStore| {
        for _ in 0..100 {
            let (_, lease) = grant(store, "forced", MINUTE).await;
            let request = DeleteRequest::by_fence(id("forced"), lease.fence);
            assert_eq!(store.delete(&request).await.unwrap(), Deleted::Released);
        }
    };
    let (_, syncs) = cost(&server, &client, "durable", forced).await;
    println!("100 pairs of an acquisition and a forced release: {syncs} fsyncs");
    assert!(syncs >= 200, "forced releases did not wait for the disk");
}

/// An acquisition that a crash undoes is given out twice, so a role's `synchronous_commit = off` must not hold for it.
#[tokio::test]
async fn an_acquisition_is_durable_with_any_setting_of_the_role() {
    let server = OwnServer::start("postgres-plain");
    let client = connection(server.url()).await;
    quiet(&client).await;
    client.batch_execute("ALTER ROLE dbmutex SET synchronous_commit = off").await.unwrap();
    let (_, syncs) = cost(&server, &client, "durable", async |store| pairs(store, 100).await).await;
    println!("100 pairs of a role with synchronous_commit = off: {syncs} fsyncs");
    assert!(syncs >= 100, "acquisitions did not wait for the disk");
    let (_, syncs) = cost(&server, &client, "durable", async |store| renewals(store, 100).await).await;
    println!("100 renewals of that role: {syncs} fsyncs");
    assert!(syncs >= 100, "renewals did not wait for the disk");
}
