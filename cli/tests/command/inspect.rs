use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::running::eventually;
use crate::sandbox::{Sandbox, open};

const FIELDS: [&str; 9] =
    ["acquired_at", "expires_at", "expires_in_ms", "fence", "held_for_ms", "holder", "lock_id", "released_at", "state"];

fn fields(row: &Value) -> Vec<&str> {
    let mut fields: Vec<_> = row.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    fields
}

/// What `show` prints for people, each fact under its name.
fn facts(sandbox: &Sandbox, name: &str) -> Vec<(String, String)> {
    let shown = sandbox.run(["show", name]);
    assert_eq!((shown.code(), &*shown.stderr), (Some(0), ""), "{shown:?}");
    let fact = |line: &str| line.split_once("  ").map(|(fact, text)| (fact.into(), text.trim().into()));
    shown.stdout.lines().map(|line| fact(line).unwrap_or_else(|| panic!("no fact: {line:?}"))).collect()
}

#[track_caller]
fn assert_fact(facts: &[(String, String)], name: &str, part: &str) {
    let fact = facts.iter().find(|(fact, _)| fact == name);
    assert!(fact.is_some_and(|(_, text)| text.contains(part)), "no {name} with {part} in {facts:?}");
}

#[test]
fn list_shows_a_row_for_each_lock_that_is_taken() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("nightly", &["--label", "the report"]);
    sandbox.run(["run", "done", "--", "true"]).assert_silent_success();
    let listed = sandbox.run(["list"]);
    assert_eq!((listed.code(), &*listed.stderr), (Some(0), ""), "{listed:?}");
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{listed:?}");
    let heads: Vec<_> = lines[0].split("  ").map(str::trim).filter(|head| !head.is_empty()).collect();
    assert_eq!(heads, ["NAME", "STATE", "HOLDER", "ACQUIRED", "HELD FOR", "UNTIL"]);
    assert!(lines[1].starts_with("nightly ") && lines[1].contains(" held "), "{listed:?}");
    assert!(lines[1].contains(&format!(" pid {}: the report ", holder.pid())), "{listed:?}");

    let all = sandbox.run(["list", "--all"]).stdout;
    assert!(all.lines().count() == 3 && all.lines().any(|line| line.starts_with("done ")), "{all}");
}

#[test]
fn list_json_is_an_array_with_the_documented_fields_and_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.run(["migrate"]).assert_silent_success();
    let none = sandbox.run(["list", "--json"]);
    assert_eq!((none.code(), &*none.stdout, &*none.stderr), (Some(0), "[]\n", ""));
    let holder = sandbox.hold("nightly", &[]);
    sandbox.run(["run", "done", "--", "true"]).assert_silent_success();
    let listed = sandbox.run(["list", "--json"]);
    assert_eq!((listed.code(), &*listed.stderr), (Some(0), ""));
    let rows: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(rows.iter().map(|row| &row["lock_id"]).collect::<Vec<_>>(), ["nightly"]);
    let rows = sandbox.rows();
    assert_eq!(rows.iter().map(|row| &row["lock_id"]).collect::<Vec<_>>(), ["done", "nightly"]);
    assert_eq!(rows.iter().map(fields).collect::<Vec<_>>(), [FIELDS, FIELDS]);
    drop(holder);
}

#[test]
fn a_held_lock_is_shown_with_its_holder() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &["--label", "the report", "--ttl", "1h"]);
    let row = sandbox.show("job");
    assert_eq!(fields(&row), FIELDS);
    assert_eq!((&row["state"], &row["lock_id"], &row["released_at"]), (&json!("held"), &json!("job"), &Value::Null));
    assert!(row["holder"].as_str().unwrap().ends_with(&format!(" pid {}: the report", holder.pid())), "{row}");
    assert!(row["expires_in_ms"].as_u64().unwrap() <= 3_600_000, "{row}");
    assert_eq!(sandbox.read("job.held").trim(), row["fence"].to_string());
    let facts = facts(&sandbox, "job");
    assert_fact(&facts, "lock", "job");
    assert_fact(&facts, "state", "held (expires in ");
    assert_fact(&facts, "holder", ": the report");
    assert_fact(&facts, "expires", row["expires_at"].as_str().unwrap());
    assert_fact(&facts, "fence", &row["fence"].to_string());
}

