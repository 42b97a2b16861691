//! What needs a server to itself: one that is measured, and killed.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use db_mutex_conformance::{CASES, Suite};
use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{StoreErrorKind, TableName, Ttl};
use db_mutex_mysql::MySqlStore;

use crate::database::{Database, MINUTE, ask, force, granted, id, request, until};
use crate::rights::a_read_only_server_is_an_error_when_it_is_opened_and_later;
use crate::servers::{builder, lock_row, plant_fence, shift_row};
use db_mutex_test_servers::OwnServer;

async fn alone(name: &'static str) {
    let server = OwnServer::start(name);
    let database = Arc::new(Database::new(server.url()));
    refused_attempts_write_no_redo(name, &database).await;
    single_statements_use_the_keys(name, &database).await;
    // On a table of its own, with a user of that name.
    a_read_only_server_is_an_error_when_it_is_opened_and_later(&Database::new(server.url())).await;
    the_suite_passes_with_hostile_defaults(name, &database).await;
    all_go_on_after_the_server_was_killed(&server, &database).await;
    if name == "mysql" {
        a_group_in_which_all_accept_writes_is_refused(&database).await;
    }
}

async fn a_group_in_which_all_accept_writes_is_refused(database: &Database) {
    for setting in [
        "INSTALL PLUGIN group_replication SONAME 'group_replication.so'",
        "SET GLOBAL group_replication_group_name = '6b1fd1a4-35cf-4e5c-8e0b-3a5a3b6c2f10'",
    ] {
        database.run(setting).await;
    }
    drop(database.store().await);
    database.run("SET GLOBAL group_replication_single_primary_mode = OFF").await;
    let error = database.try_store().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("allow_unsupported_engine"), "{error}");
    let allowed = MySqlStore::builder().table(database.table.clone()).allow_unsupported_engine(true);
    allowed.connect(&database.url).await.unwrap();
}

/// As `conformance.rs` does on a user's pool, here for connections of the store's own: the server itself has the defaults.
async fn the_suite_passes_with_hostile_defaults(name: &str, database: &Arc<Database>) {
    let (isolation, mode) = match name {
        "mariadb" => ("tx_isolation", "SIMULTANEOUS_ASSIGNMENT"),
        _ => ("transaction_isolation", ""),
    };
    let defaults = format!(
        "SET GLOBAL autocommit = 0, sql_mode = '{mode}', {isolation} = 'SERIALIZABLE', time_zone = '+05:30', \
         innodb_lock_wait_timeout = 50, collation_server = 'utf8mb4_general_ci'"
    );
    database.run(&defaults).await;
    let url = database.url.clone();
    // Other processes would need a test of their own to start, and find the defaults of the server there too.
    let cases: Vec<_> = CASES.iter().filter(|case| case.group != "processes").collect();
    let count = cases.len();
    let failed = tokio::task::spawn_blocking(move || {
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let run = || case.run(&suite_on(&url));
                        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                            failed.lock().unwrap().push(case.name);
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap()
    })
    .await
    .unwrap();
    println!("{name}: {count} cases with the hostile defaults of the server, {} failed", failed.len());
    assert!(failed.is_empty(), "with hostile defaults of the server these fail: {failed:?}");
}

fn suite_on(url: &str) -> Suite {
    let [open, lock, shift, plant] = std::array::from_fn(|_| url.to_owned());
    let suite = Suite::new(move |namespace| {
        let url = open.clone();
        async move {
            let table = TableName::new(namespace).unwrap();
            builder(table).connect(&url).await.unwrap()
        }
    });
    let suite = suite.lock_row(move |namespace, lock_id| {
        let url = lock.clone();
        async move { lock_row(&url, &namespace, &lock_id).await }
    });
    let suite = suite.shift_row(move |namespace, lock_id, by| {
        let url = shift.clone();
        async move { shift_row(&url, &namespace, &lock_id, by).await }
    });
    suite.plant_fence(move |namespace, lock_id, fence| {
        let url = plant.clone();
        async move { plant_fence(&url, &namespace, &lock_id, fence).await }
    })
}

