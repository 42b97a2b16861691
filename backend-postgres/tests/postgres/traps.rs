//! What PostgreSQL and its planner have done to others.

use std::time::{Duration, Instant};

use db_mutex_core::{Inserted, LockStore, StoreErrorKind};
use db_mutex_postgres::PostgresStore;

use crate::database::{MINUTE, ask, builder, grant, id, insert, owner, release, store, table};
use crate::server::{administrator, as_user, role, url};

/// Nobody's row lock is waited for: not by a refusal, not by a takeover.
#[tokio::test]
async fn no_attempt_waits_for_somebody_elses_row_lock() {
    let store = store("locked").await;
    grant(&store, "held", MINUTE).await;
    let (owner, _) = grant(&store, "free", MINUTE).await;
    store.delete(&release("free", owner)).await.unwrap();

    let mut other = administrator().await;
    let transaction = other.transaction().await.unwrap();
    let rows = format!("SELECT FROM {} FOR UPDATE", table("locked"));
    transaction.query(&rows, &[]).await.unwrap();

    // Had it waited, the lock timeout of 2 s would have made it an error.
    let begun = Instant::now();
    for name in ["held", "free"] {
        let answer = ask(&store, name, MINUTE).await.unwrap();
        assert!(matches!(answer, Inserted::Held(_)), "{name}: {answer:?}");
    }
    println!("two attempts on locked rows answered in {:?}", begun.elapsed());
    let requests = [insert("a", crate::database::owner(), MINUTE), insert("free", crate::database::owner(), MINUTE)];
    let answers = store.insert_many(&requests).await.unwrap();
    assert!(matches!(answers[..], [Inserted::Granted(_), Inserted::Held(_)]), "{answers:?}");
    transaction.rollback().await.unwrap();
    assert!(matches!(ask(&store, "free", MINUTE).await.unwrap(), Inserted::Granted(_)));
}

/// A statement that is planned once, while the table is empty, would read all of it for ever.
#[tokio::test]
async fn a_table_that_grows_under_a_prepared_statement_is_not_scanned() {
    let named = format!("{}&application_name=db-mutex-grown", url("postgres"));
    let store = builder("grown").pool_size(1).connect(&named).await.unwrap();
    let rounds = async |store: &PostgresStore, from: usize| {
        for number in from..from + 10 {
            let name = format!("job-{number}");
            let (owner, _) = grant(store, &name, MINUTE).await;
            store.renew(&crate::database::renewal(&name, owner, MINUTE)).await.unwrap();
            store.renew_many(&[crate::database::renewal(&name, owner, MINUTE)]).await.unwrap();
            store.delete(&release(&name, owner)).await.unwrap();
            let many: Vec<_> =
                (0..5).map(|n| insert(&format!("{name}-{n}"), crate::database::owner(), MINUTE)).collect();
            store.insert_many(&many).await.unwrap();
            let many: Vec<_> = many.iter().map(|request| release(request.lock_id.as_str(), request.owner)).collect();
            store.delete_many(&many).await.unwrap();
        }
    };
    rounds(&store, 0).await;
    let admin = administrator().await;
    let table = table("grown");
    let fill = format!(
        "INSERT INTO {table} (lock_id, fence, holder, acquired_at, released_at, expires_at)
         SELECT 'filler-' || n, 1, 'filler', 1, 1, 1 FROM generate_series(1, 1000000) AS n"
    );
    admin.batch_execute(&fill).await.unwrap();

    let begun = Instant::now();
    rounds(&store, 10).await;
    println!("160 statements on a million rows in {:?}", begun.elapsed());

    // Counted by the server: how many rows were read on the way from one end of the table to the other. What a session has
    // counted is in the view when the session has ended.
    drop(store);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'db-mutex-grown'";
    while admin.query_one(sessions, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = $1";
    let read: i64 = admin.query_one(read, &[&table.as_str()]).await.unwrap().get(0);
    assert!(read < 1_000_000, "the table was read from end to end: {read} rows");
    admin.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
}

/// A server that accepts no writes says nothing about who holds a lock.
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
    let error = ask(&store, "job", MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::ReadOnly, "{error:?}");
    administrator()
        .await
        .batch_execute("ALTER ROLE read_only_later RESET default_transaction_read_only")
        .await
        .unwrap();
}

/// Under a role's SERIALIZABLE default, conflicts are repeated and reach nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_of_a_hostile_isolation_level_reach_nobody() {
    role("hostile", &[("default_transaction_isolation", "serializable")]).await;
    let config: tokio_postgres::Config = as_user(&url("postgres"), "hostile").parse().unwrap();
    let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
    let pool = deadpool_postgres::Pool::builder(manager).max_size(8).build().unwrap();
    let store = PostgresStore::builder().table(table("hostile")).from_pool(pool).await.unwrap();
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut granted = 0;
                for round in 0..100 {
                    let owner = owner();
                    let name = format!("job-{}", round % 2);
                    match store.insert_if_absent(&insert(&name, owner, MINUTE)).await.unwrap() {
                        Inserted::Granted(_) => {
                            granted += 1;
                            store.delete(&release(&name, owner)).await.unwrap();
                        }
                        Inserted::Held(_) => {}
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
    println!("800 attempts of 8 workers, {granted} granted, no error");
    assert!(granted > 0);
    assert!(store.find(&id("job-0")).await.unwrap().is_some());
}
