use serde_json::Value;

use crate::sandbox::Sandbox;

fn url() -> String {
    db_mutex_test_servers::url("postgres")
}

fn table(name: &str) -> String {
    format!("cli_{name}_{}", std::process::id())
}

#[test]
fn run_excludes_and_shows_as_on_a_file() {
    let sandbox = Sandbox::new();
    let (url, table) = (url(), table("run"));
    let with = |arguments: &[&'static str]| [&["--url", &url, "--table", &table], arguments].concat();
    let run = sandbox.run(with(&["run", "job", "--hold-at-least", "10m", "--", "true"]));
    run.assert_silent_success();
    let refused = sandbox.run(with(&["run", "job", "--", "touch", "ran"]));
    assert_eq!(refused.code(), Some(75), "{refused:?}");
    assert!(!sandbox.path("ran").exists());

    let shown: Value = serde_json::from_str(&sandbox.run(with(&["show", "job", "--json"])).stdout).expect("JSON");
    assert_eq!(shown["state"], "resting");
    assert!(sandbox.run(with(&["list"])).stdout.contains("resting"));
    assert_eq!(sandbox.run(with(&["release", "job", "--force"])).code(), Some(0));
    sandbox.run(with(&["run", "job", "--", "true"])).assert_silent_success();
    assert_eq!(sandbox.run(with(&["purge", "--older-than", "0s"])).stdout, "1 row removed\n");
}

/// In version 1 most runs failed once a connection of the pooler had served another.
#[test]
fn runs_through_a_pooler_need_no_setting() {
    let sandbox = Sandbox::new();
    let (url, table) = (db_mutex_test_servers::url("pgbouncer"), table("pooled"));
    for _ in 0..20 {
        sandbox.run(["--url", &url, "--table", &table, "run", "job", "--", "true"]).assert_silent_success();
    }
}

#[test]
fn twenty_processes_count_to_twenty() {
    let sandbox = Sandbox::new();
    let (url, table) = (url(), table("count"));
    sandbox.write("f", "0\n");
    let running: Vec<_> = (0..20)
        .map(|_| {
            let count = ["run", "counter", "--wait", "120s", "-c", "n=$(cat f); echo $((n+1)) > f"];
            sandbox.start([&["--url", &url, "--table", &table], &count[..]].concat())
        })
        .collect();
    for process in running {
        process.wait().assert_silent_success();
    }
    assert_eq!(sandbox.read("f"), "20\n");
}

#[test]
fn looking_creates_no_table() {
    let sandbox = Sandbox::new();
    let (url, table) = (url(), table("looked"));
    let listed = sandbox.run(["--url", &url, "--table", &table, "list"]);
    assert_eq!(listed.code(), Some(125), "{listed:?}");
    assert!(listed.stderr.contains("db-mutex migrate"), "{listed:?}");
    assert_eq!(sandbox.run(["--url", &url, "--table", &table, "migrate"]).code(), Some(0));
    assert_eq!(sandbox.run(["--url", &url, "--table", &table, "list", "--json"]).stdout, "[]\n");
}

#[test]
fn the_printed_schema_is_postgresqls() {
    let sandbox = Sandbox::new();
    let printed = sandbox.run(["--url", "postgres://app@nowhere/none", "--table", "other", "migrate", "--print"]);
    assert_eq!(printed.code(), Some(0), "{printed:?}");
    assert!(printed.stdout.contains("CREATE TABLE \"other\"") && printed.stdout.contains("bytea"), "{printed:?}");
}

#[test]
fn a_server_that_is_away_is_125_in_one_line_without_the_password() {
    let sandbox = Sandbox::new();
    for url in [
        "postgres://user:s3cret-canary@127.0.0.1:1/d",
        "postgres://user:s3cret-canary@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=/nowhere.pem",
        &url().replace("s3cret-canary", "s3cret-canary-but-wrong"),
    ] {
        let failed = sandbox.run(["--url", url, "run", "job", "--", "touch", "ran"]);
        assert_eq!(failed.code(), Some(125), "{failed:?}");
        assert_eq!(failed.stderr.lines().count(), 1, "{failed:?}");
        assert!(!format!("{failed:?}").contains("s3cret"), "{failed:?}");
        assert!(!sandbox.path("ran").exists());
    }
}