/// How many refused attempts of each kind a round has, and the bytes of redo that a round without a write stays below.
const ATTEMPTS: u64 = 20;
const QUIET: u64 = 1_000;

/// An attempt that locks the row first writes some hundred bytes, and with binary logs waits for the disk.
async fn refused_attempts_write_no_redo(name: &str, database: &Database) {
    let store = database.store().await;
    granted(ask(&store, "held", MINUTE).await.unwrap());
    let spent = request("spent", MINUTE);
    let spent_release = DeleteRequest::by_owner(spent.lock_id.clone(), spent.owner);
    granted(store.insert_if_absent(&spent).await.unwrap());
    store.delete(&spent_release).await.unwrap();
    let many: Vec<_> = (0..50).map(|number| request(&format!("many {number}"), MINUTE)).collect();
    assert!(store.insert_many(&many).await.iter().all(Result::is_ok));
    let others: Vec<_> = many.iter().map(|request_| request(request_.lock_id.as_str(), MINUTE)).collect();
    // The server writes on its own account too, now and then, and what an attempt writes would be in every one of the rounds.
    // A round is short, so that on a busy machine too there is one in which the server writes nothing.
    let mut rounds = Vec::new();
    while rounds.len() < 100 && rounds.iter().all(|bytes| *bytes >= QUIET) {
        let before = database.status("Innodb_os_log_written").await;
        for _ in 0..ATTEMPTS {
            assert!(matches!(ask(&store, "held", MINUTE).await.unwrap(), Inserted::Held(_)));
            assert!(matches!(store.insert_if_absent(&spent).await.unwrap(), Inserted::Spent));
            assert_eq!(store.delete(&spent_release).await.unwrap(), Deleted::Already);
        }
        assert!(store.insert_many(&others).await.iter().all(|answer| matches!(answer, Ok(Inserted::Held(_)))));
        rounds.push(database.status("Innodb_os_log_written").await - before);
    }
    println!("{name}: bytes of redo in rounds of {ATTEMPTS} refused attempts of each kind: {rounds:?}");
    let least = rounds.iter().min().copied().unwrap_or(u64::MAX);
    assert!(least < QUIET, "{name}: {ATTEMPTS} refused attempts of each kind write {least} bytes of redo at least");

    let mut costs = Vec::new();
    let mut owners = Vec::new();
    for (what, expect) in [("insert", 1), ("renewal", 0), ("release", 2), ("takeover", 1)] {
        let before = database.status("Innodb_os_log_written").await;
        for number in 0..100 {
            let id = id(&format!("cost {number}"));
            if expect == 1 {
                let request = request(id.as_str(), MINUTE);
                owners.push(request.owner);
                granted(store.insert_if_absent(&request).await.unwrap());
            } else if expect == 0 {
                let renewal = RenewRequest::new(id, owners[number], Ttl::new(MINUTE * 2).unwrap());
                assert!(matches!(store.renew(&renewal).await.unwrap(), Renewed::Renewed(_)));
            } else {
                let release = DeleteRequest::by_owner(id, owners[number]);
                assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
            }
        }
        costs.push((what, (database.status("Innodb_os_log_written").await - before) / 100));
    }
    println!("{name}: bytes of redo for each: {costs:?}");
    let all: u64 = costs.iter().map(|(_, bytes)| bytes).sum();
    // Of these, as many as are in a round write several times what a quiet one may.
    assert!(all * ATTEMPTS / 4 > 5 * QUIET, "{name}: what is measured does not count redo");
}

