//! At a terminal db-mutex is as transparent as flock(1): each of these is what a shell's user expects of any program.

use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pty::Shell;
use crate::running::{eventually, state_of};
use crate::sandbox::Sandbox;

fn pid_in(sandbox: &Sandbox, file: &str) -> i32 {
    sandbox.wait_for_line(file).trim().parse().expect("a process id")
}

fn wait_for_state(pid: i32, state: char) {
    eventually(&format!("{pid} is in state {state}"), || (state_of(pid) == Some(state)).then_some(()));
}

#[test]
fn the_interrupt_key_ends_a_loop_of_runs() {
    let sandbox = Sandbox::new();
    sandbox.write("loop.sh", "for i in 1 2 3; do \"$DB_MUTEX\" run job -c 'echo $$ > child; exec sleep 1000'; done\n");
    let mut shell = Shell::start(&sandbox);
    let number = shell.send("bash loop.sh");
    let child = pid_in(&sandbox, "child");
    shell.keys("\x03");
    assert_eq!(shell.code(number), 128 + 2);
    eventually("the command is gone", || state_of(child).is_none().then_some(()));
    assert_eq!(sandbox.state("job"), "free");
}

/// The handler of the command runs once, though the key sends its signal to db-mutex as well.
#[test]
fn the_keys_of_the_terminal_reach_the_command_once() {
    for (key, name) in [("\x03", "INT"), ("\x1c", "QUIT")] {
        let sandbox = Sandbox::new();
        sandbox.write(
            "count.sh",
            &format!(
                "trap 'echo x >> got' {name}; trap 'exit 5' USR1; echo $$ > child; while :; do sleep 0.05; done\n"
            ),
        );
        let mut shell = Shell::start(&sandbox);
        let number = shell.send("$DB_MUTEX run job -- bash count.sh");
        let child = pid_in(&sandbox, "child");
        shell.keys(key);
        sandbox.wait_for_line("got");
        sleep(Duration::from_millis(500));
        kill(Pid::from_raw(child), Signal::SIGUSR1).unwrap();
        assert_eq!(shell.code(number), 5);
        assert_eq!(sandbox.read("got"), "x\n", "{name}");
    }
}

#[test]
fn a_signal_of_kill_reaches_the_command_once_at_a_terminal_too() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "count.sh",
        "trap 'echo x >> got' TERM; trap 'exit 5' USR1; echo $$ > child; while :; do sleep 0.05; done\n",
    );
    let mut shell = Shell::start(&sandbox);
    shell.run("$DB_MUTEX run job -- bash count.sh & echo $! > supervisor");
    let (child, supervisor) = (pid_in(&sandbox, "child"), pid_in(&sandbox, "supervisor"));
    kill(Pid::from_raw(supervisor), Signal::SIGTERM).unwrap();
    sandbox.wait_for_line("got");
    sleep(Duration::from_millis(500));
    kill(Pid::from_raw(child), Signal::SIGUSR1).unwrap();
    assert_eq!(shell.run("wait %1"), 5);
    assert_eq!(sandbox.read("got"), "x\n");
}

/// A shell sends the signal of its own kill to the whole job, in which the command is.
#[test]
fn a_signal_to_the_job_reaches_the_command_once() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "count.sh",
        "trap 'echo x >> got' TERM; trap 'exit 5' USR1; echo $$ > child; while :; do sleep 0.05; done\n",
    );
    let mut shell = Shell::start(&sandbox);
    shell.run("$DB_MUTEX run job -- bash count.sh &");
    let child = pid_in(&sandbox, "child");
    sleep(Duration::from_millis(500));
    shell.run("kill %1");
    sandbox.wait_for_line("got");
    sleep(Duration::from_millis(500));
    kill(Pid::from_raw(child), Signal::SIGUSR1).unwrap();
    assert_eq!(shell.run("wait %1"), 5);
    assert_eq!(sandbox.read("got"), "x\n");
}

