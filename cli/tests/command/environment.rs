use std::time::Duration;

use crate::sandbox::Sandbox;

const WRITE_ENVIRONMENT: &str = "env | grep ^DB_MUTEX_ | sort > environment";

/// The variables that the command was given, by name.
fn variable(sandbox: &Sandbox, name: &str) -> Option<String> {
    let text = sandbox.read("environment");
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// How long after its acquisition the lock of `job` was to expire.
fn ttl_told(sandbox: &Sandbox) -> Duration {
    let time = |text: &str| humantime::parse_rfc3339(text).expect("a time in RFC 3339");
    let expires_at = time(&variable(sandbox, "DB_MUTEX_EXPIRES_AT").expect("an end"));
    let acquired_at = time(sandbox.show("job")["acquired_at"].as_str().expect("a time"));
    expires_at.duration_since(acquired_at).expect("an end after the beginning")
}

#[test]
fn the_command_is_told_name_fence_owner_and_end() {
    let sandbox = Sandbox::new();
    sandbox.run(["run", "job", "--ttl", "90s", "-c", WRITE_ENVIRONMENT]).assert_silent_success();
    assert_eq!(variable(&sandbox, "DB_MUTEX_NAME").unwrap(), "job");
    assert_eq!(variable(&sandbox, "DB_MUTEX_FENCE").unwrap(), sandbox.show("job")["fence"].to_string());
    let owner = variable(&sandbox, "DB_MUTEX_OWNER").unwrap();
    assert!(owner.len() == 32 && owner.chars().all(|c| c.is_ascii_hexdigit()), "{owner}");
    assert_eq!(ttl_told(&sandbox), Duration::from_secs(90));
    sandbox.run(["run", "job", "-c", WRITE_ENVIRONMENT]).assert_silent_success();
    assert_ne!(variable(&sandbox, "DB_MUTEX_OWNER").unwrap(), owner);
}

#[test]
fn a_lock_without_an_end_never_expires() {
    let sandbox = Sandbox::new();
    sandbox.run(["run", "job", "--ttl", "none", "-c", WRITE_ENVIRONMENT]).assert_silent_success();
    assert_eq!(variable(&sandbox, "DB_MUTEX_EXPIRES_AT").unwrap(), "never");
}

/// So a command that locks something itself does so in the same place. A URL that was not in the environment does not get
/// there, for it may have a password in it.
#[test]
fn the_command_has_the_url_of_the_environment_and_no_other() {
    let sandbox = Sandbox::new();
    let line = format!("{WRITE_ENVIRONMENT}; env > all");
    let mut by_option = sandbox.command(["--url", "sqlite:canary-option.db", "run", "job", "-c", &line]);
    by_option.env_remove("DB_MUTEX_URL");
    sandbox.spawn(by_option).wait().assert_silent_success();
    assert_eq!(variable(&sandbox, "DB_MUTEX_URL"), None);
    assert!(!sandbox.read("all").contains("canary"));
    // It was heard, though.
    assert!(sandbox.path("canary-option.db").exists() && sandbox.is_untouched());

    let mut by_variable = sandbox.command(["run", "job", "-c", &line]);
    by_variable.env("DB_MUTEX_URL", "sqlite:canary-variable.db");
    sandbox.spawn(by_variable).wait().assert_silent_success();
    assert_eq!(variable(&sandbox, "DB_MUTEX_URL").as_deref(), Some("sqlite:canary-variable.db"));
}

#[test]
fn the_same_file_is_used_from_every_directory() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("elsewhere")).unwrap();
    let holder = sandbox.hold("job", &[]);
    let mut other = sandbox.command(["run", "job", "--", "true"]);
    other.current_dir(sandbox.path("elsewhere"));
    sandbox.spawn(other).wait().assert_refusal(75);
    assert!(!sandbox.is_untouched());
    drop(holder);
}

#[test]
fn the_ttl_variable_is_heard_and_the_option_is_louder() {
    let sandbox = Sandbox::new();
    for (variable, options, seconds) in [("7200", &[][..], 7200), ("7200", &["--ttl", "5m"], 300)] {
        let mut command = sandbox.command([&["run", "job"], options, &["-c", WRITE_ENVIRONMENT]].concat());
        command.env("DB_MUTEX_TTL_SECONDS", variable);
        sandbox.spawn(command).wait().assert_silent_success();
        assert_eq!(ttl_told(&sandbox), Duration::from_secs(seconds));
    }
    let mut never = sandbox.command(["run", "job", "-c", WRITE_ENVIRONMENT]);
    never.env("DB_MUTEX_TTL_SECONDS", "none");
    sandbox.spawn(never).wait().assert_silent_success();
    assert_eq!(variable(&sandbox, "DB_MUTEX_EXPIRES_AT").unwrap(), "never");
    sandbox.run(["run", "job", "-c", WRITE_ENVIRONMENT]).assert_silent_success();
    assert_eq!(ttl_told(&sandbox), Duration::from_secs(1800));
}

#[test]
fn a_ttl_variable_that_is_none_is_refused_by_name() {
    let sandbox = Sandbox::new();
    for bad in ["abc", "", "0", "-5", "30m", "0.1", "0.9"] {
        let mut command = sandbox.command(["run", "job", "-c", "echo started > started"]);
        command.env("DB_MUTEX_TTL_SECONDS", bad);
        let refused = sandbox.spawn(command).wait();
        assert!(refused.assert_refusal(64).contains("DB_MUTEX_TTL_SECONDS"), "{refused:?}");
    }
    assert_eq!(sandbox.read("started"), "");
    assert!(sandbox.rows().is_empty());
}
