use nix::sys::signal::Signal;

use crate::running::{Running, eventually};
use crate::sandbox::Sandbox;

/// Starts db-mutex with every signal as it is by default, also where the tests run under nohup(1).
pub(crate) fn start_with_default_signals(sandbox: &Sandbox, arguments: &[&str]) -> Running {
    let mut command = sandbox.program("env");
    command.args(["--default-signal", env!("CARGO_BIN_EXE_db-mutex")]).args(arguments);
    sandbox.spawn(command)
}

/// The inner shell runs in the foreground, for what a shell starts with `&` ignores SIGINT and SIGQUIT. Shells tell of
/// commands that a signal has ended, which is their noise and not ours.
fn reaches_the_whole_group(name: &str) {
    let sandbox = Sandbox::new();
    // Not every shell knows every name.
    let number = sandbox.program("bash").args(["-c", &format!("kill -l {name}")]).output().expect("bash").stdout;
    let number = String::from_utf8(number).expect("a number");
    let number = number.trim();
    sandbox.write(
        "grandchild.sh",
        &format!("exec 2> noise; trap 'echo grandchild >> got; exit' {number}; echo $$ > grandchild; while :; do sleep 0.05; done\n"),
    );
    sandbox.write(
        "child.sh",
        &format!(
            "exec 2> noise; trap 'echo child >> got; exit 41' {number}; echo $$ > child; sh grandchild.sh; exit 1\n"
        ),
    );
    let holder = start_with_default_signals(&sandbox, &["run", "job", "--", "sh", "child.sh"]);
    sandbox.wait_for_line("grandchild");
    let kill = std::process::Command::new("bash").args(["-c", &format!("kill -{name} {}", holder.pid())]).status();
    assert!(kill.expect("bash").success());
    let ended = holder.wait();
    assert_eq!((ended.code(), &*ended.stderr), (Some(41), ""), "{name}: {ended:?}");
    assert_eq!(sandbox.read("got"), "grandchild\nchild\n", "{name}");
    sandbox.wait_until_gone("child");
    sandbox.wait_until_gone("grandchild");
    assert_eq!(sandbox.state("job"), "free");
}

#[test]
fn a_signal_reaches_child_and_grandchild_once() {
    let all = "HUP INT QUIT TERM USR1 USR2 ALRM VTALRM PROF WINCH IO PWR URG STKFLT RTMIN RTMIN+3 RTMAX";
    all.split(' ').for_each(reaches_the_whole_group);
}

#[test]
fn the_lock_is_released_only_after_the_command_has_ended() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "slow.sh",
        "exec 2> noise; trap 'sleep 2; echo first ended >> order; exit 0' TERM\n\
        echo ready > ready; while :; do sleep 0.05; done\n",
    );
    let first = start_with_default_signals(&sandbox, &["run", "job", "--", "sh", "slow.sh"]);
    sandbox.wait_for_line("ready");
    let second = sandbox.start(["run", "job", "--wait", "forever", "-c", "echo second began >> order"]);
    eventually("the second one asks for the lock", || second.has_open(&sandbox.database()).then_some(()));
    first.signal(Signal::SIGTERM);
    first.wait().assert_silent_success();
    second.wait().assert_silent_success();
    assert_eq!(sandbox.read("order"), "first ended\nsecond began\n");
}

#[test]
fn db_mutex_dies_of_the_signal_of_its_command_once_the_lock_is_released() {
    let sandbox = Sandbox::new();
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGUSR1, Signal::SIGPIPE, Signal::SIGSEGV, Signal::SIGABRT]
    {
        let ended = sandbox.run(["run", "job", "-c", &format!("ulimit -c 0; kill -{} $$", signal as i32)]);
        ended.assert_silent_death(signal);
        assert_eq!(sandbox.state("job"), "free", "{signal}");
    }
}

/// Starts as nohup(1) does.
fn start_without_hangup(sandbox: &Sandbox, line: &str) -> Running {
    let mut command = sandbox.program("sh");
    command.args(["-c", r#"trap "" HUP; exec "$@""#, "sh"]).arg(env!("CARGO_BIN_EXE_db-mutex"));
    command.args(["run", "job", "-c", line]);
    sandbox.spawn(command)
}

#[test]
fn an_ignored_hangup_does_not_reach_the_command() {
    let sandbox = Sandbox::new();
    let line = "echo ready > ready; until [ -e go ]; do sleep 0.05; done; echo finished > finished";
    let holder = start_without_hangup(&sandbox, line);
    sandbox.wait_for_line("ready");
    holder.signal(Signal::SIGHUP);
    sandbox.write("go", "");
    holder.wait().assert_silent_success();
    assert_eq!(sandbox.read("finished"), "finished\n");
}

#[test]
fn an_ignored_hangup_is_ignored_by_the_command_too() {
    let sandbox = Sandbox::new();
    let holder = start_without_hangup(&sandbox, "kill -HUP $$; echo alive > alive");
    holder.wait().assert_silent_success();
    assert_eq!(sandbox.read("alive"), "alive\n");
}
