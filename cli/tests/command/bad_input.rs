use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::sandbox::{Sandbox, count, open};

/// Runs `db-mutex OPTIONS run ARGUMENTS`, which has to be refused with one line that says so, without a command started
/// or a row written.
#[track_caller]
fn assert_refused(sandbox: &Sandbox, options: &[&str], arguments: &[&str], code: i32, says: &str) {
    let refused = sandbox.run([options, &["run"], arguments].concat());
    let line = refused.assert_refusal(code);
    assert!(line.contains(says), "{line:?} does not say {says:?}");
    assert!(sandbox.rows().is_empty(), "a row is left of {arguments:?}: {:?}", sandbox.rows());
    assert!(!sandbox.path("started").exists(), "{arguments:?} started its command");
}

const START: [&str; 2] = ["-c", "echo started > started"];

#[test]
fn ids_that_are_none_are_refused() {
    let sandbox = Sandbox::new();
    let too_long = "n".repeat(257);
    for (id, says) in [("", "empty"), (&too_long, "257"), ("a\nb", "control"), ("a\u{1b}[2J", "control")] {
        assert_refused(&sandbox, &[], &[&[id], &START[..]].concat(), 64, says);
        for command in [&["show"][..], &["release", "--force"]] {
            let refused = sandbox.run([command, &["--", id]].concat());
            assert!(refused.assert_refusal(64).contains(says), "{refused:?}");
        }
    }
    let longest = "ü".repeat(256);
    sandbox.run(["run", &longest, "--", "true"]).assert_silent_success();
    assert_eq!(sandbox.state(&longest), "free");
}

#[test]
fn durations_that_are_none_are_refused() {
    let sandbox = Sandbox::new();
    for (option, bad, says) in [
        ("--ttl", "0s", "at least 1s"),
        ("--ttl", "-5s", "-5s"),
        ("--ttl", "50ms", "at least 1s"),
        ("--ttl", "100ms", "at least 1s"),
        ("--ttl", "1000years", "365 days"),
        ("--ttl", "99999999999999999999s", "--ttl"),
        ("--ttl", "abc", "abc"),
        ("--ttl", "", "--ttl"),
        ("--ttl", "30", "--ttl"),
        ("--wait", "-1s", "-1s"),
        ("--wait", "soon", "soon"),
        ("--hold-at-least", "-1s", "-1s"),
        ("--kill-after", "-1s", "-1s"),
    ] {
        assert_refused(&sandbox, &[], &[&["job", option, bad], &START[..]].concat(), 64, says);
    }
}

#[test]
fn timings_that_contradict_each_other_are_refused() {
    let sandbox = Sandbox::new();
    let arguments = ["job", "--ttl", "10s", "--hold-at-least", "11s"];
    assert_refused(&sandbox, &[], &[&arguments, &START[..]].concat(), 64, "longer than the ttl");
    let arguments = ["job", "--ttl", "10s", "--kill-after", "9s"];
    assert_refused(&sandbox, &[], &[&arguments, &START[..]].concat(), 64, "at most 5s");
    let arguments = ["job", "--no-renew", "--ttl", "10s", "--kill-after", "9s"];
    assert_refused(&sandbox, &[], &[&arguments, &START[..]].concat(), 64, "at most 7s");
}

#[test]
fn labels_that_would_break_a_line_are_refused() {
    let sandbox = Sandbox::new();
    let too_long = "l".repeat(257);
    for (label, says) in [("one\ntwo", "control"), ("\u{7}", "control"), (&too_long, "at most 256")] {
        assert_refused(&sandbox, &[], &[&["job", "--label", label], &START[..]].concat(), 64, says);
    }
}

#[test]
fn commands_that_cannot_run_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("plain", "#!/bin/sh\n");
    sandbox.write("two\nlines", "#!/bin/sh\n");
    fs::create_dir(sandbox.path("folder")).unwrap();
    assert_refused(&sandbox, &[], &["job"], 64, "no command");
    assert_refused(&sandbox, &[], &["job", "--"], 64, "no command");
    assert_refused(&sandbox, &[], &["job", "--", "no-such-command"], 127, "no-such-command");
    assert_refused(&sandbox, &[], &["job", "--", "no such\ncommand"], 127, "not found");
    assert_refused(&sandbox, &[], &["job", "--", "./plain"], 126, "chmod +x");
    assert_refused(&sandbox, &[], &["job", "--", "./two\nlines"], 126, "chmod +x");
    assert_refused(&sandbox, &[], &["job", "--", "./folder"], 126, "folder");
}

