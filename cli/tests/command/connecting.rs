use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::running::eventually;
use crate::sandbox::Sandbox;
use crate::servers::{execute, unique, url, url_of};

/// Passes each caller on to a server, except the first ones, on which it hangs up. Counts the callers; ends with the process.
fn pass_on(listener: TcpListener, server: String, refused: usize) -> Arc<AtomicUsize> {
    let callers = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&callers);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if counter.fetch_add(1, Ordering::SeqCst) >= refused {
                let server = TcpStream::connect(&server).expect("the server");
                let (from, to) = (client.try_clone().expect("a clone"), server.try_clone().expect("a clone"));
                for (mut from, mut to) in [(from, to), (server, client)] {
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        }
    });
    callers
}

/// The URL of a server at another address, and the address of the server.
fn at(server: &str, address: impl std::fmt::Display) -> (String, String) {
    let url = url(server);
    let (login, place) = url.rsplit_once('@').expect("a login");
    let (server, database) = place.split_once('/').expect("a database");
    (format!("{login}@{address}/{database}"), server.to_owned())
}

fn free_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

/// An address where nothing listens.
fn nowhere() -> String {
    free_port().local_addr().expect("an address").to_string()
}

#[test]
fn with_wait_a_connection_is_tried_for_again_and_without_it_once() {
    let sandbox = Sandbox::new();
    for server in ["postgres", "mariadb"] {
        // More than one attempt of a backend has connections.
        for (refused, options, code) in [(usize::MAX, &[][..], 125), (20, &["--wait", "60s"], 0)] {
            let listener = free_port();
            let (url, address) = at(server, listener.local_addr().unwrap());
            let callers = pass_on(listener, address, refused);
            let run = [&["--url", &url, "--table", "cli_connecting", "run", server], options, &["--", "touch", "ran"]];
            let ended = sandbox.run(run.concat());
            assert_eq!(ended.code(), Some(code), "{ended:?}");
            assert!(!ended.stderr.contains("tried for"), "{ended:?}");
            assert_eq!(sandbox.path("ran").exists(), code == 0);
            assert!(callers.load(Ordering::SeqCst) > if code == 0 { 20 } else { 0 }, "{server}");
        }
        std::fs::remove_file(sandbox.path("ran")).unwrap();
    }
}

/// A server that is started after the run.
#[test]
fn a_server_may_come_up_while_it_is_waited_for() {
    let sandbox = Sandbox::new();
    let address = nowhere();
    let (url, server) = at("postgres", &address);
    let run = ["--url", &url, "--table", "cli_connecting", "run", "late", "--wait", "forever", "--", "true"];
    let waiting = sandbox.start(run);
    // It tries to connect at once after that.
    eventually("db-mutex receives signals", || waiting.has_in_mask("SigBlk", Signal::SIGTERM).then_some(()));
    thread::sleep(Duration::from_millis(300));
    pass_on(TcpListener::bind(&address).expect("the same address"), server, 0);
    waiting.wait().assert_silent_success();
}

#[test]
fn the_limit_ends_with_the_last_error_and_how_long_it_was_tried() {
    let sandbox = Sandbox::new();
    for scheme in ["postgres", "mysql"] {
        let url = format!("{scheme}://u:s3cret-canary@{}/d", nowhere());
        let begun = Instant::now();
        let failed = sandbox.run(["--url", &url, "run", "job", "--wait", "700ms", "--", "touch", "ran"]);
        assert!(begun.elapsed() >= Duration::from_millis(700), "{scheme}");
        let line = failed.assert_refusal(125);
        assert!(line.contains("tried for") && !line.contains("s3cret"), "{line}");
    }
    // A name that cannot be looked up is tried for again too; a login that is refused is not.
    let unknown =
        sandbox.run(["--url", "postgres://u@nowhere.invalid/d", "run", "job", "--wait", "100ms", "--", "true"]);
    assert!(unknown.assert_refusal(125).contains("tried for"), "{unknown:?}");
    let wrong = url_of("postgres", "dbmutex:s3cret-canary-but-wrong");
    let refused = sandbox.run(["--url", &wrong, "run", "job", "--wait", "forever", "--", "true"]);
    assert!(!refused.assert_refusal(125).contains("tried for"), "{refused:?}");
    assert!(!sandbox.path("ran").exists());
}

