use std::io::Write;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::pty::Shell;
use crate::running::eventually;
use crate::sandbox::Sandbox;

#[test]
fn wait_returns_when_the_lock_is_free_and_takes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.run(["migrate"]).assert_silent_success();
    sandbox.run(["wait", "job"]).assert_silent_success();
    sandbox.run(["wait", "job", "--timeout", "0s"]).assert_silent_success();
    let holder = sandbox.hold("job", &[]);
    let refused = sandbox.run(["wait", "job", "--timeout", "300ms"]);
    assert!(refused.assert_refusal(75).contains(&format!(" pid {}", holder.pid())), "{refused:?}");
    let (waiting, fence) = (sandbox.start(["wait", "job"]), sandbox.show("job")["fence"].clone());
    holder.signal(Signal::SIGTERM);
    waiting.wait().assert_silent_success();
    let row = sandbox.show("job");
    assert_eq!((&row["state"], &row["fence"]), (&"free".into(), &fence));
    drop(holder);
}

#[test]
fn wait_ends_when_a_lock_expires_and_when_a_rest_is_over() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("job", &["--ttl", "1s"]);
    holder.signal(Signal::SIGKILL);
    sandbox.run(["wait", "job"]).assert_silent_success();
    assert_eq!(sandbox.state("job"), "expired");
    sandbox.run(["run", "job", "--hold-at-least", "1s", "--", "true"]).assert_silent_success();
    sandbox.run(["wait", "job"]).assert_silent_success();
    assert_eq!(sandbox.state("job"), "free");
    drop(holder);
}

/// A word on the command line that is `run` makes no run of it.
#[test]
fn wait_for_a_lock_called_run_ends_by_a_signal() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("run", &[]);
    let waiting = sandbox.start(["wait", "run"]);
    eventually("waiting has begun", || waiting.has_open(&sandbox.database()).then_some(()));
    waiting.signal(Signal::SIGTERM);
    waiting.wait().assert_silent_death(Signal::SIGTERM);
    drop(holder);
}

#[test]
fn wait_refuses_what_is_no_name_or_timeout() {
    let sandbox = Sandbox::new();
    sandbox.run(["wait", ""]).assert_refusal(64);
    sandbox.run(["wait", "job", "--timeout", "-1s"]).assert_refusal(64);
    sandbox.run(["wait", "job", "--timeout", "soon"]).assert_refusal(64);
    assert!(sandbox.run(["--url", "sqlite:absent.db", "wait", "job"]).assert_refusal(125).contains("does not exist"));
}

/// Each line is the whole list, as `list --json` has it.
#[test]
fn watch_prints_a_line_of_json_for_each_change() {
    let sandbox = Sandbox::new();
    sandbox.run(["migrate"]).assert_silent_success();
    let script = format!("exec {} list --watch --json > watched", env!("CARGO_BIN_EXE_db-mutex"));
    let mut watch = sandbox.program("sh");
    watch.args(["-c", &script]);
    let watch = sandbox.spawn(watch);
    let lists = |count: usize| {
        eventually(&format!("{count} lists"), || {
            let text = sandbox.read("watched");
            let lists: Vec<Vec<Value>> = text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
            (lists.len() >= count).then_some(lists)
        })
    };
    assert_eq!(lists(1)[0].len(), 0);
    let holder = sandbox.hold("job", &[]);
    assert_eq!(lists(2)[1][0]["lock_id"], "job");
    holder.signal(Signal::SIGTERM);
    holder.wait();
    let all = lists(3);
    // Time that passes is no change.
    assert!(all.len() == 3 && all[2].is_empty(), "{all:?}");
    watch.signal(Signal::SIGINT);
    watch.wait().assert_silent_death(Signal::SIGINT);
}

#[test]
fn watch_prints_a_table_for_each_change_where_there_is_no_terminal() {
    let sandbox = Sandbox::new();
    let holder = sandbox.hold("first", &[]);
    let script = format!("exec {} list --watch > watched", env!("CARGO_BIN_EXE_db-mutex"));
    let mut watch = sandbox.program("sh");
    watch.args(["-c", &script]);
    let watch = sandbox.spawn(watch);
    eventually("a table is printed", || sandbox.read("watched").contains("first ").then_some(()));
    let other = sandbox.hold("second", &[]);
    eventually("a second table is printed", || sandbox.read("watched").contains("second ").then_some(()));
    let text = sandbox.read("watched");
    assert_eq!((text.matches("NAME").count(), text.matches("\n\n").count()), (2, 1), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
    watch.signal(Signal::SIGTERM);
    watch.wait().assert_silent_death(Signal::SIGTERM);
    drop((holder, other));
}

/// A terminal is redrawn on its other screen, and is as before after Ctrl-C.
#[test]
fn watch_redraws_a_terminal_and_restores_it() {
    let sandbox = Sandbox::new();
    sandbox.run(["migrate"]).assert_silent_success();
    sandbox.write("session.sh", "\"$DB_MUTEX\" list --all --watch; echo code:$? > code\n");
    let mut script = sandbox.program("script");
    script.args(["--quiet", "--flush", "--command", "sh session.sh", "typescript"]);
    script.env("DB_MUTEX", env!("CARGO_BIN_EXE_db-mutex")).env("SHELL", "/bin/sh").env("TERM", "xterm");
    let (keys, mut keyboard) = std::io::pipe().unwrap();
    script.stdin(keys);
    let session = sandbox.spawn(script);
    let screen =
        || String::from_utf8_lossy(&std::fs::read(sandbox.path("typescript")).unwrap_or_default()).into_owned();
    eventually("the table is drawn", || screen().contains("NAME").then_some(()));
    sandbox.run(["run", "job", "--", "true"]).assert_silent_success();
    eventually("the table is drawn again", || screen().contains("job ").then_some(()));
    keyboard.write_all(b"\x03").unwrap();
    // The shell may end with it.
    session.wait();
    let screen = screen();
    let (enter, leave) = (screen.find("\u{1b}[?1049h").unwrap(), screen.rfind("\u{1b}[?1049l").unwrap());
    assert!(enter < leave && screen[leave..].find("NAME").is_none(), "{screen:?}");
    assert!(screen.contains("\u{1b}[?25h"), "the cursor is back: {screen:?}");
}

/// The other screen is left each time that the shell comes back, and entered again with `fg`.
#[test]
fn watch_leaves_the_screen_when_it_is_stopped_or_quit() {
    let sandbox = Sandbox::new();
    sandbox.run(["migrate"]).assert_silent_success();
    let mut shell = Shell::start(&sandbox);
    let count = |shell: &Shell, text: &str| shell.screen().matches(text).count();
    let (enter, leave) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    let number = shell.send("ulimit -c 0; $DB_MUTEX list --watch");
    eventually("it watches", || (count(&shell, enter) == 1).then_some(()));
    shell.keys("\x1a");
    shell.code(number);
    assert_eq!((count(&shell, enter), count(&shell, leave)), (1, 1));
    let number = shell.send("fg");
    eventually("it watches again", || (count(&shell, enter) == 2).then_some(()));
    shell.keys("\x1c");
    assert_eq!(shell.code(number), 128 + 3);
    assert_eq!(count(&shell, leave), 2);
}