#[test]
fn a_lock_that_never_expires_is_shown_without_an_end() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &["--ttl", "none"]);
    let row = sandbox.show("job");
    assert_eq!(
        (&row["state"], &row["expires_at"], &row["expires_in_ms"]),
        (&json!("held"), &Value::Null, &Value::Null)
    );
    assert_fact(&facts(&sandbox, "job"), "state", "held (forever)");
    drop(holder);
}

#[test]
fn a_free_lock_is_shown_with_who_ran_last_and_how_long() {
    let sandbox = Sandbox::new();
    sandbox.run(["run", "job", "--label", "the report", "--", "sleep", "0.3"]).assert_silent_success();
    let row = sandbox.show("job");
    assert_eq!((fields(&row), &row["state"]), (FIELDS.to_vec(), &json!("free")));
    assert!(row["holder"].as_str().unwrap().ends_with(": the report"), "{row}");
    // By the millisecond clock of SQLite, at both ends.
    assert!(row["held_for_ms"].as_u64().unwrap() >= 299, "{row}");
    let facts = facts(&sandbox, "job");
    assert_fact(&facts, "state", "free (released ");
    assert_fact(&facts, "last holder", ": the report");
    assert_fact(&facts, "released", row["released_at"].as_str().unwrap());
    assert_fact(&facts, "held for", "s");
}

#[test]
fn a_resting_lock_is_shown_with_the_end_of_its_rest() {
    let sandbox = Sandbox::new();
    sandbox.run(["run", "job", "--hold-at-least", "20m", "--", "true"]).assert_silent_success();
    let row = sandbox.show("job");
    assert_eq!((fields(&row), &row["state"]), (FIELDS.to_vec(), &json!("resting")));
    let facts = facts(&sandbox, "job");
    assert_fact(&facts, "state", "resting (free in ");
    assert_fact(&facts, "rests until", row["expires_at"].as_str().unwrap());
    assert_fact(&facts, "last holder", " pid ");
}

#[test]
fn an_expired_lock_is_shown_as_such() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &["--ttl", "1s"]);
    holder.signal(Signal::SIGKILL);
    drop(holder);
    eventually("the lock expires", || (sandbox.state("job") == "expired").then_some(()));
    let row = sandbox.show("job");
    assert_eq!((fields(&row), &row["expires_in_ms"], &row["released_at"]), (FIELDS.to_vec(), &json!(0), &Value::Null));
    assert_eq!(row["held_for_ms"], 1000);
    let facts = facts(&sandbox, "job");
    assert_fact(&facts, "state", "expired (expired ");
    assert_fact(&facts, "expired", row["expires_at"].as_str().unwrap());
    assert_eq!(sandbox.run(["list", "--json"]).stdout, "[]\n");
}

#[test]
fn a_name_that_was_never_seen_is_1() {
    let sandbox = Sandbox::new();
    sandbox.run(["migrate"]).assert_silent_success();
    let refused = sandbox.run(["show", "job"]);
    assert!(refused.assert_refusal(1).contains("`job`"), "{refused:?}");
    // Where it was looked for.
    let place = format!("{:?}", sandbox.database().canonicalize().unwrap());
    assert!(refused.assert_refusal(1).contains(&place), "{refused:?}");
    let shown = sandbox.run(["show", "job", "--json"]);
    assert_eq!((shown.code(), &*shown.stdout), (Some(1), "null\n"), "{shown:?}");
}

/// Most likely the path is wrong, and a new file would only say that nothing is locked.
#[test]
fn looking_into_a_file_that_is_not_there_creates_none() {
    let sandbox = Sandbox::new();
    for look in [&["list"][..], &["show", "job"], &["release", "job", "--force"], &["purge"]] {
        let refused = sandbox.run([&["--url", "sqlite:absent.db"], look].concat());
        assert!(refused.assert_refusal(125).contains("does not exist"), "{refused:?}");
        assert!(!sandbox.path("absent.db").exists());
    }
}

#[test]
fn release_takes_force_and_something_to_release() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &[]);
    let fence = sandbox.show("job")["fence"].as_i64().unwrap();
    assert!(sandbox.run(["release", "job"]).assert_refusal(64).contains("--force"));
    assert_eq!(sandbox.state("job"), "held");
    let released = sandbox.run(["release", "job", "--force"]);
    assert_eq!((released.code(), &*released.stderr, released.stdout.lines().count()), (Some(0), "", 1), "{released:?}");
    let whom = format!(" pid {}, and it notices at its next renewal, within 10m, or ", holder.pid());
    assert!(released.stdout.contains(&whom), "{released:?}");
    assert_eq!(sandbox.state("job"), "free");
    assert!(sandbox.run(["release", "job", "--force"]).assert_refusal(1).contains("`job`"));
    sandbox.run(["release", "other", "--force"]).assert_refusal(1);
    sandbox.run(["run", "job", "--", "true"]).assert_silent_success();
    assert!(sandbox.show("job")["fence"].as_i64().unwrap() > fence);
    drop(holder);
}

