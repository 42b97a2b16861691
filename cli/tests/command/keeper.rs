//! The command never works past its lease, whichever process is stopped or killed; and what db-mutex did not start is left alone.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::running::{Running, eventually};
use crate::sandbox::Sandbox;

/// A command, what it starts in its group, and what it starts in a session of its own.
const FAMILY: &str = "echo $$ > child; sleep 1000 & echo $! > grandchild; \
    setsid sh -c 'trap \"\" TERM HUP; echo $$ > away; while :; do date +%s.%N >> worked; sleep 0.05; done' & wait";

/// The child of db-mutex that is the parent of the command.
fn keeper_of(holder: &Running) -> Pid {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.pid())).expect("its children");
    Pid::from_raw(children.split_whitespace().next().expect("a keeper").parse().expect("a process id"))
}

fn start_family(sandbox: &Sandbox, options: &[&str]) -> Running {
    let holder = sandbox.start([&["run", "job"], options, &["-c", FAMILY]].concat());
    ["child", "grandchild", "away"].iter().for_each(|file| drop(sandbox.wait_for_line(file)));
    holder
}

fn wait_until_all_are_gone(sandbox: &Sandbox) {
    ["child", "grandchild", "away"].iter().for_each(|file| sandbox.wait_until_gone(file));
}

/// Another is granted the lock only after the last trace of the first one's work.
fn assert_succeeded_by_another(sandbox: &Sandbox) {
    eventually("another has the lock", || {
        let attempt = sandbox.run(["run", "job", "-c", "date +%s.%N > began"]);
        (attempt.code() == Some(0)).then_some(())
    });
    wait_until_all_are_gone(sandbox);
    let worked = sandbox.read("worked");
    let (last, began) = (worked.lines().last().unwrap_or("0"), sandbox.read("began"));
    assert!(last < began.trim(), "worked at {last}, the next began at {began}");
}

#[test]
fn a_stopped_db_mutex_does_not_keep_the_command_at_work() {
    let sandbox = Sandbox::new();
    let holder = start_family(&sandbox, &["--ttl", "3s"]);
    holder.signal(Signal::SIGSTOP);
    assert_succeeded_by_another(&sandbox);
    holder.signal(Signal::SIGCONT);
    holder.wait().assert_refusal(124);
}

#[test]
fn a_killed_db_mutex_takes_all_with_it() {
    let sandbox = Sandbox::new();
    let holder = start_family(&sandbox, &["--ttl", "3s"]);
    holder.signal(Signal::SIGKILL);
    assert_eq!(holder.wait().code(), None);
    assert_succeeded_by_another(&sandbox);
}

/// The kernel kills the keeper at the deadline, and the command with it. What the command has started is ended once
/// db-mutex goes on.
#[test]
fn a_stopped_db_mutex_and_a_stopped_keeper_do_not_keep_the_command_at_work() {
    let sandbox = Sandbox::new();
    let holder = start_family(&sandbox, &["--ttl", "3s"]);
    let keeper = keeper_of(&holder);
    holder.signal(Signal::SIGSTOP);
    kill(keeper, Signal::SIGSTOP).unwrap();
    sandbox.wait_until_gone("child");
    holder.signal(Signal::SIGCONT);
    let ended = holder.wait();
    assert!(ended.code() == Some(124) || ended.code() == Some(125), "{ended:?}");
    wait_until_all_are_gone(&sandbox);
}

#[test]
fn a_killed_keeper_takes_all_with_it() {
    let sandbox = Sandbox::new();
    let holder = start_family(&sandbox, &["--ttl", "1h"]);
    kill(keeper_of(&holder), Signal::SIGKILL).unwrap();
    holder.wait().assert_refusal(125);
    wait_until_all_are_gone(&sandbox);
    assert_eq!(sandbox.state("job"), "free");
}

#[test]
fn the_keeper_is_not_ended_by_what_ends_db_mutex() {
    let sandbox = Sandbox::new();
    let holder = start_family(&sandbox, &["--ttl", "1h"]);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGTSTP] {
        kill(keeper_of(&holder), signal).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    sandbox.write("go", "");
    let child: i32 = sandbox.read("child").trim().parse().unwrap();
    assert!(sandbox.is_at_work(u32::try_from(child).unwrap()));
    holder.signal(Signal::SIGTERM);
    holder.wait().assert_silent_death(Signal::SIGTERM);
}