/// A server that accepts a connection and says nothing.
#[test]
fn a_silent_server_does_not_hold_up_the_limit() {
    let sandbox = Sandbox::new();
    let silent = free_port();
    for scheme in ["postgres", "mysql"] {
        let url = format!("{scheme}://u@{}/d", silent.local_addr().unwrap());
        let failed = sandbox.run(["--url", &url, "run", "job", "--wait", "1s", "--", "true"]);
        assert!(failed.assert_refusal(125).contains("tried for"), "{failed:?}");
    }
}

/// It could have three seconds, which are more than the limit.
#[test]
fn a_silent_first_host_leaves_time_for_the_second_within_a_short_limit() {
    let sandbox = Sandbox::new();
    let silent = free_port();
    let (url, server) = at("postgres", silent.local_addr().unwrap());
    let (hosts, database) = url.rsplit_once('/').expect("a database");
    let url = format!("{hosts},{server}/{database}");
    let run = ["--url", &url, "--table", "cli_connecting", "run", "second", "--wait", "2500ms", "--", "true"];
    sandbox.run(run).assert_silent_success();
}

/// As when the name of the primary leads to a standby during a failover.
#[test]
fn a_server_that_accepts_no_writes_yet_is_waited_for() {
    let sandbox = Sandbox::new();
    let (role, table) = (unique("no_writes_yet"), unique("no_writes_yet_locks"));
    sandbox.run(["--url", &url("postgres"), "--table", &table, "migrate"]).assert_silent_success();
    execute(
        "postgres",
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 's3cret-canary'; ALTER ROLE {role} SET default_transaction_read_only = on;
             GRANT SELECT, INSERT, UPDATE ON {table} TO {role}; GRANT SELECT ON {table}_versions TO {role}"
        ),
    );
    let url = url_of("postgres", &format!("{role}:s3cret-canary"));
    let run = |limit| ["--url", &url, "--table", &table, "run", "job", "--wait", limit, "--", "true"];
    // A second can be over before a busy server has answered for the first time.
    let line = sandbox.run(run("5s")).assert_refusal(125).to_owned();
    assert!(line.contains("accepts no writes") && line.contains("tried for"), "{line}");
    let waiting = sandbox.start(run("60s"));
    // It tries to connect at once after that.
    eventually("db-mutex receives signals", || waiting.has_in_mask("SigBlk", Signal::SIGTERM).then_some(()));
    thread::sleep(Duration::from_millis(300));
    execute("postgres", &format!("ALTER ROLE {role} RESET default_transaction_read_only"));
    waiting.wait().assert_silent_success();
    execute("postgres", &format!("DROP TABLE {table}, {table}_versions; DROP ROLE {role}"));
}

/// Forty runs, each of which needs a connection, where a third of them can have one.
#[test]
fn too_many_connections_are_waited_for() {
    let sandbox = Sandbox::new();
    let (role, table) = (unique("few"), unique("few_locks"));
    sandbox.run(["--url", &url("postgres"), "--table", &table, "migrate"]).assert_silent_success();
    execute(
        "postgres",
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 's3cret-canary' CONNECTION LIMIT 12;
             GRANT SELECT, INSERT, UPDATE ON {table} TO {role}; GRANT SELECT ON {table}_versions TO {role}"
        ),
    );
    let url = url_of("postgres", &format!("{role}:s3cret-canary"));
    sandbox.write("f", "0\n");
    let count = ["run", "many", "--wait", "120s", "-c", "n=$(cat f); echo $((n+1)) > f"];
    let started: Vec<_> =
        (0..40).map(|_| sandbox.start([&["--url", &url, "--table", &table], &count[..]].concat())).collect();
    for process in started {
        process.wait().assert_silent_success();
    }
    assert_eq!(sandbox.read("f"), "40\n");
    execute("postgres", &format!("DROP TABLE {table}, {table}_versions; DROP ROLE {role}"));
}
