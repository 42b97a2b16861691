//! The tests that django-db-mutex has for its context manager and its decorator, by their names. Its setting is the variable of
//! the same name.

use nix::sys::signal::Signal;

use crate::running::Finished;
use crate::sandbox::{Sandbox, open};

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

fn run_get_lock(sandbox: &Sandbox) -> Finished {
    sandbox.run(["run", "lock_id", "--", "true"])
}

/// Another db-mutex, with this in its environment, acquires the lock and crashes.
fn crash_with_a_lock(sandbox: &Sandbox, ttl_seconds: Option<&str>) {
    let mut command = sandbox.command(["run", "lock_id", "-c", "echo held > held; exec sleep 1000"]);
    if let Some(ttl_seconds) = ttl_seconds {
        command.env("DB_MUTEX_TTL_SECONDS", ttl_seconds);
    }
    let holder = sandbox.spawn(command);
    sandbox.wait_for_line("held");
    holder.signal(Signal::SIGKILL);
    assert_eq!(holder.wait().code(), None);
}

/// Moves the times of all rows back, which is how they look after that time.
fn pass(sandbox: &Sandbox, seconds: i64) {
    let shift = "UPDATE db_mutex_locks SET acquired_at = acquired_at - ?1,
        expires_at = CASE WHEN expires_at = 9223372036854775807 THEN expires_at ELSE expires_at - ?1 END";
    open(&sandbox.database()).execute(shift, [seconds * 1_000_000]).expect("the rows can be changed");
}

#[test]
fn no_lock_before() {
    let sandbox = Sandbox::new();
    let line = "\"$DB_MUTEX\" show lock_id --json | grep -q '\"state\": *\"held\"'";
    let mut command = sandbox.command(["run", "lock_id", "-c", line]);
    command.env("DB_MUTEX", env!("CARGO_BIN_EXE_db-mutex"));
    sandbox.spawn(command).wait().assert_silent_success();
    assert_eq!(sandbox.state("lock_id"), "free");
}

#[test]
fn lock_before() {
    let sandbox = Sandbox::new();
    let _other = sandbox.hold("lock_id", &[]);
    sandbox.run(["run", "lock_id", "-c", "echo ran > ran"]).assert_refusal(75);
    assert_eq!((sandbox.state("lock_id").as_str(), sandbox.path("ran").exists()), ("held", false));
}

#[test]
fn lock_before_suppress_acquisition_errors() {
    let sandbox = Sandbox::new();
    let _other = sandbox.hold("lock_id", &[]);
    sandbox.run(["run", "lock_id", "--on-held", "skip", "-c", "echo ran > ran"]).assert_silent_success();
    assert_eq!((sandbox.state("lock_id").as_str(), sandbox.path("ran").exists()), ("held", false));
}

#[test]
fn lock_different_id() {
    let sandbox = Sandbox::new();
    let _other = sandbox.hold("lock_id", &[]);
    sandbox.run(["run", "lock_id2", "--", "true"]).assert_silent_success();
    assert_eq!((sandbox.state("lock_id").as_str(), sandbox.state("lock_id2").as_str()), ("held", "free"));
}

#[test]
fn lock_timeout_default() {
    let sandbox = Sandbox::new();
    crash_with_a_lock(&sandbox, None);
    for minutes in [1, 8, 20] {
        pass(&sandbox, minutes * MINUTE);
        run_get_lock(&sandbox).assert_refusal(75);
    }
    pass(&sandbox, MINUTE);
    run_get_lock(&sandbox).assert_silent_success();
}

#[test]
fn lock_timeout_never() {
    let sandbox = Sandbox::new();
    crash_with_a_lock(&sandbox, Some("none"));
    for days in [1, 2 * 365] {
        pass(&sandbox, days * DAY);
        run_get_lock(&sandbox).assert_refusal(75);
    }
}

#[test]
fn lock_timeout_custom() {
    let sandbox = Sandbox::new();
    crash_with_a_lock(&sandbox, Some("3600"));
    for minutes in [1, 30] {
        pass(&sandbox, minutes * MINUTE);
        run_get_lock(&sandbox).assert_refusal(75);
    }
    pass(&sandbox, 29 * MINUTE);
    run_get_lock(&sandbox).assert_silent_success();
}

/// The command runs to its end if the loss is noticed only then, and its result is not taken for one under the lock.
#[test]
fn lock_timeout_error() {
    let sandbox = Sandbox::new();
    let line = "echo ready > ready; until [ -e go ]; do sleep 0.05; done";
    let first = sandbox.start(["run", "lock_id", "-c", line]);
    sandbox.wait_for_line("ready");
    pass(&sandbox, 31 * MINUTE);
    run_get_lock(&sandbox).assert_silent_success();
    sandbox.write("go", "");
    first.wait().assert_refusal(124);
}