/// A shell that becomes db-mutex has children that db-mutex has not started.
#[test]
fn other_children_are_left_alone() {
    for how in ["lost", "killed"] {
        let sandbox = Sandbox::new();
        let mut shell = sandbox.program("sh");
        let line = format!(
            "sleep 1000 & echo $! > other; exec {} run job --no-renew --ttl 4s -c \"$0\"",
            env!("CARGO_BIN_EXE_db-mutex")
        );
        shell.args(["-c", &line, FAMILY]);
        let holder = sandbox.spawn(shell);
        ["child", "grandchild", "away"].iter().for_each(|file| drop(sandbox.wait_for_line(file)));
        if how == "killed" {
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.pid())).unwrap();
            let keeper = children.split_whitespace().last().unwrap().parse().unwrap();
            kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
        }
        let ended = holder.wait();
        assert!(ended.code() == Some(124) || ended.code() == Some(125), "{ended:?}");
        wait_until_all_are_gone(&sandbox);
        let other: u32 = sandbox.read("other").trim().parse().unwrap();
        assert!(sandbox.is_at_work(other), "{how}");
    }
}

#[test]
fn what_the_command_leaves_behind_is_left_with_a_note() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["run", "job", "-c", "sleep 1000 & echo $! > work; exit 3"]);
    assert_eq!(ended.code(), Some(3));
    assert!(ended.stderr.contains("sleep") && ended.stderr.contains("still runs"), "{ended:?}");
    assert_eq!(sandbox.state("job"), "free");
    let work: u32 = sandbox.read("work").trim().parse().unwrap();
    assert!(sandbox.is_at_work(work));
}

/// What has a session of its own has left on purpose, and is no news.
#[test]
fn a_daemon_is_left_without_a_note() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["run", "job", "-c", "setsid sleep 1000 > /dev/null 2>&1 < /dev/null & sleep 0.2"]);
    ended.assert_silent_success();
}

#[test]
fn what_the_command_leaves_behind_is_waited_for() {
    for start in ["(sleep 0.5; echo done > done) &", "setsid sh -c '(sleep 0.5; echo done > done) &';"] {
        let sandbox = Sandbox::new();
        let ended = sandbox.run(["run", "job", "--descendants", "wait", "-c", &format!("{start} exit 3")]);
        assert_eq!((ended.code(), &*ended.stderr), (Some(3), ""), "{ended:?}");
        assert_eq!(sandbox.read("done"), "done\n", "{start}");
    }
}

#[test]
fn what_the_command_leaves_behind_is_ended() {
    let sandbox = Sandbox::new();
    sandbox.write("stubborn.sh", "trap '' TERM; echo $$ > stubborn; while :; do sleep 0.05; done\n");
    let line = "setsid sh stubborn.sh & sh -c 'exec 2> noise; trap \"echo asked > asked; exit\" TERM; echo $$ > polite; while :; do sleep 0.05; done' & \
        until [ -s stubborn ] && [ -s polite ]; do sleep 0.05; done; exit 3";
    let ended = sandbox.run(["run", "job", "--descendants", "end", "--kill-after", "2s", "-c", line]);
    assert_eq!((ended.code(), &*ended.stderr), (Some(3), ""), "{ended:?}");
    assert_eq!(sandbox.read("asked"), "asked\n");
    sandbox.wait_until_gone("stubborn");
    sandbox.wait_until_gone("polite");
}

/// Processes that start others as fast as they can.
#[test]
fn a_crowd_that_multiplies_is_ended() {
    let sandbox = Sandbox::new();
    sandbox
        .write("breed.sh", "trap '' TERM; echo $$ > breeding; while :; do (sleep 0.2; sleep 0.2) & sleep 0.01; done\n");
    let line = "for i in 1 2 3; do setsid sh breed.sh & done; wait";
    sandbox.run(["run", "job", "--no-renew", "--ttl", "3s", "-c", line]).assert_refusal(124);
    sandbox.wait_until_gone("breeding");
}

#[test]
fn secrets_are_in_no_argument_and_not_with_the_keeper() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["run", "job", "-c", "echo ready > ready; sleep 1000"]);
    command.env("CANARY", "s3cret");
    let holder = sandbox.spawn(command);
    sandbox.wait_for_line("ready");
    let keeper = keeper_of(&holder);
    let read =
        |file: &str| String::from_utf8_lossy(&std::fs::read(format!("/proc/{keeper}/{file}")).unwrap()).into_owned();
    assert_eq!((read("environ").as_str(), read("cmdline").contains("s3cret")), ("", false));
}

