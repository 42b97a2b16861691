//! What becomes of a command and its lock in each situation, beside flock(1): the table in docs/command.md is made here.
//!
//! `DB_MUTEX_BLESS=1 cargo test -p db-mutex-cli --test command matrix` writes the table again.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pty::Shell;
use crate::sandbox::Sandbox;

/// The page that has the table, between these two lines.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command.md");
const BEGIN: &str = "<!-- The tests of the command make this table. -->\n";
const END: &str = "<!-- Its end. -->\n";

/// Longer than the lease of a run in the table.
const PAST_THE_LEASE: Duration = Duration::from_secs(4);

/// A folder of its own, and the program that is put in front of a command.
struct Bench {
    sandbox: Sandbox,
    wrapper: String,
    is_flock: bool,
}

impl Bench {
    fn new(is_flock: bool) -> Self {
        let sandbox = Sandbox::new();
        let wrapper = match is_flock {
            true => format!("flock {}", sandbox.path("lock").display()),
            false => format!("{} run job --ttl 2s --", env!("CARGO_BIN_EXE_db-mutex")),
        };
        Self { sandbox, wrapper, is_flock }
    }

    fn is_free(&self) -> bool {
        let mut attempt = match self.is_flock {
            true => self.sandbox.program("flock"),
            false => self.sandbox.command(["run", "job", "--", "true"]),
        };
        if self.is_flock {
            attempt.arg("--nonblock").arg(self.sandbox.path("lock")).arg("true");
        }
        self.sandbox.spawn(attempt).wait().code() == Some(0)
    }

    fn child(&self) -> i32 {
        self.sandbox.wait_for_line("child").trim().parse().expect("a process id")
    }

    /// Whether the command is at work, and whether the lock is held.
    fn state(&self, child: i32) -> String {
        let command =
            if self.sandbox.is_at_work(u32::try_from(child).expect("a process id")) { "works on" } else { "ended" };
        // A release may take a moment.
        let is_free = (0..20).any(|_| {
            self.is_free() || {
                sleep(Duration::from_millis(50));
                false
            }
        });
        let lock = if is_free { "free" } else { "held" };
        format!("command {command}, lock {lock}")
    }

    /// Runs a line of a shell that knows `$W`.
    fn shell(&self, line: &str) -> ExitStatus {
        let mut shell = self.sandbox.program("bash");
        shell.args(["-c", line]).env("W", &self.wrapper);
        self.sandbox.spawn(shell).wait().status
    }

    fn terminal(&self) -> Shell {
        let mut shell = Shell::start(&self.sandbox);
        shell.run(&format!("W='{}'", self.wrapper));
        shell
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit {code}"),
        (_, Some(Ok(signal))) => format!("dies of {}", signal.as_str().trim_start_matches("SIG")),
        _ => "dies".into(),
    }
}

