use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::sandbox::Sandbox;

/// A lock that stays taken without a process that holds it.
fn take_for_long(sandbox: &Sandbox, name: &str) {
    sandbox.run(["run", name, "--hold-at-least", "20m", "--", "true"]).assert_silent_success();
}

#[test]
fn the_commands_own_code_comes_back_and_nothing_is_printed() {
    let sandbox = Sandbox::new();
    for code in [0, 1, 7, 64, 75, 124, 125, 126, 127, 128, 255] {
        let ended = sandbox.run(["run", "job", "-c", &format!("exit {code}")]);
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (Some(code), "", ""));
        assert_eq!(sandbox.state("job"), "free");
    }
}

#[test]
fn the_commands_own_words_come_through_and_no_others() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run(["run", "job", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (Some(3), "out\n", "err\n"));
}

#[test]
fn a_held_lock_is_75_or_what_was_asked_for_and_the_command_does_not_start() {
    let sandbox = Sandbox::new();
    take_for_long(&sandbox, "job");
    let cases: &[(&[&str], i32)] = &[
        (&[], 75),
        (&["--on-held", "fail"], 75),
        (&["--wait", "0s"], 75),
        (&["--wait", "300ms"], 75),
        (&["-E", "9"], 9),
        (&["-E", "255", "--wait", "10ms"], 255),
    ];
    for (options, code) in cases {
        let refused = sandbox.run([&["run", "job"], *options, &["-c", "echo started > started"]].concat());
        let line = refused.assert_refusal(*code);
        assert!(line.contains("`job`") && line.contains(" pid "), "{line}");
    }
    for options in [&["--on-held", "skip"][..], &["--on-held", "skip", "-E", "9", "--wait", "10ms"]] {
        sandbox.run([&["run", "job"], options, &["-c", "echo started > started"]].concat()).assert_silent_success();
    }
    assert_eq!(sandbox.read("started"), "");
}

#[test]
fn a_held_lock_does_not_hold_up_another_name() {
    let sandbox = Sandbox::new();
    take_for_long(&sandbox, "job");
    for other in ["Job", "job ", "jöb", "job2"] {
        sandbox.run(["run", other, "--", "true"]).assert_silent_success();
    }
}

#[test]
fn what_cannot_be_executed_is_126_and_what_is_not_there_127() {
    let sandbox = Sandbox::new();
    sandbox.write("plain", "#!/bin/sh\n");
    sandbox.write("bad-interpreter", "#!/no/such/interpreter\n");
    fs::set_permissions(sandbox.path("bad-interpreter"), fs::Permissions::from_mode(0o755)).unwrap();
    for (command, code) in [
        ("./plain", 126),
        (".", 126),
        ("/", 126),
        ("./absent", 127),
        ("no-such-command", 127),
        ("", 127),
        ("./bad-interpreter", 127),
    ] {
        sandbox.run(["run", "job", "--", command]).assert_refusal(code);
        assert!(sandbox.rows().iter().all(|row| row["state"] == "free"), "{command}");
    }
}

#[test]
fn what_is_said_wrongly_is_64_and_what_fails_125() {
    let sandbox = Sandbox::new();
    sandbox.run(["run", "job", "--no-such-option", "--", "true"]).assert_refusal(64);
    sandbox.run(["no-such-command"]).assert_refusal(64);
    sandbox.run(["run"]).assert_refusal(64);
    sandbox.run(["run", "job", "-c", "true", "--", "true"]).assert_refusal(64);
    sandbox.run(["run", "job", "-E", "300", "--", "true"]).assert_refusal(64);
    sandbox.run(["run", "job", "--on-held", "wait", "--", "true"]).assert_refusal(64);
    sandbox.run(["--url", "sqlite:.", "run", "job", "--", "true"]).assert_refusal(125);
}

#[test]
fn help_and_version_are_no_failures() {
    let sandbox = Sandbox::new();
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"], &["man"], &["completions", "bash"]] {
        let ended = sandbox.run(arguments);
        assert_eq!((ended.code(), &*ended.stderr), (Some(0), ""), "{ended:?}");
        assert!(!ended.stdout.is_empty(), "{arguments:?}");
    }
}