/// Nothing of the environment says whose it is, and nothing of it can be asked to.
#[test]
fn a_killed_keeper_takes_what_has_another_environment_and_what_runs_inside_another_run() {
    let inner = format!("{} run inner --ttl 1h", env!("CARGO_BIN_EXE_db-mutex"));
    for line in [
        "setsid env -i sh -c 'echo $$ > child; exec sleep 1000' & sleep 1000".to_owned(),
        format!("{inner} -- sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 0.05; done'"),
    ] {
        let sandbox = Sandbox::new();
        let holder = sandbox.start(["run", "job", "--ttl", "1h", "-c", &line]);
        sandbox.wait_for_line("child");
        kill(keeper_of(&holder), Signal::SIGKILL).unwrap();
        holder.wait().assert_refusal(125);
        let child: u32 = sandbox.read("child").trim().parse().unwrap();
        assert!(!sandbox.is_at_work(child), "{line}");
        assert_eq!(sandbox.state("job"), "free");
    }
}

#[test]
fn a_name_that_is_not_utf_8_is_no_way_out() {
    let sandbox = Sandbox::new();
    // Cut in the middle of a character by the kernel.
    std::fs::copy("/bin/sleep", sandbox.path("äääääääääääääää")).unwrap();
    let line = "setsid ./äääääääääääääää 1000 & echo $! > child; sleep 1000";
    sandbox.run(["run", "job", "--no-renew", "--ttl", "2s", "-c", line]).assert_refusal(124);
    sandbox.wait_until_gone("child");
}

#[test]
fn a_real_time_signal_ends_the_command_and_the_run() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["run", "job", "--", "bash", "-c", "kill -34 $$"]);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(34), "{ended:?}");
    assert_eq!(sandbox.state("job"), "free");
}

#[test]
fn many_signals_do_not_keep_news_of_renewals_from_the_keeper() {
    let sandbox = Sandbox::new();
    let line = "echo ready > ready; until [ -e go ]; do sleep 0.05; done";
    let holder = sandbox.start(["run", "job", "--ttl", "3s", "-c", line]);
    sandbox.wait_for_line("ready");
    // Twice as long as the lease.
    for _ in 0..120 {
        holder.signal(Signal::SIGURG);
        std::thread::sleep(Duration::from_millis(50));
    }
    sandbox.write("go", "");
    holder.wait().assert_silent_success();
}

/// As timeout(1) and systemd do.
#[test]
fn a_second_signal_does_not_keep_the_lock_held() {
    for moment in 0..20 {
        let sandbox = Sandbox::new();
        let holder = sandbox.hold("job", &["--ttl", "1h"]);
        holder.signal(Signal::SIGTERM);
        std::thread::sleep(Duration::from_millis(moment % 5));
        let _ = kill(holder.pid(), Signal::SIGHUP);
        let ended = holder.wait();
        assert_eq!((ended.code(), &*ended.stderr), (None, ""), "{ended:?}");
        assert_eq!(sandbox.state("job"), "free");
    }
}

#[test]
fn a_command_that_has_changed_its_group_gets_signals() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "move.py",
        "import os, signal, time\n\
         child = os.fork()\n\
         if child == 0:\n    os.setpgid(0, 0)\n    time.sleep(1000)\n\
         time.sleep(0.2)\nos.setpgid(0, child)\n\
         signal.signal(signal.SIGTERM, lambda *_: (os.kill(child, 9), os._exit(7)))\n\
         open('ready', 'w').write('ready\\n')\n\
         while True: time.sleep(0.05)\n",
    );
    let holder = sandbox.start(["run", "job", "--", "python3", "move.py"]);
    sandbox.wait_for_line("ready");
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.wait().code(), Some(7));
}

#[test]
fn an_interpreter_that_is_missing_is_127_even_if_nothing_can_be_written() {
    let sandbox = Sandbox::new();
    sandbox.write("script", "#!/no-such-interpreter\n");
    let line = format!("chmod +x script; exec {} run job -- ./script 2> /dev/full", env!("CARGO_BIN_EXE_db-mutex"));
    let mut shell = sandbox.program("sh");
    shell.args(["-c", &line]);
    assert_eq!(sandbox.spawn(shell).wait().code(), Some(127));
    assert_eq!(sandbox.state("job"), "free");
}