/// The situations, and what is seen in each.
type Situation = (&'static str, fn(&Bench) -> String);

const WORK: &str = "sh -c 'echo $$ > child; exec sleep 1000'";

fn signalled(bench: &Bench, signal: Signal) -> String {
    let mut shell = bench.sandbox.program("bash");
    shell.args(["-c", &format!("exec $W {WORK}")]).env("W", &bench.wrapper);
    let wrapper = bench.sandbox.spawn(shell);
    let child = bench.child();
    wrapper.signal(signal);
    if signal == Signal::SIGSTOP {
        sleep(PAST_THE_LEASE);
        let state = bench.state(child);
        wrapper.signal(Signal::SIGCONT);
        if bench.is_flock {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            return state;
        }
        return format!("{state}; then {}", ended(wrapper.wait().status));
    }
    let status = wrapper.wait().status;
    sleep(if signal == Signal::SIGKILL { PAST_THE_LEASE } else { Duration::from_millis(300) });
    let state = bench.state(child);
    let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
    format!("{}; {state}", ended(status))
}

fn keys(bench: &Bench, keys: &str) -> String {
    let mut shell = bench.terminal();
    let number = shell.send(&format!("$W {WORK}"));
    let child = bench.child();
    shell.keys(keys);
    let code = shell.code(number);
    sleep(Duration::from_millis(300));
    format!("$? is {code}; {}", bench.state(child))
}

const SITUATIONS: &[Situation] = &[
    ("the command exits with 3", |bench| ended(bench.shell("$W sh -c 'exit 3'"))),
    ("the command dies of TERM", |bench| ended(bench.shell("exec $W sh -c 'kill -TERM $$'"))),
    ("the command cannot be found", |bench| ended(bench.shell("$W ./no-such-command"))),
    ("stdin is closed", |bench| ended(bench.shell("$W true <&-"))),
    ("stdout is a full disk", |bench| ended(bench.shell("$W echo hi > /dev/full"))),
    ("an extra file descriptor", |bench| {
        let status = bench.shell("$W sh -c 'echo hi >&7' 7> seven");
        format!("{}, {} through it", ended(status), bench.sandbox.read("seven").trim())
    }),
    ("cron's environment", |bench| {
        ended(bench.shell("env -i PATH=/usr/bin:/bin DB_MUTEX_URL=$DB_MUTEX_URL HOME=$PWD setsid -w $W true"))
    }),
    ("under nohup", |bench| ended(bench.shell("nohup $W sh -c 'kill -HUP $$; exit 4'"))),
    ("under setsid", |bench| ended(bench.shell("setsid --wait $W sh -c 'exit 3'"))),
    ("as another user", |bench| {
        let status = bench.shell(
            "mkdir -p state/db-mutex && chmod -R 777 . && setpriv --reuid 65534 --clear-groups $W sh -c 'exit 3'",
        );
        ended(status)
    }),
    ("process 1 of a container", |bench| ended(bench.shell("unshare --pid --fork --mount-proc $W sh -c 'exit 3'"))),
    ("inside script(1)", |bench| {
        let status = bench.shell("script -qec \"$W sh -c 'test -t 0 && test -t 1 && exit 3'\" /dev/null");
        ended(status)
    }),
    ("kill -TERM of the wrapper", |bench| signalled(bench, Signal::SIGTERM)),
    ("kill -INT of the wrapper", |bench| signalled(bench, Signal::SIGINT)),
    ("kill -HUP of the wrapper", |bench| signalled(bench, Signal::SIGHUP)),
    ("kill -USR1 of the wrapper", |bench| signalled(bench, Signal::SIGUSR1)),
    ("kill -KILL of the wrapper", |bench| signalled(bench, Signal::SIGKILL)),
    ("kill -STOP of the wrapper, for longer than the lease", |bench| signalled(bench, Signal::SIGSTOP)),
    ("the command leaves a process behind", |bench| {
        let status = bench.shell("$W sh -c 'sleep 1000 & echo $! > child; exit 3'");
        let child = bench.child();
        let state = bench.state(child);
        let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        format!("{}; {state}", ended(status)).replace("command works", "it works")
    }),
    ("Ctrl-C", |bench| keys(bench, "\x03")),
    ("Ctrl-\\", |bench| keys(bench, "\x1c")),
    ("Ctrl-C in a script's loop", |bench| {
        bench.sandbox.write("loop.sh", &format!("for i in 1 2 3; do echo x >> begun; $W {WORK}; done\n"));
        let mut shell = bench.terminal();
        let number = shell.send("export W; bash loop.sh");
        bench.child();
        shell.keys("\x03");
        let code = shell.code(number);
        format!("$? is {code}, {} of 3 begun", bench.sandbox.read("begun").lines().count())
    }),
    ("Ctrl-Z, then fg", |bench| {
        let mut shell = bench.terminal();
        let number = shell.send("$W sh -c 'echo $$ > child; read line; exit 3'");
        let child = bench.child();
        shell.keys("\x1a");
        let stopped = shell.code(number);
        let number = shell.go_on_with(child, "\n");
        format!("$? is {stopped}, then {}", shell.code(number))
    }),
    ("Ctrl-Z for longer than the lease, then fg", |bench| {
        let mut shell = bench.terminal();
        let number = shell.send("$W sh -c 'echo $$ > child; read line; exit 3'");
        let child = bench.child();
        shell.keys("\x1a");
        let stopped = shell.code(number);
        sleep(PAST_THE_LEASE);
        let state = bench.state(child).replace("works on", "stands still");
        let number = shell.go_on_with(child, "\n");
        format!("$? is {stopped}; {state}; then $? is {}", shell.code(number))
    }),
    ("reads the terminal in the background, then fg", |bench| {
        let mut shell = bench.terminal();
        shell.run("$W sh -c 'echo $$ > child; read line; exit 3' &");
        let child = bench.child();
        shell.run("until jobs | grep -q Stopped; do sleep 0.05; done");
        let number = shell.go_on_with(child, "\n");
        format!("stopped, then $? is {}", shell.code(number))
    }),
    ("reads /dev/tty with a pipe for stdin", |bench| {
        let mut shell = bench.terminal();
        let number = shell.send("echo x | $W sh -c 'echo $$ > child; read line < /dev/tty; exit $line'");
        bench.child();
        shell.keys("3\n");
        format!("$? is {}", shell.code(number))
    }),
    ("a pager reads the terminal", |bench| {
        let mut shell = bench.terminal();
        bench.sandbox.write("pager.sh", "read key < /dev/tty; cat > /dev/null; exit $key\n");
        let number = shell.send("$W seq 20000 | sh pager.sh");
        sleep(Duration::from_millis(300));
        shell.keys("3\n");
        format!("$? is {}", shell.code(number))
    }),
    ("kill %1 in a shell: how often the command gets it", |bench| {
        bench.sandbox.write(
            "count.sh",
            "trap 'echo x >> got' TERM; trap 'exit 5' USR1; echo $$ > child; while :; do sleep 0.05; done\n",
        );
        let mut shell = bench.terminal();
        shell.run("$W bash count.sh &");
        let child = bench.child();
        sleep(Duration::from_millis(500));
        shell.run("kill %1");
        bench.sandbox.wait_for_line("got");
        sleep(Duration::from_millis(500));
        let got = bench.sandbox.read("got").lines().count();
        let _ = kill(Pid::from_raw(child), Signal::SIGUSR1);
        format!("{got} time{}", if got == 1 { "" } else { "s" })
    }),
    ("the terminal goes away", |bench| {
        let mut shell = bench.terminal();
        shell.send(&format!("$W {WORK}"));
        let child = bench.child();
        drop(shell);
        let give_up = Instant::now() + PAST_THE_LEASE;
        while bench.sandbox.is_at_work(u32::try_from(child).expect("a process id")) && Instant::now() < give_up {
            sleep(Duration::from_millis(50));
        }
        bench.state(child)
    }),
    ("a second run while the first is at work", |bench| {
        let mut first = bench.sandbox.program("bash");
        first.args(["-c", &format!("exec $W {WORK}")]).env("W", &bench.wrapper);
        let first = bench.sandbox.spawn(first);
        let child = bench.child();
        let second = if bench.is_flock { bench.wrapper.replace("flock", "flock -n") } else { bench.wrapper.clone() };
        let status = bench.shell(&format!("{second} true"));
        drop(first);
        let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        if bench.is_flock { format!("waits; with -n {}", ended(status)) } else { ended(status) }
    }),
];

#[test]
fn the_matrix_is_as_the_page_has_it() {
    let cells = thread::scope(|scope| {
        let seen: Vec<_> = SITUATIONS
            .iter()
            .map(|(_, see)| [true, false].map(|is_flock| scope.spawn(move || see(&Bench::new(is_flock)))))
            .collect();
        seen.into_iter().map(|both| both.map(|cell| cell.join().expect("a cell"))).collect::<Vec<_>>()
    });
    let rows = SITUATIONS.iter().zip(&cells);
    let rows = rows.map(|((name, _), [flock, ours])| format!("| {name} | {flock} | {ours} |\n"));
    let table = format!("| situation | flock(1) | db-mutex |\n|---|---|---|\n{}", rows.collect::<String>());
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("the beginning of the table");
    let (now, after) = rest.split_once(END).expect("the end of the table");
    if std::env::var_os("DB_MUTEX_BLESS").is_some() {
        std::fs::write(Path::new(PAGE), format!("{before}{BEGIN}\n{table}\n{END}{after}")).expect("the page");
    } else {
        let new: Vec<_> = table.lines().filter(|row| !now.lines().any(|old| old == *row)).collect();
        assert!(now.trim() == table.trim(), "docs/command.md has other rows than was seen: {new:#?}");
    }
}
