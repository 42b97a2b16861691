use nix::sys::signal::Signal;

use crate::running::{Finished, eventually};
use crate::sandbox::Sandbox;

#[track_caller]
fn assert_lost(ended: &Finished) {
    let line = ended.assert_refusal(124);
    assert!(line.contains("`job`"), "{line}");
}

#[test]
fn a_command_that_outlives_the_lease_is_ended() {
    let sandbox = Sandbox::new();
    let line = "sleep 1000 & echo $! > grandchild; echo $$ > child; wait";
    assert_lost(&sandbox.run(["run", "job", "--no-renew", "--ttl", "2s", "-c", line]));
    sandbox.wait_until_gone("child");
    sandbox.wait_until_gone("grandchild");
    let state = sandbox.state("job");
    assert!(state == "free" || state == "expired", "{state}");
    sandbox.run(["run", "job", "--", "true"]).assert_silent_success();
}

#[test]
fn a_group_that_ignores_sigterm_is_killed() {
    let sandbox = Sandbox::new();
    let line = "trap '' TERM; sleep 1000 & echo $! > grandchild; echo $$ > child; while :; do wait; done";
    assert_lost(&sandbox.run(["run", "job", "--no-renew", "--ttl", "2s", "-c", line]));
    sandbox.wait_until_gone("child");
    sandbox.wait_until_gone("grandchild");
}

#[test]
fn a_grandchild_that_ignores_sigterm_is_killed_when_its_parent_has_ended() {
    let sandbox = Sandbox::new();
    let line = "(trap '' TERM; exec sleep 1000) & echo $! > grandchild; echo $$ > child; wait";
    assert_lost(&sandbox.run(["run", "job", "--no-renew", "--ttl", "2s", "-c", line]));
    sandbox.wait_until_gone("child");
    sandbox.wait_until_gone("grandchild");
}

#[test]
fn a_command_that_handles_sigterm_has_time_to_clean_up() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "tidy.sh",
        "exec 2> noise; trap 'sleep 0.3; echo cleaned > cleaned; exit 0' TERM; while :; do sleep 0.05; done\n",
    );
    assert_lost(&sandbox.run(["run", "job", "--no-renew", "--ttl", "6s", "--kill-after", "4s", "--", "sh", "tidy.sh"]));
    assert_eq!(sandbox.read("cleaned"), "cleaned\n");
}

#[test]
fn a_lock_that_was_taken_away_is_told_at_the_end_and_stays_the_successors() {
    let sandbox = Sandbox::new();
    let line = "echo ready > ready; until [ -e go ]; do sleep 0.05; done";
    let first = sandbox.start(["run", "job", "-c", line]);
    sandbox.wait_for_line("ready");
    assert_eq!(sandbox.run(["release", "job", "--force"]).code(), Some(0));
    let successor = sandbox.hold("job", &["--label", "the successor"]);
    let before = sandbox.show("job");
    sandbox.write("go", "");
    assert_lost(&first.wait());
    let after = sandbox.show("job");
    for column in ["state", "holder", "fence", "acquired_at", "expires_at"] {
        assert_eq!(before[column], after[column], "{column}");
    }
    assert_eq!(after["state"], "held");
    drop(successor);
}

/// As on a machine that was suspended: the command could not be ended in time, but it is ended at once afterwards.
#[test]
fn a_db_mutex_that_was_stopped_past_its_lease_ends_the_command_when_it_goes_on() {
    let sandbox = Sandbox::new();
    let line = "echo $$ > child; exec sleep 1000";
    let first = sandbox.start(["run", "job", "--no-renew", "--ttl", "2s", "-c", line]);
    sandbox.wait_for_line("child");
    first.signal(Signal::SIGSTOP);
    let successor = eventually("the lock is granted to another", || {
        let attempt = sandbox.run(["run", "job", "--hold-at-least", "20m", "--", "true"]);
        (attempt.code() == Some(0)).then(|| sandbox.show("job"))
    });
    first.signal(Signal::SIGCONT);
    assert_lost(&first.wait());
    sandbox.wait_until_gone("child");
    assert_eq!(sandbox.show("job")["fence"], successor["fence"]);
    assert_eq!(sandbox.state("job"), "resting");
}

#[test]
fn a_lock_is_renewed_while_the_command_runs() {
    let sandbox = Sandbox::new();
    let holder =
        sandbox.start(["run", "job", "--ttl", "1s", "-c", "echo ready > ready; until [ -e go ]; do sleep 0.05; done"]);
    sandbox.wait_for_line("ready");
    let first = sandbox.show("job");
    // Five times as long as the lease: each time it is still the same holder's.
    eventually("the lock was held for 5 s", || {
        let row = sandbox.show("job");
        assert_eq!((&row["state"], &row["fence"]), (&first["state"], &first["fence"]), "{row}");
        (row["held_for_ms"].as_u64() >= Some(5_000)).then_some(())
    });
    sandbox.write("go", "");
    holder.wait().assert_silent_success();
}

#[test]
fn a_command_is_ended_when_its_lock_is_taken_away_while_it_is_renewed() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "tidy.sh",
        "exec 2> noise; trap 'echo asked > asked; exit 0' TERM; echo ready > ready; while :; do sleep 0.05; done\n",
    );
    let holder = sandbox.start(["run", "job", "--ttl", "3s", "--", "sh", "tidy.sh"]);
    sandbox.wait_for_line("ready");
    assert_eq!(sandbox.run(["release", "job", "--force"]).code(), Some(0));
    let ended = holder.wait();
    assert_lost(&ended);
    assert!(ended.stderr.contains("by force"), "{ended:?}");
    assert_eq!(sandbox.read("asked"), "asked\n");
}
