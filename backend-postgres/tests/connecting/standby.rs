//! A real hot standby is refused as read-only, whatever its table looks like.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use db_mutex_core::{StoreErrorKind as Kind, TableName};
use db_mutex_postgres::PostgresStore;
use tempfile::TempDir;

use crate::server;

/// A copy of `postgres` that follows it; it ends with this value.
struct Standby {
    process: Child,
    _folder: TempDir,
    url: String,
}

impl Drop for Standby {
    fn drop(&mut self) {
        // SIGQUIT: PostgreSQL ends at once, its children too.
        let _ = Command::new("kill").arg("-QUIT").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// Runs a program of the server as the user whose files the data are, because PostgreSQL refuses root.
fn program(name: &str, data: &Path) -> Command {
    let running = fs::read_to_string(db_mutex_test_servers::folder("postgres").join("pid")).unwrap();
    let server = fs::read(format!("/proc/{}/cmdline", running.trim())).unwrap();
    let server = PathBuf::from(String::from_utf8(server.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap());
    let program = server.with_file_name(name);
    let owner = fs::metadata(data).unwrap();
    let mut command = Command::new("setpriv");
    // If this test is killed, its server ends too.
    command.arg("--pdeathsig=QUIT");
    if fs::metadata("/proc/self").unwrap().uid() != owner.uid() {
        command.arg(format!("--reuid={}", owner.uid())).arg(format!("--regid={}", owner.gid())).arg("--clear-groups");
    }
    command.arg(program);
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Standby {
    fn new() -> Self {
        let (primary, url) = (db_mutex_test_servers::folder("postgres").join("data"), server::url("postgres"));
        let folder = tempfile::tempdir().unwrap();
        let owner = fs::metadata(&primary).unwrap();
        chown(folder.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        let data = folder.path().join("data");
        let copied =
            program("pg_basebackup", &primary).args(["-R", "-c", "fast", "-d", &url, "-D"]).arg(&data).output();
        let copied = copied.unwrap();
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let port = free_port();
        let process = program("postgres", &primary)
            .arg("-D")
            .arg(&data)
            .args(["-c", &format!("port={port}"), "-c", "unix_socket_directories=", "-c", "fsync=off"])
            .spawn()
            .unwrap();
        let (login, _) = url.split_once('@').unwrap();
        Self { process, _folder: folder, url: format!("{login}@127.0.0.1:{port}/dbmutex?sslmode=disable") }
    }
}

#[tokio::test]
async fn a_hot_standby_is_refused_as_read_only() {
    let table = TableName::new("standby").unwrap();
    let builder = || PostgresStore::builder().table(table.clone());
    builder().connect(&server::url("postgres")).await.unwrap();
    let mut standby = Standby::new();
    let begun = Instant::now();
    let error = loop {
        let error = builder().connect(&standby.url).await.expect_err("it accepts no writes");
        // Until it is up.
        if error.kind() != Kind::Unavailable || begun.elapsed() > Duration::from_secs(30) {
            break error;
        }
        assert!(standby.process.try_wait().unwrap().is_none(), "the standby did not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(error.kind(), Kind::ReadOnly, "{error:?}");
    assert!(error.to_string().contains("replica"), "{error}");
    // And where the table would have to be made first.
    let error = PostgresStore::builder().table(crate::fresh_table("standby")).connect(&standby.url).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ReadOnly, "{error:?}");
}
