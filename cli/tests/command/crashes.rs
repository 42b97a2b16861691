use nix::sys::signal::Signal;
use serde_json::Value;

use crate::running::eventually;
use crate::sandbox::Sandbox;

fn time_of(row: &Value, column: &str) -> std::time::SystemTime {
    humantime::parse_rfc3339(row[column].as_str().expect("a time")).expect("a time in RFC 3339")
}

/// Takes a lock for five seconds, and is killed with it.
fn crash_with_a_lock(sandbox: &Sandbox) -> Value {
    let holder = sandbox.hold("job", &["--ttl", "5s"]);
    let row = sandbox.show("job");
    holder.signal(Signal::SIGKILL);
    assert_eq!(holder.wait().code(), None);
    row
}

/// Acquires the lock as soon as it is free; until then every attempt has to be refused. By the database's own clock, so
/// that a slow machine changes nothing.
fn take_over(sandbox: &Sandbox, crashed: &Value) {
    eventually("the lock is granted", || {
        let attempt = sandbox.run(["run", "job", "-c", "echo $DB_MUTEX_FENCE > second"]);
        if attempt.code() == Some(0) {
            return Some(());
        }
        attempt.assert_refusal(75);
        None
    });
    let successor = sandbox.show("job");
    let since = time_of(&successor, "acquired_at").duration_since(time_of(crashed, "acquired_at"));
    assert!(since.is_ok_and(|since| since.as_millis() >= 5000), "{crashed} {successor}");
    let fence: i64 = sandbox.read("second").trim().parse().expect("a fence");
    assert!(fence > crashed["fence"].as_i64().expect("a fence"), "{fence} {crashed}");
}

#[test]
fn a_killed_holder_keeps_the_lock_to_the_end_of_its_ttl_and_no_longer() {
    let sandbox = Sandbox::new();
    let crashed = crash_with_a_lock(&sandbox);
    take_over(&sandbox, &crashed);
}

#[test]
fn a_purge_after_the_crash_does_not_turn_fences_back() {
    let sandbox = Sandbox::new();
    let crashed = crash_with_a_lock(&sandbox);
    eventually("the row is purged", || {
        let purge = sandbox.run(["purge", "--older-than", "0s"]);
        assert_eq!(purge.code(), Some(0), "{purge:?}");
        (purge.stdout == "1 row removed\n").then_some(())
    });
    assert_eq!(sandbox.rows(), Vec::<Value>::new());
    take_over(&sandbox, &crashed);
}

#[test]
fn nothing_of_the_command_outlives_a_killed_db_mutex() {
    let sandbox = Sandbox::new();
    let line = "sleep 1000 & echo $! > grandchild; echo $$ > child; wait";
    let holder = sandbox.start(["run", "job", "--", "sh", "-c", line]);
    let pids = ["child", "grandchild"].map(|file| sandbox.wait_for_line(file).trim().parse().expect("a process id"));
    // In the middle of an exec a process has no environment.
    eventually("both are at work", || pids.iter().all(|pid| sandbox.is_at_work(*pid)).then_some(()));
    holder.signal(Signal::SIGKILL);
    holder.wait();
    sandbox.wait_until_gone("child");
    sandbox.wait_until_gone("grandchild");
}