#[test]
fn a_job_is_stopped_and_goes_on_in_the_foreground_and_in_the_background() {
    let sandbox = Sandbox::new();
    sandbox
        .write("read.sh", "echo $$ > child; read line; echo got:$line > first; until [ -e go ]; do sleep 0.05; done\n");
    let mut shell = Shell::start(&sandbox);
    let number = shell.send("$DB_MUTEX run job -- bash read.sh");
    let child = pid_in(&sandbox, "child");
    shell.keys("\x1a");
    assert_eq!(shell.code(number), 128 + 20);
    wait_for_state(child, 'T');
    let number = shell.go_on_with(child, "hello\n");
    sandbox.wait_for_line("first");
    assert_eq!(sandbox.read("first"), "got:hello\n");
    shell.keys("\x1a");
    assert_eq!(shell.code(number), 128 + 20);
    wait_for_state(child, 'T');
    assert_eq!(shell.run("bg"), 0);
    sandbox.write("go", "");
    assert_eq!(shell.run("wait %1"), 0);
    assert_eq!(sandbox.state("job"), "free");
}

/// Neither side goes on without the other: the command is ended when its time is over, whichever of the two is stopped.
#[test]
fn a_job_that_stays_stopped_past_its_lease_is_ended() {
    let sandbox = Sandbox::new();
    let mut shell = Shell::start(&sandbox);
    let number = shell.send(
        "true | $DB_MUTEX run job --ttl 2s -- bash -c 'echo $$ > child; while :; do date >> worked; sleep 0.05; done'",
    );
    let child = pid_in(&sandbox, "child");
    shell.keys("\x1a");
    shell.code(number);
    eventually("the command is gone", || state_of(child).is_none_or(|state| state == 'Z').then_some(()));
    eventually("another has the lock", || (sandbox.run(["run", "job", "--", "true"]).code() == Some(0)).then_some(()));
    let number = shell.send("fg");
    assert_eq!(shell.code(number), 124, "{}", shell.screen());
}

#[test]
fn a_pager_reads_the_terminal_while_the_command_writes_to_it() {
    let sandbox = Sandbox::new();
    let mut shell = Shell::start(&sandbox);
    // As less(1): reads its keys from the terminal, and its text from the pipe.
    sandbox.write("pager.sh", "read key < /dev/tty; cat > text; echo key:$key > pressed\n");
    let number = shell.send("$DB_MUTEX run job --ttl 4s -- sh -c 'seq 20000; sleep 1' | bash pager.sh");
    sleep(Duration::from_millis(500));
    shell.keys("q\n");
    assert_eq!(shell.code(number), 0);
    assert_eq!((sandbox.read("pressed"), sandbox.read("text").lines().count()), ("key:q\n".into(), 20_000));
}

#[test]
fn a_command_with_a_pipe_for_stdin_reads_from_the_terminal() {
    let sandbox = Sandbox::new();
    let mut shell = Shell::start(&sandbox);
    let number =
        shell.send("echo d | $DB_MUTEX run job -- sh -c 'echo ready > ready; read x < /dev/tty; echo got:$x > got'");
    sandbox.wait_for_line("ready");
    shell.keys("secret\n");
    assert_eq!(shell.code(number), 0);
    assert_eq!(sandbox.read("got"), "got:secret\n");
}

#[test]
fn a_job_in_the_background_is_stopped_when_it_reads_and_goes_on_in_the_foreground() {
    let sandbox = Sandbox::new();
    let mut shell = Shell::start(&sandbox);
    shell.run("$DB_MUTEX run job -- sh -c 'echo $$ > child; read line; echo got:$line > got' &");
    let child = pid_in(&sandbox, "child");
    wait_for_state(child, 'T');
    shell.run("until jobs | grep -q Stopped; do sleep 0.05; done");
    let number = shell.go_on_with(child, "hello\n");
    assert_eq!(shell.code(number), 0);
    assert_eq!(sandbox.read("got"), "got:hello\n");
    assert_eq!(sandbox.state("job"), "free");
}

