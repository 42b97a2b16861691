use nix::sys::signal::Signal;

use crate::running::eventually;
use crate::sandbox::{Sandbox, open};
use crate::signals::start_with_default_signals;

fn ends_a_waiting_db_mutex(signal: Signal) {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &["--label", "the holder"]);
    let before = sandbox.show("job");

    let arguments = ["run", "job", "--wait", "forever", "--label", "the waiter", "-c", "echo started > started"];
    let waiter = start_with_default_signals(&sandbox, &arguments);
    eventually("it waits", || {
        (waiter.has_in_mask("SigBlk", signal) && waiter.has_open(&sandbox.database())).then_some(())
    });
    waiter.signal(signal);
    waiter.wait().assert_silent_death(signal);

    let after = sandbox.show("job");
    for column in ["state", "holder", "fence", "acquired_at", "expires_at"] {
        assert_eq!(before[column], after[column], "{column}");
    }
    assert_eq!(after["state"], "held");
    holder.signal(Signal::SIGTERM);
    holder.wait().assert_silent_death(Signal::SIGTERM);
    let free = sandbox.show("job");
    assert_eq!((&free["state"], &free["fence"]), (&"free".into(), &before["fence"]));
    assert_eq!(sandbox.read("started"), "");
}

/// Each ends it as it would end any other program, at once, and leaves nothing in the database.
#[test]
fn a_signal_ends_a_waiting_db_mutex() {
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGIO,
        Signal::SIGPWR,
    ] {
        ends_a_waiting_db_mutex(signal);
    }
}

/// The signal comes at any moment of start and acquisition. Either the command ran and had the lock, or nothing is left
/// taken.
#[test]
fn a_signal_at_any_moment_leaves_nothing_taken() {
    let sandbox = Sandbox::new();
    for moment in 0..40 {
        let process =
            start_with_default_signals(&sandbox, &["run", "job", "--wait", "forever", "-c", "exec sleep 1000"]);
        eventually("it listens", || process.has_in_mask("SigBlk", Signal::SIGTERM).then_some(()));
        std::thread::sleep(std::time::Duration::from_micros(500 * moment));
        process.signal(Signal::SIGTERM);
        process.wait().assert_silent_death(Signal::SIGTERM);
        let taken = sandbox.run(["list", "--json"]);
        assert_eq!((taken.code(), &*taken.stdout), (Some(0), "[]\n"), "{taken:?}");
    }
}

/// The signal comes while the request waits inside the database for another transaction: it may still be granted
/// after db-mutex has given it up, and must not stay so.
#[test]
fn a_signal_while_the_database_is_busy_leaves_nothing_taken() {
    let sandbox = Sandbox::new();
    sandbox.run(["migrate"]).assert_silent_success();
    let other = open(&sandbox.database());
    for moment in 0..20 {
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let process = start_with_default_signals(&sandbox, &["run", "job", "-c", "exec sleep 1000"]);
        eventually("it asks", || process.has_open(&sandbox.database()).then_some(()));
        std::thread::sleep(std::time::Duration::from_millis(5 + moment));
        // Stopped, so that the grant and the signal meet when it goes on.
        process.signal(Signal::SIGSTOP);
        other.execute_batch("ROLLBACK").unwrap();
        process.signal(Signal::SIGTERM);
        process.signal(Signal::SIGCONT);
        process.wait().assert_silent_death(Signal::SIGTERM);
        let taken = sandbox.run(["list", "--json"]);
        assert_eq!((taken.code(), &*taken.stdout), (Some(0), "[]\n"), "{taken:?}");
    }
}

/// As with flock(1): it is for the caller to unblock it. The command finds it pending.
#[test]
fn a_signal_that_the_caller_has_blocked_does_not_end_a_waiting_db_mutex() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &[]);
    let mut waiter = sandbox.program("env");
    waiter.args(["--block-signal=TERM", env!("CARGO_BIN_EXE_db-mutex"), "run", "job", "--wait", "forever", "--"]);
    waiter.args(["python3", "-c", "import signal; print(signal.sigtimedwait([signal.SIGTERM], 30).si_signo)"]);
    let waiter = sandbox.spawn(waiter);
    eventually("it waits", || waiter.has_open(&sandbox.database()).then_some(()));
    waiter.signal(Signal::SIGTERM);
    std::thread::sleep(std::time::Duration::from_millis(200));
    holder.signal(Signal::SIGTERM);
    let ended = waiter.wait();
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (Some(0), "15\n", ""), "{ended:?}");
}
