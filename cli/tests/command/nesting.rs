use crate::default_file::at_home;
use crate::sandbox::Sandbox;

/// A shell line that runs db-mutex with these arguments under another lock, and what became of it.
fn inner(arguments: &str) -> String {
    format!("code=0; {} {arguments} 2> said || code=$?; echo $code > code", env!("CARGO_BIN_EXE_db-mutex"))
}

/// Runs that line under the lock `outer`, with the URL as an argument.
fn nested(sandbox: &Sandbox, arguments: &str) -> (String, String) {
    let ended = sandbox.run(["--url", "sqlite:a.db", "run", "outer", "-c", &inner(arguments)]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    (sandbox.read("code"), sandbox.read("said"))
}

#[test]
fn a_lock_that_the_outer_command_holds_is_refused_at_once() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("a.db", sandbox.path("link.db")).unwrap();
    for (arguments, code) in [
        ("--url sqlite:a.db run outer -- true", "75\n"),
        ("--url sqlite:a.db run outer --wait forever -- true", "75\n"),
        ("--url sqlite://./link.db run outer --wait forever -- true", "75\n"),
        ("--url sqlite:a.db run outer --wait forever -E 9 -- true", "9\n"),
    ] {
        let (ended, said) = nested(&sandbox, arguments);
        assert_eq!(ended, code, "{arguments}: {said}");
        assert!(said.contains("`outer`") && said.contains("wait for itself"), "{arguments}: {said}");
    }
    let skipped = nested(&sandbox, "--url sqlite:a.db run outer --wait forever --on-held skip -- true");
    assert_eq!(skipped, ("0\n".into(), String::new()));
}

#[test]
fn the_outermost_of_three_is_found_too() {
    let sandbox = Sandbox::new();
    let db = env!("CARGO_BIN_EXE_db-mutex");
    let line = format!("--url sqlite:a.db run middle -- {db} --url sqlite:a.db run outer --wait forever -- true");
    let (code, said) = nested(&sandbox, &line);
    assert!(code == "75\n" && said.contains("wait for itself"), "{code} {said}");
}

#[test]
fn another_lock_table_or_database_is_no_reason_to_refuse() {
    let sandbox = Sandbox::new();
    for arguments in [
        "--url sqlite:a.db run inner -- true",
        "--url sqlite:a.db run OUTER --wait 1s -- true",
        "--url sqlite:a.db --table other run outer -- true",
        "--url sqlite:b.db run outer -- true",
    ] {
        assert_eq!(nested(&sandbox, arguments), ("0\n".into(), String::new()), "{arguments}");
    }
}

/// The entry of a lock that the outer command has lost names an acquisition that is over.
#[test]
fn a_lock_that_another_has_by_now_is_waited_for() {
    let sandbox = Sandbox::new();
    let db = format!("{} --url sqlite:a.db", env!("CARGO_BIN_EXE_db-mutex"));
    let line = format!(
        "{db} release outer --force > released; {db} run outer --hold-at-least 20m -- true
         code=0; {db} run outer --wait 100ms -- true 2> said || code=$?; echo $code > code"
    );
    let ended = sandbox.run(["--url", "sqlite:a.db", "run", "outer", "-c", &line]);
    assert_eq!(ended.code(), Some(124), "{ended:?}");
    let said = sandbox.read("said");
    assert!(sandbox.read("code") == "75\n" && said.contains("is held by") && !said.contains("itself"), "{said}");
}

#[test]
fn each_run_adds_an_entry_in_which_no_place_can_be_read() {
    let sandbox = Sandbox::new();
    let db = env!("CARGO_BIN_EXE_db-mutex");
    let line = format!("exec {db} --url sqlite:a.db run 'the inner: 1' -c 'echo $DB_MUTEX_HELD > held'");
    sandbox.run(["run", "outer", "-c", &line]).assert_silent_success();
    let held = sandbox.read("held");
    let entries: Vec<Vec<_>> = held.trim().split(' ').map(|entry| entry.split(':').collect()).collect();
    assert_eq!(entries.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4], "{held}");
    assert_eq!((entries[0][0], entries[1][0]), ("environment", "argument"), "{held}");
    assert_eq!((entries[0][3], entries[1][3]), ("outer", "the%20inner%3A%201"), "{held}");
    assert_eq!(entries[0][2], sandbox.show("outer")["fence"].to_string());
    assert_ne!(entries[0][1], entries[1][1]);
    assert!(!held.contains("sqlite") && !held.contains(".db"), "{held}");
}

/// In a home of its own, where a command that is not refused would lock.
#[test]
fn an_inner_command_without_a_url_does_not_lock_somewhere_else() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("home")).unwrap();
    sandbox.write("url", "sqlite:a.db\n");
    for origin in ["--url sqlite:a.db", "--url-file url"] {
        for arguments in
            ["run inner -- touch ran", "run outer --wait forever -- touch ran", "list", "release inner --force"]
        {
            sandbox.write("inner.sh", &inner(arguments));
            let ended = at_home(&sandbox, Some("home"), &format!("exec $db {origin} run outer -- sh inner.sh"));
            ended.assert_silent_success();
            let said = sandbox.read("said");
            assert_eq!(sandbox.read("code"), "64\n", "{arguments}: {said}");
            assert!(said.contains("`outer`") && said.contains("--url") && said.contains("DB_MUTEX_URL"), "{said}");
        }
    }
    assert!(!sandbox.path("ran").exists() && !sandbox.path("home/.local").exists());
}

#[test]
fn what_else_is_in_the_variable_is_of_no_account() {
    let sandbox = Sandbox::new();
    for held in ["", " ", "nonsense", "argument:x:y:z", "file:1:1", "\u{fc}"] {
        let mut command = sandbox.command(["run", "job", "--", "true"]);
        command.env("DB_MUTEX_HELD", held);
        sandbox.spawn(command).wait().assert_silent_success();
    }
}