/// Prepared statements are planned by the server each time; a plan that reads the whole table is seen by the rows it reads.
async fn single_statements_use_the_keys(name: &str, database: &Database) {
    let store = database.store().await;
    let digits = (0..10).map(|digit| format!("SELECT {digit} AS i")).collect::<Vec<_>>().join(" UNION ALL ");
    let tables = ["a", "b", "c", "d", "e"].map(|name| format!("({digits}) AS {name}")).join(", ");
    let rows = "CONCAT('other ', a.i, b.i, c.i, d.i, e.i), NULL, NULL, 5, 'h', 1, 2, 2, 1";
    database.run(&format!("INSERT INTO {{t}} SELECT {rows} FROM {tables}")).await;
    let rows_read =
        async || database.status("Handler_read_rnd_next").await + database.status("Handler_read_next").await;
    let before = rows_read().await;
    for round in 0..100 {
        let mine = request("job", MINUTE);
        granted(store.insert_if_absent(&mine).await.unwrap());
        assert!(matches!(ask(&store, "job", MINUTE).await.unwrap(), Inserted::Held(_)));
        granted(store.insert_if_absent(&mine).await.unwrap());
        let renewal = RenewRequest::new(mine.lock_id.clone(), mine.owner, Ttl::NEVER);
        assert!(matches!(store.renew(&renewal).await.unwrap(), Renewed::Renewed(_)));
        if round % 2 == 0 {
            assert_eq!(force(&store, "job").await, Deleted::Released);
        } else {
            let release = DeleteRequest::by_owner(mine.lock_id.clone(), mine.owner);
            assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
        }
    }
    let read = rows_read().await - before;
    println!("{name}: {read} rows read by 500 requests beside 100000 rows");
    assert!(read < 100_000, "{name}: {read} rows were read by 500 requests");
}

async fn all_go_on_after_the_server_was_killed(server: &OwnServer, database: &Arc<Database>) {
    const BEFORE: usize = 200;
    let (inside, latest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let (acquired, errors, stop) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (database, inside, latest) = (Arc::clone(database), Arc::clone(&inside), Arc::clone(&latest));
            let (acquired, errors, stop) = (Arc::clone(&acquired), Arc::clone(&errors), Arc::clone(&stop));
            tokio::spawn(async move {
                let store = database.store().await;
                while !stop.load(Ordering::SeqCst) {
                    // Longer than the crash takes: what is granted stays granted across it.
                    let request = request("job", MINUTE);
                    let release = DeleteRequest::by_owner(request.lock_id.clone(), request.owner);
                    match store.insert_if_absent(&request).await {
                        Ok(Inserted::Granted(lease)) => {
                            assert!(!inside.swap(true, Ordering::SeqCst), "two hold the lock");
                            let before = latest.swap(lease.fence.get(), Ordering::SeqCst);
                            assert!(before < lease.fence.get(), "fence {} came after {before}", lease.fence);
                            acquired.fetch_add(1, Ordering::SeqCst);
                            inside.store(false, Ordering::SeqCst);
                        }
                        Ok(Inserted::Held(_)) => {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            continue;
                        }
                        Ok(other) => panic!("a new owner was answered {other:?}"),
                        Err(error) => {
                            assert!(error.is_transient(), "{error:?}");
                            errors.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    // Also after an error: it may have been granted.
                    while let Err(error) = store.delete(&release).await {
                        assert!(error.is_transient(), "{error:?}");
                        errors.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            })
        })
        .collect();
    until(async || acquired.load(Ordering::SeqCst) >= BEFORE).await;
    server.kill();
    let killed = Instant::now();
    server.start_again();
    let up = killed.elapsed();
    let then = acquired.load(Ordering::SeqCst);
    until(async || acquired.load(Ordering::SeqCst) >= then + BEFORE).await;
    println!(
        "{}: killed and up again in {up:?}, {BEFORE} more acquisitions {:?} after that; {} transient errors meanwhile",
        server.name(),
        killed.elapsed() - up,
        errors.load(Ordering::SeqCst)
    );
    stop.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mariadb_alone_is_measured_and_killed() {
    alone("mariadb").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mysql_alone_is_measured_and_killed() {
    alone("mysql").await;
}
