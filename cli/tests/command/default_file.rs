use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::running::Finished;
use crate::sandbox::{Sandbox, open};

/// Runs a shell script as a user whose home is `home` in the sandbox by the password database, with `$db` as db-mutex. With
/// no home, the user has no entry there.
pub(crate) fn at_home(sandbox: &Sandbox, home: Option<&str>, script: &str) -> Finished {
    let id = Command::new("id").arg("--user").output().expect("id");
    let rights = if id.stdout == b"0\n" { "--mount" } else { "--map-root-user" };
    let entry = home.map(|home| format!("root:x:0:0::{}:/bin/sh\n", sandbox.path(home).display()));
    sandbox.write("passwd", &entry.unwrap_or_else(|| "other:x:1:1::/:/bin/sh\n".into()));
    // systemd's part of the name service has an entry for root anyway.
    sandbox.write("nsswitch.conf", "passwd: files\n");
    let prelude = "set -eu; mount --bind passwd /etc/passwd; mount --bind nsswitch.conf /etc/nsswitch.conf\n";
    let mut unshare = sandbox.program("unshare");
    unshare.args([rights, "--mount", "sh", "-c"]).arg(format!("{prelude}{script}"));
    unshare.env_remove("DB_MUTEX_URL").env("db", env!("CARGO_BIN_EXE_db-mutex"));
    sandbox.spawn(unshare).wait()
}

const DEFAULT: &str = "home/.local/state/db-mutex/locks.db";

#[test]
fn the_default_file_is_in_the_home_of_the_password_database_with_any_environment() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("home")).unwrap();
    for environment in ["HOME=$PWD/other", "XDG_STATE_HOME=$PWD/other", "-u HOME", "HOME=", "XDG_STATE_HOME=other"] {
        let script = format!(
            "$db run job --hold-at-least 20m -- true; env {environment} $db show job > shown
             env {environment} $db run job -- true || echo $? > code; $db release job --force > released"
        );
        let ended = at_home(&sandbox, Some("home"), &script);
        assert_eq!(ended.code(), Some(0), "{environment}: {ended:?}");
        assert!(sandbox.read("shown").contains("resting"), "{environment}");
        assert_eq!(sandbox.read("code"), "75\n", "{environment}");
        assert!(!sandbox.path("other").exists(), "{environment}");
    }
    assert!(sandbox.path(DEFAULT).exists());
}

#[test]
fn the_default_folder_is_its_users_alone() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("home")).unwrap();
    assert_eq!(at_home(&sandbox, Some("home"), "umask 0; $db run job -- true").code(), Some(0));
    let mode = |path: &str| fs::metadata(sandbox.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("home/.local/state/db-mutex"), 0o700);
}

/// Nothing was ever locked, and that is no mistake in a path.
#[test]
fn looking_where_nothing_was_locked_finds_nothing_and_creates_nothing() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("home")).unwrap();
    let script = "$db list --json > rows; $db wait job; code=0; $db show job || code=$?; exit $code";
    let ended = at_home(&sandbox, Some("home"), script);
    let file = format!("{:?}", sandbox.path(DEFAULT));
    assert!(ended.assert_refusal(1).contains(&file), "{ended:?}");
    assert_eq!(sandbox.read("rows"), "[]\n");
    assert!(!sandbox.path("home/.local").exists());
}

#[test]
fn without_a_home_the_command_says_what_to_do() {
    let sandbox = Sandbox::new();
    let refused = at_home(&sandbox, None, "exec $db run job -- touch ran");
    assert!(refused.assert_refusal(64).contains("--url sqlite:"), "{refused:?}");
    for missing in ["/proc/nowhere", "/dev/null"] {
        let refused = at_home(&sandbox, Some(missing), "exec $db run job -- touch ran");
        let line = refused.assert_refusal(64);
        assert!(line.contains("locks.db") && line.contains("--url sqlite:"), "{line}");
    }
    assert!(!sandbox.path("ran").exists());
}

/// With the file and without it, and never in another place.
#[test]
fn a_home_that_cannot_be_written_is_refused() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("home")).unwrap();
    let read_only = "mount --bind home home; mount -o remount,ro,bind home; exec $db run job -- touch ran";
    let refused = at_home(&sandbox, Some("home"), read_only);
    let file = format!("{:?}", sandbox.path(DEFAULT));
    assert!(refused.assert_refusal(64).contains(&file), "{refused:?}");
    assert_eq!(at_home(&sandbox, Some("home"), "$db migrate").code(), Some(0));
    let refused = at_home(&sandbox, Some("home"), read_only);
    assert!(refused.assert_refusal(64).contains(&file), "{refused:?}");
    assert!(refused.assert_refusal(64).contains("--url sqlite:"), "{refused:?}");
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn a_damaged_default_file_is_said_to_be_the_default() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("home/.local/state/db-mutex");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("locks.db"), "a diary, and by no means a database\n".repeat(100)).unwrap();
    let refused = at_home(&sandbox, Some("home"), "exec $db run job -- touch ran");
    assert!(refused.assert_refusal(125).contains("it is the default"), "{refused:?}");
}

#[test]
fn files_have_the_permissions_of_the_umask() {
    let sandbox = Sandbox::new();
    for (umask, expected) in [("002", 0o664), ("022", 0o644), ("077", 0o600), ("007", 0o660)] {
        let script = format!("umask {umask}; exec $db --url sqlite:{umask}.db run job -- true");
        let mut shell = sandbox.program("sh");
        shell.args(["-c", &script]).env("db", env!("CARGO_BIN_EXE_db-mutex"));
        sandbox.spawn(shell).wait().assert_silent_success();
        for suffix in ["", "-wal", "-shm"] {
            let file = sandbox.path(&format!("{umask}.db{suffix}"));
            let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, expected, "{file:?}: {mode:o}");
        }
    }
}

#[test]
fn a_database_of_one_process_is_refused() {
    let sandbox = Sandbox::new();
    for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite::memory:?cache=shared", "sqlite:", "sqlite://"] {
        for command in [&["run", "job", "-c", "echo ran > ran"][..], &["list"], &["migrate"]] {
            let refused = sandbox.run([&["--url", url], command].concat());
            refused.assert_refusal(64);
        }
    }
    let refused = sandbox.run(["--url", "sqlite::memory:", "run", "job", "--", "true"]);
    assert!(refused.assert_refusal(64).contains("excludes no one"), "{refused:?}");
    assert!(!sandbox.path("ran").exists());
}

/// SQLite's log belongs to a name of a file, so two names would be two databases.
#[test]
fn a_file_with_two_names_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.run(["--url", "sqlite:one.db", "migrate"]).assert_silent_success();
    drop(open(&sandbox.path("one.db")));
    fs::hard_link(sandbox.path("one.db"), sandbox.path("two.db")).unwrap();
    for name in ["one", "two"] {
        let refused = sandbox.run(["--url", &format!("sqlite:{name}.db"), "run", "job", "-c", "echo ran > ran"]);
        assert!(refused.assert_refusal(125).contains("hard links"), "{refused:?}");
    }
    fs::remove_file(sandbox.path("two.db")).unwrap();
    std::os::unix::fs::symlink("one.db", sandbox.path("two.db")).unwrap();
    let holder = sandbox.hold("job", &["--url", "sqlite:one.db"]);
    sandbox.run(["--url", "sqlite:two.db", "run", "job", "--", "true"]).assert_refusal(75);
    drop(holder);
}