#[test]
fn release_tells_json_what_it_did() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &["--ttl", "1h"]);
    let row = sandbox.show("job");
    let release = || {
        let released = sandbox.run(["release", "job", "--force", "--json"]);
        (released.code(), serde_json::from_str::<Value>(&released.stdout).unwrap())
    };
    let (code, mut released) = release();
    assert!(released["ends_in_ms"].take().as_u64().unwrap() > 3_000_000);
    let expected = json!({
        "lock_id": "job", "released": true, "was": "held", "holder": row["holder"], "fence": row["fence"],
        "notices_within_ms": 1_200_000, "ends_in_ms": null,
    });
    assert_eq!((code, released), (Some(0), expected));
    assert_eq!(release(), (Some(1), json!({ "lock_id": "job", "released": false })));
    drop(holder);

    let holder = sandbox.hold("job", &["--ttl", "none"]);
    let (_, released) = release();
    assert_eq!((&released["notices_within_ms"], &released["ends_in_ms"]), (&Value::Null, &Value::Null));
    drop(holder);
}

#[test]
fn purge_removes_what_has_long_been_free_and_nothing_else() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("held", &[]);
    sandbox.run(["run", "resting", "--hold-at-least", "20m", "--", "true"]).assert_silent_success();
    sandbox.run(["run", "free", "--", "true"]).assert_silent_success();
    assert_eq!(sandbox.run(["purge"]).stdout, "0 rows removed\n");
    assert_eq!(sandbox.rows().len(), 3);
    eventually("the row is purged", || {
        (sandbox.run(["purge", "--older-than", "0s"]).stdout == "1 row removed\n").then_some(())
    });
    let left: Vec<_> = sandbox.rows().iter().map(|row| row["lock_id"].clone()).collect();
    assert_eq!(left, ["held", "resting"]);
    drop(holder);
}

/// Every object of a database, as it was created.
fn schema(sandbox: &Sandbox, file: &str) -> Vec<(String, Option<String>)> {
    let database = open(&sandbox.path(file));
    let mut objects = database.prepare("SELECT name, sql FROM sqlite_master ORDER BY name").expect("a query");
    let read = objects.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    read.collect::<Result<_, _>>().expect("a name and its SQL")
}

#[test]
fn migrate_prints_sql_that_creates_what_migrate_creates() {
    let sandbox = Sandbox::new();
    for table in ["db_mutex_locks", "other_locks"] {
        let by_hand = format!("{table}-by-hand.db");
        let printed = sandbox.run(["--table", table, "migrate", "--print"]);
        assert_eq!((printed.code(), &*printed.stderr), (Some(0), ""));
        assert!(sandbox.is_untouched());
        open(&sandbox.path(&by_hand)).execute_batch(&printed.stdout).unwrap();
        let migrated = format!("{table}-migrated.db");
        sandbox.run(["--url", &format!("sqlite:{migrated}"), "--table", table, "migrate"]).assert_silent_success();
        assert_eq!(schema(&sandbox, &by_hand), schema(&sandbox, &migrated));
        assert_eq!(schema(&sandbox, &by_hand).len(), 2);

        let url = format!("sqlite:{by_hand}");
        sandbox.run(["--url", &url, "--table", table, "run", "job", "--", "true"]).assert_silent_success();
        let shown = sandbox.run(["--url", &url, "--table", table, "show", "job", "--json"]);
        assert_eq!(serde_json::from_str::<Value>(&shown.stdout).unwrap()["state"], "free");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_command_without_a_word() {
    let sandbox = Sandbox::new();
    sandbox.run(["run", "done", "--", "true"]).assert_silent_success();
    for arguments in
        ["list --all", "list --all --json", "show done", "migrate --print", "--help", "completions bash", "man"]
    {
        // The reader is gone before the first byte.
        let line = format!("{{ sleep 0.3; {} {arguments}; echo $? >&2; }} | true", env!("CARGO_BIN_EXE_db-mutex"));
        let mut shell = sandbox.program("sh");
        shell.args(["-c", &line]);
        let ended = sandbox.spawn(shell).wait();
        assert_eq!(ended.stderr, "141\n", "{arguments}: {ended:?}");
    }
}
