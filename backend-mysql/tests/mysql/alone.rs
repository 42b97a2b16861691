//! What needs a server to itself: one that is measured, and killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use db_mutex_conformance::CASES;
use db_mutex_core::{DeleteRequest, Inserted, LockStore, TableName};
use db_mutex_mysql::MySqlStore;

use crate::database::{Database, MINUTE, ask, granted, request, until};

/// A server in a folder of its own, gone with the test.
struct Server {
    name: &'static str,
    folder: PathBuf,
}

impl Server {
    fn start(name: &'static str) -> Self {
        let folder = std::env::temp_dir().join(format!("db-mutex-{name}-{}", std::process::id()));
        let server = Self { name, folder };
        server.script("up");
        server
    }

    fn script(&self, action: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/databases");
        let mut command = Command::new(script);
        command.arg(action).env("DB_MUTEX_TEST_DIR", &self.folder);
        if action != "down" {
            command.arg(self.name);
        }
        let output = command.output().expect("scripts/databases can be run");
        assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join(self.name).join("pid")).unwrap();
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
        assert!(killed.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.script("down");
            return;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/databases");
        let _ = Command::new(script).arg("down").env("DB_MUTEX_TEST_DIR", &self.folder).output();
    }
}

async fn alone(name: &'static str) {
    let server = Server::start(name);
    let database = Arc::new(Database::new(&server.script("url")));
    refused_attempts_write_no_redo(name, &database).await;
    the_suite_passes_with_hostile_defaults(name, &database).await;
    all_go_on_after_the_server_was_killed(&server, &database).await;
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
    let failed = tokio::task::spawn_blocking(move || {
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(case) = CASES.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let url = url.clone();
                        let run = || {
                            case.run(move |namespace| {
                                let url = url.clone();
                                async move {
                                    let table = TableName::new(namespace).unwrap();
                                    MySqlStore::builder().table(table).connect(&url).await.unwrap()
                                }
                            });
                        };
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
    println!("{name}: {} cases with the hostile defaults of the server, {} failed", CASES.len(), failed.len());
    assert!(failed.is_empty(), "with hostile defaults of the server these fail: {failed:?}");
}

/// An attempt that locks the row first writes some hundred bytes, and with binary logs waits for the disk.
async fn refused_attempts_write_no_redo(name: &str, database: &Database) {
    let store = database.store().await;
    granted(ask(&store, "held", MINUTE).await.unwrap());
    // The server writes on its own account too, now and then; what an attempt writes would be in every one of the rounds.
    let mut rounds = Vec::new();
    for _ in 0..10 {
        let before = database.status("Innodb_os_log_written").await;
        for _ in 0..100 {
            assert!(matches!(ask(&store, "held", MINUTE).await.unwrap(), Inserted::Held(_)));
        }
        rounds.push(database.status("Innodb_os_log_written").await - before);
    }
    let before = database.status("Innodb_os_log_written").await;
    for _ in 0..100 {
        let request = request("free", MINUTE);
        granted(store.insert_if_absent(&request).await.unwrap());
        store.delete(&DeleteRequest::by_owner(request.lock_id.clone(), request.owner)).await.unwrap();
    }
    let granted = database.status("Innodb_os_log_written").await - before;
    println!("{name}: bytes of redo in 10 rounds of 100 refused attempts: {rounds:?}; of 100 pairs: {granted}");
    let least = rounds.iter().min().copied().unwrap_or(u64::MAX);
    assert!(least < 2_000, "{name}: 100 refused attempts write {least} bytes of redo at least");
    assert!(granted > 10 * least, "{name}: what is measured does not count redo");
}

async fn all_go_on_after_the_server_was_killed(server: &Server, database: &Arc<Database>) {
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
    server.script("start");
    let up = killed.elapsed();
    let then = acquired.load(Ordering::SeqCst);
    until(async || acquired.load(Ordering::SeqCst) >= then + BEFORE).await;
    println!(
        "{}: killed and up again in {up:?}, {BEFORE} more acquisitions {:?} after that; {} transient errors meanwhile",
        server.name,
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
