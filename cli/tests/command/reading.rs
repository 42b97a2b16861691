use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::geteuid;

use crate::running::Finished;
use crate::sandbox::{Sandbox, count, open};
use crate::servers::{execute, unique, url, url_of};

/// What looks at locks, and how it ends where `job` rests and `other` is unknown.
const LOOKS: [(&[&str], i32); 4] =
    [(&["list"], 0), (&["show", "job"], 0), (&["wait", "job", "--timeout", "0s"], 75), (&["wait", "other"], 0)];

fn is_root() -> bool {
    geteuid().is_root()
}

fn take(sandbox: &Sandbox, url: &str, table: &str) {
    let run = ["--url", url, "--table", table, "run", "job", "--hold-at-least", "20m", "--", "true"];
    sandbox.run(run).assert_silent_success();
}

/// With `SELECT` on the two tables and no other right.
#[test]
fn on_a_server_the_right_to_read_is_enough_to_look() {
    let sandbox = Sandbox::new();
    for server in ["postgres", "mariadb"] {
        let (user, table) = (unique("reader"), unique("readable"));
        take(&sandbox, &url(server), &table);
        let create = match server {
            "postgres" => format!(
                "CREATE ROLE {user} LOGIN PASSWORD 's3cret-canary'; GRANT SELECT ON {table}, {table}_versions TO {user};
                 ALTER ROLE {user} SET default_transaction_read_only = on"
            ),
            _ => format!(
                "CREATE USER {user} IDENTIFIED BY 's3cret-canary'; GRANT SELECT ON {table} TO {user};
                 GRANT SELECT ON {table}_versions TO {user}"
            ),
        };
        execute(server, &create);
        let reader = url_of(server, &format!("{user}:s3cret-canary"));
        let with = |arguments: &[&str]| sandbox.run([&["--url", &*reader, "--table", &*table], arguments].concat());
        for (look, code) in LOOKS {
            let looked = with(look);
            assert_eq!(looked.code(), Some(code), "{server}: {looked:?}");
        }
        assert!(with(&["show", "job"]).stdout.contains("resting"));
        // To change something takes more.
        for change in [&["run", "other", "--", "touch", "ran"][..], &["release", "job", "--force"], &["purge"]] {
            let refused = with(change);
            assert!(!refused.assert_refusal(125).contains("s3cret"), "{refused:?}");
        }
        assert!(!sandbox.path("ran").exists());
        execute(server, &format!("DROP TABLE {table}; DROP TABLE {table}_versions"));
        execute(server, &format!("DROP {} {user}", if server == "postgres" { "ROLE" } else { "USER" }));
    }
}

/// Runs a shell script in which the folder `ro` is read-only, and `$db` is db-mutex with its locks there.
fn on_a_read_only_disk(sandbox: &Sandbox, script: &str) -> Finished {
    let rights = if is_root() { "--mount" } else { "--map-root-user" };
    let prelude = "set -u; mount --bind ro ro && mount -o remount,ro,bind ro || exit 99\n";
    let mut unshare = sandbox.program("unshare");
    unshare.args([rights, "--mount", "sh", "-c"]).arg(format!("{prelude}{script}"));
    unshare.env("db", env!("CARGO_BIN_EXE_db-mutex")).env("DB_MUTEX_URL", "sqlite:ro/locks.db");
    sandbox.spawn(unshare).wait()
}

fn assert_only_looking_works(sandbox: &Sandbox) {
    for (look, code) in LOOKS {
        let looked = on_a_read_only_disk(sandbox, &format!("exec $db {}", look.join(" ")));
        assert_eq!(looked.code(), Some(code), "{looked:?}");
    }
    let shown = on_a_read_only_disk(sandbox, "exec $db show job");
    assert!(shown.stdout.contains("resting"), "{shown:?}");
    let refused = on_a_read_only_disk(sandbox, "exec $db run other -- touch ran");
    refused.assert_refusal(125);
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn a_file_on_a_read_only_disk_can_be_looked_at() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("ro")).unwrap();
    take(&sandbox, "sqlite:ro/locks.db", "db_mutex_locks");
    assert!(sandbox.path("ro/locks.db-wal").exists());
    assert_only_looking_works(&sandbox);

    // A copy, such as a backup, has no log.
    assert_eq!(count(&open(&sandbox.path("ro/locks.db")), "db_mutex_locks"), 1);
    assert!(!sandbox.path("ro/locks.db-wal").exists());
    assert_only_looking_works(&sandbox);
}

/// Root may write to all files, so it looks at them as another user.
#[test]
fn a_file_and_a_folder_without_the_right_to_write_can_be_looked_at() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("folder");
    fs::create_dir(&folder).unwrap();
    let url = format!("sqlite:{}/a%20 ?b.db", folder.display()).replace('?', "!");
    take(&sandbox, &url, "db_mutex_locks");
    let program = folder.join("db-mutex");
    fs::copy(env!("CARGO_BIN_EXE_db-mutex"), &program).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for file in fs::read_dir(&folder).unwrap() {
        mode(&file.unwrap().path(), 0o555);
    }
    mode(&folder, 0o555);
    mode(&sandbox.path(""), 0o755);
    for (look, code) in LOOKS {
        let mut other = if is_root() {
            let mut other = sandbox.program("setpriv");
            other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
            other
        } else {
            sandbox.program(&program)
        };
        other.args(["--url", &url]).args(look);
        let looked = sandbox.spawn(other).wait();
        assert_eq!(looked.code(), Some(code), "{looked:?}");
    }
    mode(&folder, 0o755);
}

/// The process that created it was interrupted.
#[test]
fn a_file_without_a_table_has_no_locks_yet() {
    let sandbox = Sandbox::new();
    sandbox.write("empty.db", "");
    let listed = sandbox.run(["--url", "sqlite:empty.db", "list", "--json"]);
    assert_eq!((listed.code(), &*listed.stdout), (Some(0), "[]\n"), "{listed:?}");
    assert_eq!(sandbox.read("empty.db"), "");
    // One with other tables is more likely the wrong file.
    open(&sandbox.path("theirs.db")).execute_batch("CREATE TABLE theirs (id INTEGER)").unwrap();
    let refused = sandbox.run(["--url", "sqlite:theirs.db", "list"]);
    assert!(refused.assert_refusal(125).contains("db-mutex migrate"), "{refused:?}");
    assert_eq!(count(&open(&sandbox.path("theirs.db")), "sqlite_master"), 1);
}

/// The same with a write-ahead log that was not begun.
#[test]
fn an_empty_file_with_the_mode_of_a_log_has_no_locks_yet() {
    let sandbox = Sandbox::new();
    open(&sandbox.path("empty.db")).execute_batch("PRAGMA journal_mode = WAL").unwrap();
    let length = fs::metadata(sandbox.path("empty.db")).unwrap().len();
    assert!(!sandbox.path("empty.db-wal").exists() && length > 0);
    let listed = sandbox.run(["--url", "sqlite:empty.db", "list", "--json"]);
    assert_eq!((listed.code(), &*listed.stdout), (Some(0), "[]\n"), "{listed:?}");
}
