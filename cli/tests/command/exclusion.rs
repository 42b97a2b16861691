use std::sync::Barrier;
use std::thread;

use crate::sandbox::{Sandbox, count, open};

#[test]
fn two_hundred_processes_count_to_two_hundred() {
    let sandbox = Sandbox::new();
    sandbox.write("f", "0\n");
    let increment = "n=$(cat f); echo $((n+1)) > f";
    let waiting = ["run", "counter", "--wait", "120s"];
    let started: Vec<_> = (0..200)
        .map(|number| match number % 2 {
            0 => sandbox.start(waiting.iter().chain(&["--", "sh", "-c", increment])),
            _ => sandbox.start(waiting.iter().chain(&["-c", increment])),
        })
        .collect();
    for process in started {
        process.wait().assert_silent_success();
    }
    assert_eq!(sandbox.read("f"), "200\n");
}

/// `--hold-at-least` keeps the lock taken after the command's end: the second run is refused, however slow the
/// machine is.
#[test]
fn of_two_that_start_at_once_exactly_one_runs() {
    let sandbox = Sandbox::new();
    for round in 0..100 {
        let (name, ran) = (format!("round-{round}"), format!("ran-{round}"));
        let line = format!("echo ran >> {ran}");
        let barrier = Barrier::new(2);
        let contend = || {
            barrier.wait();
            sandbox.run(["run", &name, "--hold-at-least", "60s", "-c", &line])
        };
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(contend);
            (contend(), other.join().expect("no panic"))
        });
        let (ran_first, refused) = if one.code() == Some(0) { (one, other) } else { (other, one) };
        ran_first.assert_silent_success();
        refused.assert_refusal(75);
        assert_eq!(sandbox.read(&ran), "ran\n");
    }
}

#[test]
fn twenty_processes_migrate_one_new_file() {
    let sandbox = Sandbox::new();
    for round in 0..5 {
        let file = format!("new-{round}.db");
        let url = format!("sqlite:{file}");
        let started: Vec<_> = (0..20).map(|_| sandbox.start(["--url", &url, "migrate"])).collect();
        for process in started {
            process.wait().assert_silent_success();
        }
        let database = open(&sandbox.path(&file));
        assert_eq!(count(&database, "sqlite_master WHERE type = 'table' AND name = 'db_mutex_locks'"), 1);
        assert_eq!(count(&database, "sqlite_master WHERE type = 'table'"), 2);
        assert_eq!(count(&database, "db_mutex_locks_versions"), 1);
        assert_eq!(count(&database, "db_mutex_locks"), 0);
    }
}
