//! db-mutex as the first process of a container, for which the kernel has rules of its own.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::running::{Finished, Running};
use crate::sandbox::Sandbox;

/// As the entry point of a container.
fn contained(sandbox: &Sandbox, options: &[&str], arguments: &[&str]) -> Running {
    let mut unshare = sandbox.program("unshare");
    unshare.args(["--pid", "--fork", "--kill-child"]).args(options).arg(env!("CARGO_BIN_EXE_db-mutex")).args(arguments);
    sandbox.spawn(unshare)
}

fn run(sandbox: &Sandbox, arguments: &[&str]) -> Finished {
    contained(sandbox, &["--mount-proc"], arguments).wait()
}

#[test]
fn it_runs_the_command() {
    let sandbox = Sandbox::new();
    let ended = run(&sandbox, &["run", "job", "-c", "echo hi; exit 3"]);
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (Some(3), "hi\n", ""), "{ended:?}");
    assert_eq!(sandbox.state("job"), "free");
}

#[test]
fn a_death_by_a_signal_is_told_by_the_code() {
    let sandbox = Sandbox::new();
    assert_eq!(run(&sandbox, &["run", "job", "-c", "kill -TERM $$"]).code(), Some(128 + 15));
}

#[test]
fn it_passes_signals_on() {
    let sandbox = Sandbox::new();
    let line = "trap 'echo got > got; exit 7' TERM; echo ready > ready; while :; do sleep 0.05; done";
    let container = contained(&sandbox, &["--mount-proc"], &["run", "job", "-c", line]);
    sandbox.wait_for_line("ready");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", container.pid())).unwrap();
    let first = children.trim();
    assert!(Command::new("kill").args(["-TERM", first]).status().unwrap().success());
    assert_eq!(container.wait().code(), Some(7));
    assert_eq!(sandbox.read("got"), "got\n");
}

#[test]
fn it_ends_on_a_signal_while_it_waits() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &[]);
    let container = contained(&sandbox, &["--mount-proc"], &["run", "job", "--wait", "forever", "--", "true"]);
    let first = crate::running::eventually("it has started", || {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", container.pid())).ok()?;
        let first = children.trim().to_owned();
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).ok()?;
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
        // unshare(1) blocks some signals too, but not this one.
        let blocked = u64::from_str_radix(blocked.trim(), 16).ok()?;
        (blocked & (1 << (Signal::SIGUSR1 as i32 - 1)) != 0).then_some(first)
    });
    assert!(Command::new("kill").args(["-TERM", &first]).status().unwrap().success());
    assert_eq!(container.wait().code(), Some(128 + 15));
    drop(holder);
}

#[test]
fn it_reaps_orphans() {
    let sandbox = Sandbox::new();
    let line = "for i in 1 2 3; do (sleep 0.1 &); done; sleep 0.5; ps -eo stat= | grep -c Z > zombies; exit 0";
    run(&sandbox, &["run", "job", "-c", line]).assert_silent_success();
    assert_eq!(sandbox.read("zombies"), "0\n");
}

/// The process ids of /proc are those of another namespace, and must not be taken for ours.
#[test]
fn process_ids_of_another_namespace_are_not_believed() {
    let sandbox = Sandbox::new();
    let line = "sleep 1000 & echo $$ > child; trap '' TERM; wait; sleep 1000";
    let ended = contained(&sandbox, &[], &["run", "job", "--no-renew", "--ttl", "2s", "-c", line]).wait();
    assert_eq!(ended.code(), Some(124), "{ended:?}");
}

#[test]
fn without_proc_it_works() {
    let sandbox = Sandbox::new();
    let mut unshare = sandbox.program("unshare");
    let line =
        format!("mount -t tmpfs none /proc && exec {} run job -c 'echo hi; exit 3'", env!("CARGO_BIN_EXE_db-mutex"));
    unshare.args(["--mount", "sh", "-c", &line]);
    let ended = sandbox.spawn(unshare).wait();
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (Some(3), "hi\n", ""), "{ended:?}");
}

#[test]
fn without_proc_the_group_of_the_command_is_ended() {
    let sandbox = Sandbox::new();
    let mut unshare = sandbox.program("setsid");
    let command = "(trap \"\" TERM; while :; do date +%s.%N > worked; sleep 0.05; done) & wait";
    let line = format!(
        "mount -t tmpfs none /proc && exec {} run job --no-renew --ttl 2s --kill-after 300ms -c '{command}'",
        env!("CARGO_BIN_EXE_db-mutex")
    );
    unshare.args(["--wait", "unshare", "--mount", "sh", "-c", &line]);
    let ended = sandbox.spawn(unshare).wait();
    assert_eq!(ended.code(), Some(124), "{ended:?}");
    let last = sandbox.read("worked");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(sandbox.read("worked"), last);
}

/// The group's leader is outside of the namespace, so that the group has no number inside.
#[test]
fn at_a_terminal_it_reads_and_is_interrupted() {
    let sandbox = Sandbox::new();
    let mut shell = crate::pty::Shell::start(&sandbox);
    let contained = "unshare --pid --fork --mount-proc --kill-child $DB_MUTEX run job --";
    let number = shell.send(&format!("{contained} sh -c 'echo ready > ready; read line; echo got:$line > got'"));
    sandbox.wait_for_line("ready");
    shell.keys("hello\n");
    assert_eq!(shell.code(number), 0);
    assert_eq!(sandbox.read("got"), "got:hello\n");
    let number = shell.send(&format!("{contained} sh -c 'echo ready > again; exec sleep 1000'"));
    sandbox.wait_for_line("again");
    shell.keys("\x03");
    shell.code(number);
    crate::running::eventually("the lock is free", || (sandbox.state("job") == "free").then_some(()));
}
