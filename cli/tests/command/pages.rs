use crate::sandbox::Sandbox;

const COMMANDS: [&str; 9] = ["run", "list", "show", "wait", "release", "purge", "migrate", "completions", "man"];

#[test]
fn the_help_of_run_is_grouped_and_has_examples() {
    let sandbox = Sandbox::new();
    let help = sandbox.run(["run", "--help"]).stdout;
    for part in [
        "\nLock:\n",
        "\nCommand:\n",
        "\nWhen the lock is held:\n",
        "\nWhen the lock is lost:\n",
        "\nWhen the command ends:\n",
        "\nDatabase:\n",
        "\nExamples:\n",
        "--descendants <leave|wait|end>",
        "--release-timeout",
        "--url-file",
        "Run this shell command line instead of CMD",
        "A description of this run",
    ] {
        assert!(help.contains(part), "no {part:?} in {help}");
    }
    for line in help.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn help_is_a_command_too() {
    let sandbox = Sandbox::new();
    for (words, option) in [(["help", "run"], ["run", "--help"]), (["help", "list"], ["list", "--help"])] {
        let help = sandbox.run(words);
        assert_eq!((help.code(), &*help.stderr), (Some(0), ""));
        assert!(help.stdout.contains("Usage: db-mutex "), "{help:?}");
        assert_eq!(help.stdout, sandbox.run(option).stdout);
    }
    assert!(sandbox.run(["help", "nonsense"]).assert_refusal(64).contains("nonsense"));
}

#[test]
fn options_of_the_database_may_follow_the_command() {
    let sandbox = Sandbox::new();
    sandbox.run(["run", "--url", "sqlite:a.db", "--table", "ours", "job", "--", "true"]).assert_silent_success();
    let shown = sandbox.run(["show", "job", "--url", "sqlite:a.db", "--table", "ours", "--json"]);
    assert_eq!(shown.code(), Some(0), "{shown:?}");
}

#[test]
fn each_command_has_a_page() {
    let sandbox = Sandbox::new();
    for folder in ["man", "man", "not/there/yet"] {
        sandbox.run(["man", "--dir", folder]).assert_silent_success();
    }
    let main = sandbox.run(["man"]);
    assert_eq!(main.stdout, sandbox.read("man/db-mutex.1"));
    for command in COMMANDS {
        let page = sandbox.run(["man", command]);
        assert_eq!((page.code(), &*page.stdout), (Some(0), &*sandbox.read(&format!("man/db-mutex-{command}.1"))));
        let name = format!("db\\-mutex\\-{command} \\- ");
        assert!(page.stdout.contains(&name), "no {name} in {}", page.stdout);
        assert!(main.stdout.contains(&format!("db\\-mutex\\-{command}(1)")), "{command}: {}", main.stdout);
    }
    let run = sandbox.run(["man", "run"]).stdout;
    for section in
        [".SH LOCK", ".SH \"WHEN THE LOCK IS HELD\"", ".SH \"EXIT STATUS\"", ".SH ENVIRONMENT", ".SH EXAMPLES"]
    {
        assert!(run.contains(section), "no {section} in {run}");
    }
    assert_eq!(std::fs::read_dir(sandbox.path("man")).unwrap().count(), COMMANDS.len() + 1);
}

#[test]
fn a_page_that_there_is_not_is_refused() {
    let sandbox = Sandbox::new();
    assert!(sandbox.run(["man", "nonsense"]).assert_refusal(64).contains("run, list, show"));
    sandbox.write("file", "");
    assert!(sandbox.run(["man", "--dir", "file"]).assert_refusal(125).contains("file"));
}

#[test]
fn a_missing_separator_is_guessed() {
    let sandbox = Sandbox::new();
    let refused = sandbox.run(["run", "job", "sleep", "5"]);
    assert!(refused.assert_refusal(64).contains("write `db-mutex run job -- sleep 5`"), "{refused:?}");
    let refused = sandbox.run(["--url", "sqlite:s3cret-canary", "run", "job", "echo", "two words"]);
    assert!(refused.assert_refusal(64).contains("run job -- echo 'two words'`"), "{refused:?}");
    assert!(!refused.stderr.contains("s3cret"), "{refused:?}");
}