/// Few file descriptors are a reason to fail, not to wait for what never comes.
#[test]
fn it_ends_however_few_files_it_may_open() {
    for files in [8, 11, 15, 19, 26, 32] {
        let sandbox = Sandbox::new();
        let mut shell = sandbox.program("bash");
        let line = format!("ulimit -n {files}; exec {} run job -- true", env!("CARGO_BIN_EXE_db-mutex"));
        shell.args(["-c", &line]);
        let ended = sandbox.spawn(shell).wait();
        let code = ended.code();
        assert!(code == Some(0) || code == Some(125), "{files}: {ended:?}");
    }
}

/// A refused, a failed, an interrupted and a successful run leave nothing for their parent to reap but themselves.
#[test]
fn nothing_is_left_for_others_to_reap() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "reap.py",
        "import ctypes, os, signal, subprocess, sys, time\n\
         ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n\
         db = sys.argv[1]\n\
         run = lambda *a: subprocess.run([db, 'run', 'job', *a], stderr=subprocess.DEVNULL)\n\
         holder = subprocess.Popen([db, 'run', 'job', '--', 'sleep', '1000'])\n\
         time.sleep(0.5)\n\
         run('--', 'true')\n\
         waiter = subprocess.Popen([db, 'run', 'job', '--wait', 'forever', '--', 'true'])\n\
         time.sleep(0.3)\nwaiter.send_signal(signal.SIGTERM)\nwaiter.wait()\n\
         subprocess.run([db, '--url', 'sqlite:/no/such/folder/x.db', 'run', 'job', '--', 'true'], stderr=subprocess.DEVNULL)\n\
         holder.send_signal(signal.SIGTERM)\nholder.wait()\n\
         run('--', 'true')\n\
         time.sleep(0.2)\n\
         try:\n    print(os.waitpid(-1, os.WNOHANG))\n\
         except ChildProcessError:\n    print('nothing')\n",
    );
    let mut python = sandbox.program("python3");
    python.arg("reap.py").arg(env!("CARGO_BIN_EXE_db-mutex"));
    python.env("DB_MUTEX_URL", format!("sqlite:{}", sandbox.database().display()));
    let ended = sandbox.spawn(python).wait();
    assert_eq!(ended.stdout, "nothing\n", "{ended:?}");
}

/// One whose parent always dies before it is seen.
#[test]
fn a_killed_keeper_takes_what_is_always_in_flight() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "comet.py",
        "import os, time\nopen('comet', 'w').write('x\\n')\n\
         while True:\n    if os.fork(): os._exit(0)\n    open('worked', 'a').write('x\\n')\n    time.sleep(0.001)\n",
    );
    let holder = sandbox.start(["run", "job", "--ttl", "1h", "-c", "python3 comet.py & sleep 1000"]);
    sandbox.wait_for_line("comet");
    kill(keeper_of(&holder), Signal::SIGKILL).unwrap();
    holder.wait().assert_refusal(125);
    let worked = sandbox.read("worked").len();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sandbox.read("worked").len(), worked);
}

/// The command's process stands by in the job, and is stopped with it.
#[test]
fn a_waiting_run_that_was_stopped_with_its_group_and_continued_alone_runs() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &[]);
    let mut waiting = sandbox.program("setsid");
    waiting.args(["--wait", env!("CARGO_BIN_EXE_db-mutex"), "run", "job", "--wait", "forever", "-c", "echo ran > ran"]);
    let waiting = sandbox.spawn(waiting);
    eventually("it waits", || waiting.has_open(&sandbox.database()).then_some(()));
    kill(Pid::from_raw(-waiting.pid().as_raw()), Signal::SIGSTOP).unwrap();
    kill(waiting.pid(), Signal::SIGCONT).unwrap();
    holder.signal(Signal::SIGTERM);
    assert_eq!(waiting.wait().code(), Some(0));
    assert_eq!(sandbox.read("ran"), "ran\n");
}

/// It dumps a core by default, which takes the kernel a while, in which another thread could take the signal.
#[test]
fn a_quit_is_a_death_by_that_signal_each_time() {
    let sandbox = Sandbox::new();
    for _ in 0..30 {
        sandbox.run(["run", "job", "-c", "ulimit -c 0; kill -QUIT $$"]).assert_silent_death(Signal::SIGQUIT);
    }
}
