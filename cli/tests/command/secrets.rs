use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::sandbox::Sandbox;
use crate::servers::{execute, login_of, unique, url, url_of};

fn without_a_url(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command(arguments);
    command.env_remove("DB_MUTEX_URL");
    command
}

#[test]
fn the_url_may_be_in_a_file() {
    let sandbox = Sandbox::new();
    sandbox.write("url", "sqlite:from-file.db\n");
    let mut by_option = without_a_url(&sandbox, &["--url-file", "url", "run", "job", "--", "true"]);
    // The option takes precedence.
    by_option.env("DB_MUTEX_URL", "sqlite:environment.db");
    sandbox.spawn(by_option).wait().assert_silent_success();
    assert!(sandbox.path("from-file.db").exists() && !sandbox.path("environment.db").exists());

    sandbox.write("url", "sqlite:from-variable.db\r\nand more\n");
    let mut by_variable = without_a_url(&sandbox, &["run", "job", "--", "true"]);
    by_variable.env("DB_MUTEX_URL_FILE", sandbox.path("url"));
    sandbox.spawn(by_variable).wait().assert_silent_success();
    assert!(sandbox.path("from-variable.db").exists());

    let mut argument = without_a_url(&sandbox, &["--url", "sqlite:argument.db", "run", "job", "--", "true"]);
    argument.env("DB_MUTEX_URL_FILE", "/nowhere").env("DB_MUTEX_URL", "sqlite:environment.db");
    sandbox.spawn(argument).wait().assert_silent_success();
    assert!(sandbox.path("argument.db").exists() && !sandbox.path("environment.db").exists());
}

#[test]
fn a_url_that_is_named_twice_or_cannot_be_read_is_refused() {
    let sandbox = Sandbox::new();
    for (text, code, says) in [
        ("", 64, "is empty"),
        ("\nsqlite:a.db\n", 64, "is empty"),
        ("s3cret-canary\n", 64, "no scheme"),
        ("redis://u:s3cret-canary@h/d\n", 64, "scheme is unknown"),
        ("postgres://u:s3cret-canary@h:x/d\n", 64, "port is"),
    ] {
        sandbox.write("url", text);
        let refused = sandbox.run(["--url-file", "url", "run", "job", "--", "touch", "ran"]);
        assert!(refused.assert_refusal(code).contains(says), "{refused:?}");
        assert!(!refused.stderr.contains("s3cret"), "{refused:?}");
    }
    let refused = sandbox.run(["--url-file", "absent", "run", "job", "--", "touch", "ran"]);
    assert!(refused.assert_refusal(125).contains("\"absent\""), "{refused:?}");
    let refused = sandbox.run(["--url-file", "url", "--url", "sqlite:a.db", "run", "job", "--", "touch", "ran"]);
    assert!(refused.assert_refusal(64).contains("cannot be used with"), "{refused:?}");
    let mut both = sandbox.command(["run", "job", "--", "touch", "ran"]);
    both.env("DB_MUTEX_URL_FILE", "url");
    let refused = sandbox.spawn(both).wait();
    assert!(refused.assert_refusal(64).contains("both set"), "{refused:?}");
    assert!(!sandbox.path("ran").exists());
}

/// Runs db-mutex on PostgreSQL with a URL without a password, in this environment.
fn on_postgres(sandbox: &Sandbox, environment: &[(&str, &str)]) -> crate::running::Finished {
    let (user, _) = login_of(&url("postgres"));
    let url = url_of("postgres", &user);
    let mut command =
        sandbox.command(["--url", &url, "--table", "cli_secrets", "run", "job", "--wait", "60s", "--", "true"]);
    command.envs(environment.iter().copied());
    sandbox.spawn(command).wait()
}

/// A file for its owner alone.
fn secret_file(sandbox: &Sandbox, name: &str, text: &str) -> String {
    sandbox.write(name, text);
    fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(0o600)).expect("a file of ours");
    sandbox.path(name).display().to_string()
}