#[test]
fn a_command_that_is_missing_costs_no_lock_that_another_wants() {
    let sandbox = Sandbox::new();
    sandbox.write("bad-interpreter", "#!/no/such/interpreter\n");
    fs::set_permissions(sandbox.path("bad-interpreter"), fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.run(["run", "job", "--", "./bad-interpreter"]).assert_refusal(127);
    assert_eq!(sandbox.state("job"), "free");
}

#[test]
fn urls_that_lead_nowhere_are_refused_without_being_repeated() {
    let sandbox = Sandbox::new();
    for (url, code, says) in [
        ("", 64, "empty"),
        ("locks.db", 64, "no scheme"),
        ("redis://user:s3cret-canary@h/d", 64, "scheme is unknown"),
        ("mysql://user:s3cret-canary@127.0.0.1:1/d", 125, "could not open the database"),
        ("mariadb://user:s3cret-canary@127.0.0.1:1/d", 125, "could not open the database"),
        ("postgresql://user:s3cret-canary@127.0.0.1:1/d", 125, "could not open the database"),
        ("mysql:user:s3cret-canary@h/d", 64, "`://`"),
        ("mysql://user:s3cret-canary@h:port/d", 64, "port is \"port\""),
        ("mysql://user:s3cret-canary%@h/d", 64, "the password has a `%`"),
        ("mysql://user:s3cret-canary@h", 64, "names no database"),
        ("mysql://user:s3cret-canary@h/d?ssl-mode=perhaps", 64, "`ssl-mode` is \"perhaps\"; write disabled"),
        ("mysql://user:s3cret-canary@h/d?tcp_keepalive=soon", 64, "`tcp_keepalive` is \"soon\"; write a number"),
        ("mysql://user:s3cret-canary@h/d?unknown=s3cret-canary", 64, "unknown parameter `unknown`"),
        ("mysql://u@h/d?ssl-ca=/no/such.pem", 125, "ssl-ca \"/no/such.pem\""),
        ("postgres:user:s3cret-canary@h/d", 64, "`://`"),
        ("postgres://user:s3cret-canary@h:99999/d", 64, "port is \"99999\""),
        ("postgres://user:s3cret-canary%2@h/d", 64, "the password has a `%`"),
        ("postgres://user:s3cret-canary@h", 64, "names no database"),
        ("postgres://user:s3cret-canary@h/d?sslmode=perhaps", 64, "`sslmode` is \"perhaps\"; write disable"),
        ("postgres://user:s3cret-canary@h/d?connect_timeout=5s", 64, "`connect_timeout` is \"5s\"; write a number"),
        ("postgres://user:s3cret-canary@h/d?unknown=s3cret-canary", 64, "unknown parameter `unknown`"),
        ("postgres://u@h/d?sslrootcert=/no/such.pem", 125, "sslrootcert \"/no/such.pem\""),
        ("sqlite:", 64, "names no file"),
        ("sqlite:a.db?mode=ro&key=s3cret-canary", 64, "unknown parameter \"mode\""),
        ("sqlite:/proc/x.db", 125, "/proc/x.db"),
        ("sqlite:absent/x.db", 125, "no folder"),
        ("sqlite:.", 125, "is a folder"),
    ] {
        assert_refused(&sandbox, &["--url", url], &[&["job"], &START[..]].concat(), code, says);
        for command in [&["list"][..], &["show", "job"], &["migrate"]] {
            let mut by_variable = sandbox.command(command);
            by_variable.env("DB_MUTEX_URL", url);
            let refused = sandbox.spawn(by_variable).wait();
            let line = refused.assert_refusal(code);
            assert!(!line.contains("s3cret-canary"), "{line}");
        }
        let refused = sandbox.run([&["--url", url, "run", "job"], &START[..]].concat());
        assert!(!refused.stderr.contains("s3cret-canary"), "{refused:?}");
    }
    let usage = sandbox.run(["--url", "postgres://user:s3cret-canary@h/d", "run", "job", "--no-such-option"]);
    assert!(!usage.assert_refusal(64).contains("s3cret-canary"), "{usage:?}");
    let mut help = sandbox.command(["--help"]);
    help.env("DB_MUTEX_URL", "postgres://user:s3cret-canary@h/d");
    assert!(!sandbox.spawn(help).wait().stdout.contains("s3cret-canary"));
}

#[test]
fn table_names_that_would_need_quotes_are_refused() {
    let sandbox = Sandbox::new();
    let too_long = "t".repeat(300);
    for table in ["a b", "", "a\"b", "a;b", "1a", "a\nb", &too_long] {
        assert_refused(&sandbox, &["--table", table], &[&["job"], &START[..]].concat(), 64, "table");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let sandbox = Sandbox::new();
    let text = "a diary, and by no means a database\n".repeat(100);
    sandbox.write("diary", &text);
    assert_refused(
        &sandbox,
        &["--url", "sqlite:diary"],
        &[&["job"], &START[..]].concat(),
        125,
        "not an SQLite database",
    );
    assert_eq!(sandbox.read("diary"), text);
}

#[test]
fn a_foreign_table_is_refused_and_left_as_it_is() {
    let sandbox = Sandbox::new();
    let theirs = open(&sandbox.path("theirs.db"));
    theirs
        .execute_batch(
            "CREATE TABLE db_mutex_locks (who TEXT, since INTEGER); INSERT INTO db_mutex_locks VALUES ('me', 1)",
        )
        .unwrap();
    let arguments = [&["job"], &START[..]].concat();
    assert_refused(&sandbox, &["--url", "sqlite:theirs.db"], &arguments, 125, "who, since");
    assert_eq!(count(&theirs, "db_mutex_locks WHERE who = 'me'"), 1);
    assert_eq!(count(&theirs, "sqlite_master"), 1);
    // Another name goes.
    let other = ["--url", "sqlite:theirs.db", "--table", "ours", "run", "job", "--", "true"];
    sandbox.run(other).assert_silent_success();
    assert_eq!(count(&theirs, "ours"), 1);
}

#[test]
fn a_table_of_a_newer_version_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.run(["migrate"]).assert_silent_success();
    open(&sandbox.database()).execute_batch("INSERT INTO db_mutex_locks_versions VALUES (1000)").unwrap();
    let refused = sandbox.run([&["run", "job"], &START[..]].concat());
    assert!(refused.assert_refusal(125).contains("update db-mutex"), "{refused:?}");
    assert!(!sandbox.path("started").exists());
    assert_eq!(count(&open(&sandbox.database()), "db_mutex_locks"), 0);
}