#[test]
fn a_stopped_command_hears_that_it_is_to_end() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let sandbox = Sandbox::new();
        let mut shell = Shell::start(&sandbox);
        shell.run("$DB_MUTEX run job -- sh -c 'echo $$ > child; exec sleep 1000' & echo $! > supervisor");
        let (child, supervisor) = (pid_in(&sandbox, "child"), pid_in(&sandbox, "supervisor"));
        kill(Pid::from_raw(child), Signal::SIGSTOP).unwrap();
        wait_for_state(child, 'T');
        kill(Pid::from_raw(supervisor), signal).unwrap();
        assert_eq!(shell.run("wait %1"), 128 + signal as i32);
        assert_eq!(sandbox.state("job"), "free");
    }
}

/// Those in the same pipeline, and the script around it, are not of the command, though they are in its process group.
#[test]
fn a_pipeline_and_its_script_outlive_a_lost_lock() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "pipe.sh",
        "(while :; do echo x; sleep 0.1; done; echo never) | \"$DB_MUTEX\" run job --no-renew --ttl 2s -- sh -c 'cat > taken' | \
         (cat; sleep 1; echo consumer) > consumed\necho codes:${PIPESTATUS[1]} > codes\n",
    );
    let mut shell = Shell::start(&sandbox);
    let number = shell.send("bash pipe.sh");
    assert_eq!(sandbox.wait_for_line("codes"), "codes:124\n");
    assert_eq!(shell.code(number), 0);
    assert_eq!(sandbox.read("consumed"), "consumer\n");
}

#[test]
fn a_command_outlives_its_terminal_under_nohup_and_dies_with_it_otherwise() {
    for (prefix, expected) in [("nohup ", "free"), ("", "free")] {
        let sandbox = Sandbox::new();
        let mut shell = Shell::start(&sandbox);
        let line = "echo $$ > child; until [ -e go ]; do sleep 0.05; done; echo finished > finished";
        sandbox.write("work.sh", line);
        shell.keys(&format!("{prefix}$DB_MUTEX run job -- sh work.sh < /dev/null > /dev/null 2>&1\n"));
        let child = pid_in(&sandbox, "child");
        drop(shell);
        if prefix.is_empty() {
            eventually("the command is gone", || state_of(child).is_none().then_some(()));
        } else {
            sandbox.write("go", "");
            sandbox.wait_for_line("finished");
        }
        eventually("the lock is free", || (sandbox.state("job") == expected).then_some(()));
        assert_eq!(sandbox.read("finished").is_empty(), prefix.is_empty());
    }
}

/// What the shell's user sees afterwards: the same settings, and a foreground that is the shell's.
#[test]
fn the_terminal_is_as_it_was() {
    let sandbox = Sandbox::new();
    let mut shell = Shell::start(&sandbox);
    shell.run("stty -g > before");
    assert_eq!(shell.run("$DB_MUTEX run job -- true"), 0);
    assert_eq!(shell.run("$DB_MUTEX run job --no-renew --ttl 1s -- sleep 1000"), 124);
    shell.run("stty -g > after; ps -o tpgid= -p $$ > front; ps -o pgid= -p $$ > own");
    assert_eq!(sandbox.read("before"), sandbox.read("after"));
    sandbox.wait_for_line("own");
}