#[test]
fn postgresql_passwords_are_found_where_psql_finds_them() {
    let sandbox = Sandbox::new();
    let url = url("postgres");
    let (user, password) = login_of(&url);
    let place = url.rsplit_once('@').unwrap().1;
    let (address, database) = place.split_once('/').unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let database = database.split('?').next().unwrap();

    let missing = on_postgres(&sandbox, &[]);
    assert!(missing.assert_refusal(125).contains("password"), "{missing:?}");
    on_postgres(&sandbox, &[("PGPASSWORD", &password)]).assert_silent_success();
    let line = format!("# ours\nelsewhere:*:*:*:wrong\n{host}:{port}:{database}:{user}:{password}\n*:*:*:*:wrong\n");
    let file = secret_file(&sandbox, "passwords", &line);
    on_postgres(&sandbox, &[("PGPASSFILE", &file)]).assert_silent_success();
    // The sandbox is the home.
    secret_file(&sandbox, ".pgpass", &format!("*:*:*:*:{password}\n"));
    on_postgres(&sandbox, &[]).assert_silent_success();
    // Each of these counts before the next.
    let wrong = secret_file(&sandbox, "wrong", "*:*:*:*:s3cret-canary-but-wrong\n");
    for environment in [&[("PGPASSFILE", &*wrong)][..], &[("PGPASSWORD", "s3cret-canary-but-wrong")]] {
        let refused = on_postgres(&sandbox, environment);
        assert!(!refused.assert_refusal(125).contains("s3cret"), "{refused:?}");
    }
    on_postgres(&sandbox, &[("PGPASSWORD", &password), ("PGPASSFILE", &wrong)]).assert_silent_success();
    // A password in the URL counts before all.
    let mut command = sandbox.command(["--url", &url, "--table", "cli_secrets", "list"]);
    command.env("PGPASSWORD", "s3cret-canary-but-wrong");
    assert_eq!(sandbox.spawn(command).wait().code(), Some(0));
}

#[test]
fn a_password_file_that_others_can_read_is_ignored_with_a_warning() {
    let sandbox = Sandbox::new();
    let (_, password) = login_of(&url("postgres"));
    let file = secret_file(&sandbox, "passwords", &format!("*:*:*:*:{password}\n"));
    for mode in [0o644, 0o640, 0o604] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let refused = on_postgres(&sandbox, &[("PGPASSFILE", &file)]);
        assert_eq!(refused.code(), Some(125), "{refused:?}");
        let warning = refused.stderr.lines().next().unwrap_or_default();
        assert!(warning.contains(&file) && warning.contains("chmod 0600"), "{refused:?}");
        assert!(!refused.stderr.contains("s3cret"), "{refused:?}");
    }
    let folder = sandbox.path("state").display().to_string();
    assert!(on_postgres(&sandbox, &[("PGPASSFILE", &folder)]).stderr.contains("not a plain file"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    on_postgres(&sandbox, &[("PGPASSFILE", &file)]).assert_silent_success();
}

/// Every special character there is in URLs and in password files.
#[test]
fn a_password_of_special_characters_arrives_as_it_is() {
    let sandbox = Sandbox::new();
    let (role, password) = (unique("special"), r#"a:b\c/d@e?f#g%41&h=i j'k"lü"#);
    execute("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", password.replace('\'', "''")));
    let url = url_of("postgres", &role);
    let escaped = password.replace('\\', r"\\").replace(':', r"\:");
    let file = secret_file(&sandbox, "passwords", &format!("*:*:*:{role}:{escaped}\n"));
    for (variable, value) in [("PGPASSWORD", password), ("PGPASSFILE", &file)] {
        let mut command = sandbox.command(["--url", &url, "--table", "cli_no_such_table", "list"]);
        command.env(variable, value);
        let ended = sandbox.spawn(command).wait();
        // It got in; the table is the next obstacle.
        assert!(ended.assert_refusal(125).contains("table"), "{ended:?}");
    }
    execute("postgres", &format!("DROP ROLE {role}"));
}

#[test]
fn mysql_passwords_are_taken_from_mysql_pwd() {
    let sandbox = Sandbox::new();
    let url = url("mariadb");
    let (user, password) = login_of(&url);
    let bare = url_of("mariadb", &user);
    let run = |url: &str, password: Option<&str>| {
        let mut command =
            sandbox.command(["--url", url, "--table", "cli_secrets", "run", "job", "--wait", "60s", "--", "true"]);
        command.envs(password.map(|password| ("MYSQL_PWD", password)));
        sandbox.spawn(command).wait()
    };
    assert!(run(&bare, None).assert_refusal(125).contains("login"));
    run(&bare, Some(&password)).assert_silent_success();
    run(&url, Some("s3cret-canary-but-wrong")).assert_silent_success();
    let refused = run(&bare, Some("s3cret-canary-but-wrong"));
    assert!(!refused.assert_refusal(125).contains("s3cret"), "{refused:?}");
}
