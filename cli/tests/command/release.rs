//! The end of the job: the lock is released, though the database is away just then.

use std::time::Duration;

use db_mutex_test_servers::{Proxy, url};
use nix::sys::signal::Signal;

use crate::running::{Running, eventually};
use crate::sandbox::{Sandbox, open};

/// A command that ends when the test ends it.
const LINE: &str = "echo ready > ready; until [ -e go ]; do sleep 0.05; done; exit 3";

fn start(sandbox: &Sandbox, options: &[&str]) -> Running {
    let holder = sandbox.start([&["run", "job", "--ttl", "2h"], options, &["-c", LINE]].concat());
    sandbox.wait_for_line("ready");
    holder
}

#[test]
fn a_database_that_is_busy_for_a_while_is_waited_for() {
    let sandbox = Sandbox::new();
    let holder = start(&sandbox, &[]);
    let other = open(&sandbox.database());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    sandbox.write("go", "");
    std::thread::sleep(Duration::from_secs(4));
    other.execute_batch("ROLLBACK").unwrap();
    let ended = holder.wait();
    assert_eq!((ended.code(), &*ended.stderr), (Some(3), ""), "{ended:?}");
    assert_eq!(sandbox.state("job"), "free");
}

#[test]
fn a_lock_that_cannot_be_released_is_told_with_its_end_and_the_code_stays() {
    let sandbox = Sandbox::new();
    let holder = start(&sandbox, &["--release-timeout", "1s"]);
    let other = open(&sandbox.database());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    sandbox.write("go", "");
    let ended = holder.wait();
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    let expected = ["the command ended with 3", "`job`", "within 1s", "stays held until 20", "at the latest"];
    assert!(expected.iter().all(|part| ended.stderr.contains(part)), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1);
    other.execute_batch("ROLLBACK").unwrap();
}

#[test]
fn a_signal_ends_the_attempts_to_release() {
    let sandbox = Sandbox::new();
    let holder = start(&sandbox, &["--release-timeout", "1h"]);
    let other = open(&sandbox.database());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    sandbox.write("go", "");
    // Its keeper has ended: it is at the release.
    eventually("the command has ended", || {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.pid())).ok()?;
        let keeper = children.split_whitespace().next()?;
        std::fs::read_to_string(format!("/proc/{keeper}/stat")).ok()?.contains(") Z ").then_some(())
    });
    // For a moment it takes no notice, for a signal may have been the command's.
    eventually("it has ended", || {
        holder.signal(Signal::SIGTERM);
        holder.has_ended().then_some(())
    });
    let ended = holder.wait();
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    assert!(ended.stderr.contains("was interrupted"), "{ended:?}");
    other.execute_batch("ROLLBACK").unwrap();
}

/// The server goes away at the end of the job, in the way that `disturb` does it, and comes back.
fn is_released_on(server: &str, disturb: fn(&Proxy)) {
    let sandbox = Sandbox::new();
    let url = url(server);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let proxy = runtime.block_on(Proxy::to(&url));
    let table = format!("cli_release_{}_{}", std::process::id(), disturb as usize);
    let through = proxy.url();
    let arguments = ["--url", through, "--table", &table, "run", "job", "--ttl", "2h", "-c", LINE];
    let holder = sandbox.start(arguments);
    sandbox.wait_for_line("ready");
    disturb(&proxy);
    sandbox.write("go", "");
    std::thread::sleep(Duration::from_secs(1));
    proxy.open();
    let ended = holder.wait();
    assert_eq!((ended.code(), &*ended.stderr), (Some(3), ""), "{server}: {ended:?}");
    let shown = sandbox.run(["--url", &url, "--table", &table, "show", "job", "--json"]);
    assert!(shown.stdout.contains("\"free\""), "{server}: {shown:?}");
}

#[test]
fn a_server_that_is_away_for_a_second_is_waited_for() {
    ["postgres", "mariadb"].iter().for_each(|server| is_released_on(server, Proxy::close));
}

/// Nothing is heard on the connections that there are, and new ones work.
#[test]
fn a_connection_that_was_forgotten_on_the_way_is_replaced() {
    std::thread::scope(|scope| {
        for server in ["postgres", "mariadb"] {
            scope.spawn(move || is_released_on(server, Proxy::forget));
        }
    });
}
