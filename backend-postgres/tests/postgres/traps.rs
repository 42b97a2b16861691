//! What PostgreSQL and its planner have done to others.

use std::time::{Duration, Instant};

use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore, Renewed};
use db_mutex_core::{Error, StoreErrorKind, TableName};
use db_mutex_postgres::PostgresStore;

use crate::database::{MINUTE, ask, builder, grant, id, insert, mutex, release, renewal, table};
use crate::server::{administrator, as_user, role, url};

/// A statement that is planned once, while the table is empty, would read all of it forever.
#[tokio::test]
async fn a_table_that_grows_under_a_prepared_statement_is_not_scanned() {
    let named = format!("{}&application_name=db-mutex-grown", url("postgres"));
    let store = builder("grown").pool_size(1).connect(&named).await.unwrap();
    let admin = administrator().await;
    let table = table("grown");
    let mut other = administrator().await;
    let mut rounds = async |from: usize| {
        for number in from..from + 10 {
            let name = format!("job-{number}");
            let (owner, lease) = grant(&store, &name, MINUTE).await;
            store.renew(&renewal(&name, owner, MINUTE)).await.unwrap();
            ahead(&admin, &table, &name).await;
            assert!(matches!(ask(&store, &name, MINUTE).await.unwrap(), Inserted::Held(_)));
            assert_eq!(store.delete(&release(&name, owner)).await.unwrap(), Deleted::Released);
            // What the plain forms do not decide.
            assert_eq!(store.delete(&release(&name, owner)).await.unwrap(), Deleted::Already);
            assert!(matches!(store.renew(&renewal(&name, owner, MINUTE)).await.unwrap(), Renewed::NotHeld));
            let force = DeleteRequest::by_fence(id(&name), lease.fence);
            assert_eq!(store.delete(&force).await.unwrap(), Deleted::Already);
            let transaction = other.transaction().await.unwrap();
            let row = format!("SELECT FROM {table} WHERE lock_id = $1 FOR UPDATE");
            transaction.query_one(&row, &[&name]).await.unwrap();
            assert_eq!(ask(&store, &name, MINUTE).await.unwrap_err().kind(), StoreErrorKind::Busy);
            transaction.rollback().await.unwrap();
            for many in [5, 512] {
                let owner = crate::database::owner();
                let names: Vec<_> = (0..many).map(|n| format!("{name}-{many}-{n}")).collect();
                let inserts: Vec<_> = names.iter().map(|name| insert(name, owner, MINUTE)).collect();
                let renewals: Vec<_> = names.iter().map(|name| renewal(name, owner, MINUTE)).collect();
                let releases: Vec<_> = names.iter().map(|name| release(name, owner)).collect();
                assert!(store.insert_many(&inserts).await.iter().all(Result::is_ok));
                assert!(store.renew_many(&renewals).await.iter().all(Result::is_ok));
                assert!(store.delete_many(&releases).await.iter().all(Result::is_ok));
                for answer in store.delete_many(&releases).await {
                    assert_eq!(answer.unwrap(), Deleted::Already);
                }
            }
        }
    };
    // Statistics of a single row, by which reading the whole index seems cheapest.
    grant(&store, "only", MINUTE).await;
    admin.batch_execute(&format!("ANALYZE {table}")).await.unwrap();
    rounds(0).await;
    let fill = format!(
        "INSERT INTO {table} (lock_id, fence, holder, acquired_at, released_at, expires_at, ttl)
         SELECT 'filler-' || n, 1, 'filler', 1, 1, 0, 1 FROM generate_series(1, 1000000) AS n"
    );
    admin.batch_execute(&fill).await.unwrap();

    let begun = Instant::now();
    rounds(10).await;
    println!("ten rounds on a million rows in {:?}", begun.elapsed());

    // Counted by the server: how many rows were read on the way from one end of the table to the other. What a session has
    // counted is in the view when the session has ended.
    drop(store);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'db-mutex-grown'";
    while admin.query_one(sessions, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let read = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = $1";
    let read = admin.query_one(read, &[&table.as_str()]).await.unwrap();
    let (scanned, fetched): (i64, i64) = (read.get(0), read.get(1));
    println!("{scanned} rows were read in scans of the table, {fetched} through its index");
    assert!(scanned < 1_000_000, "the table was read from end to end: {scanned} rows");
    assert!(fetched < 1_000_000, "the index was read from end to end: {fetched} rows");
    admin.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
}

/// Lets a row look as if the clock had been ahead by a day when it was written.
async fn ahead(admin: &tokio_postgres::Client, table: &TableName, name: &str) {
    let sql = format!("UPDATE {table} SET expires_at = expires_at + 86400000000 WHERE lock_id = $1");
    assert_eq!(admin.execute(&sql, &[&name]).await.unwrap(), 1);
}

/// A server that accepts no writes says nothing about who holds a lock. It did once, so a failover may be under way.
#[tokio::test]
async fn a_read_only_server_is_an_error_and_never_held() {
    role("read_only_later", &[]).await;
    let url = as_user(&url("postgres"), "read_only_later");
    let store = builder("read_only").pool_size(1).connect(&url).await.unwrap();
    administrator()
        .await
        .batch_execute("ALTER ROLE read_only_later SET default_transaction_read_only = on")
        .await
        .unwrap();
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'read_only_later'";
    administrator().await.batch_execute(terminate).await.unwrap();
    // On a new connection: a grant on one that breaks may have been done.
    assert!(store.find(&id("job")).await.unwrap().is_none());
    let error = ask(&store, "job", MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("accepts no writes any more") && error.is_undone(), "{error:?}");
    administrator()
        .await
        .batch_execute("ALTER ROLE read_only_later RESET default_transaction_read_only")
        .await
        .unwrap();
}

/// Under a role's SERIALIZABLE default, a conflict is reported as busy, which the mutex repeats for half a second: users see
/// nothing else, and on a quiet machine not even that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_of_a_hostile_isolation_level_reach_no_caller() {
    role("hostile", &[("default_transaction_isolation", "serializable")]).await;
    let config: tokio_postgres::Config = as_user(&url("postgres"), "hostile").parse().unwrap();
    let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(8).build().unwrap();
    let store = PostgresStore::builder().table(table("hostile")).from_pool(pool).await.unwrap();
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let mutex = mutex(&store);
            tokio::spawn(async move {
                let mut granted = 0;
                for round in 0..100 {
                    let name = format!("job-{}", round % 2);
                    match mutex.lock(&name).try_acquire().await {
                        Ok(guard) => {
                            granted += 1;
                            guard.release().await.unwrap();
                        }
                        Err(Error::Store { source, .. }) if source.kind() == StoreErrorKind::Busy => {}
                        Err(error) => assert!(error.is_held(), "{error:?}"),
                    }
                }
                granted
            })
        })
        .collect();
    let mut granted = 0;
    for worker in workers {
        granted += worker.await.unwrap();
    }
    println!("800 attempts of 8 workers, {granted} granted");
    assert!(granted > 0);
    assert!(store.find(&id("job-0")).await.unwrap().is_some());
}