/// With a question to each, and no answer that is kept for the next.
#[test]
fn signals_of_different_origin_reach_the_command_as_often_as_they_were_sent() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "count.sh",
        "trap 'echo x >> got' INT; trap 'exit 5' TERM; for one in USR1 USR2 ALRM VTALRM; do trap 'echo y >> other' $one; done\n\
         echo $$ > child; while :; do sleep 0.05; done\n",
    );
    let mut shell = Shell::start(&sandbox);
    let number = shell.send("echo $$ > shell; exec 3>&1; $DB_MUTEX run job -- bash count.sh");
    let child = pid_in(&sandbox, "child");
    let parent = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse::<i32>().unwrap()
    };
    let supervisor = parent(parent(child));
    sleep(Duration::from_millis(300));
    let lines = |file: &str| sandbox.read(file).lines().count();
    shell.keys("\x03");
    eventually("a key has come", || (lines("got") == 1).then_some(()));
    kill(Pid::from_raw(supervisor), Signal::SIGINT).unwrap();
    eventually("a signal has come", || (lines("got") == 2).then_some(()));
    // Each is another, for of two alike that come at once the kernel may make one.
    let to_group = [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGVTALRM];
    for (count, signal) in to_group.into_iter().enumerate() {
        kill(Pid::from_raw(-supervisor), signal).unwrap();
        eventually("a signal to the group has come", || (lines("other") > count).then_some(()));
    }
    sleep(Duration::from_millis(300));
    assert_eq!((lines("got"), lines("other")), (2, 4));
    kill(Pid::from_raw(supervisor), Signal::SIGTERM).unwrap();
    assert_eq!(shell.code(number), 5);
}

/// Ctrl-C at any moment of the start ends the run, and leaves nothing taken.
#[test]
fn the_interrupt_key_is_heard_at_any_moment_of_the_start() {
    let sandbox = Sandbox::new();
    let mut shell = Shell::start(&sandbox);
    for moment in 0..60 {
        let _ = std::fs::remove_file(sandbox.path("started"));
        let number = shell.send("sh -c 'echo x > started; exec $DB_MUTEX run job -- sleep 1000'");
        sandbox.wait_for_line("started");
        sleep(Duration::from_micros(500 * moment));
        shell.keys("\x03");
        assert_eq!(shell.code(number), 128 + 2);
    }
    assert_eq!(sandbox.state("job"), "free");
}

/// There no shell could let it go on, so the kernel takes no notice of the key.
#[test]
fn the_stop_key_does_nothing_where_no_shell_is() {
    let sandbox = Sandbox::new();
    let mut script = sandbox.program("script");
    let line =
        format!("{} run job -- sh -c 'echo $$ > child; sleep 1; echo done > done'", env!("CARGO_BIN_EXE_db-mutex"));
    script.args(["--quiet", "--return", "--command", &format!("exec {line}"), "/dev/null"]).env("SHELL", "/bin/sh");
    let (keys, mut keyboard) = std::io::pipe().unwrap();
    script.stdin(keys);
    let session = sandbox.spawn(script);
    sandbox.wait_for_line("child");
    std::io::Write::write_all(&mut keyboard, b"\x1a").unwrap();
    assert_eq!(session.wait().code(), Some(0));
    assert_eq!(sandbox.read("done"), "done\n");
}

#[test]
fn the_terminal_is_set_back_after_a_command_that_was_killed() {
    let sandbox = Sandbox::new();
    let mut shell = Shell::start(&sandbox);
    shell.run("stty -g > before");
    let line = "stty raw -echo; trap '' TERM; while :; do sleep 0.05; done";
    assert_eq!(shell.run(&format!("$DB_MUTEX run job --no-renew --ttl 2s -c \"{line}\"")), 124);
    shell.run("stty -g > after");
    assert_eq!(sandbox.read("before"), sandbox.read("after"));
}

/// What is in a session of its own ends with db-mutex even if that is killed with all of its group.
#[test]
fn a_job_that_is_killed_takes_all_with_it() {
    let sandbox = Sandbox::new();
    let mut shell = Shell::start(&sandbox);
    shell.run("$DB_MUTEX run job --ttl 4s -c 'setsid sleep 1000 & echo $! > away; echo $$ > child; sleep 1000' &");
    let child = pid_in(&sandbox, "child");
    sandbox.wait_for_line("away");
    shell.run("kill -KILL %1");
    eventually("the command is gone", || state_of(child).is_none().then_some(()));
    sandbox.wait_until_gone("away");
}
