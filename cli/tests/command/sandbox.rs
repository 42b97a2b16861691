use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use db_mutex::sqlite::rusqlite::Connection;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::running::{Finished, Running, eventually};

/// A folder of a test's own: state folder, home and working directory of all that it starts.
#[derive(Debug)]
pub(crate) struct Sandbox {
    folder: TempDir,
    started: AtomicU32,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("db-mutex-command-").expect("a folder");
        let sandbox = Self { folder, started: AtomicU32::new(0) };
        let database = sandbox.database();
        fs::create_dir_all(database.parent().expect("a folder")).expect("a folder in a folder of ours");
        // Empty, so that looking at it is no mistake.
        File::create(database).expect("a file in a folder of ours");
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is in a file; nothing if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file in a folder of ours");
    }

    /// Waits until a whole line is in a file, and answers the text.
    pub(crate) fn wait_for_line(&self, name: &str) -> String {
        eventually(&format!("a line is in {name}"), || Some(self.read(name)).filter(|text| text.ends_with('\n')))
    }

    /// The file that is used where no other is named.
    pub(crate) fn database(&self) -> PathBuf {
        self.path("state/db-mutex/locks.db")
    }

    /// A program, with nothing of the tester's environment but PATH, and with every signal as it is by default: what is started
    /// in the background, or under nohup(1), ignores some.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        // The default file is in the tester's real home, not in HOME.
        command.env("HOME", self.folder.path()).env("DB_MUTEX_URL", format!("sqlite:{}", self.database().display()));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// db-mutex with these arguments.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_db-mutex"));
        command.args(arguments);
        command
    }

    pub(crate) fn spawn(&self, mut command: Command) -> Running {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.path(&format!("{name}.{number}")));
        command.stdout(File::create(&stdout).expect("a file")).stderr(File::create(&stderr).expect("a file"));
        Running::new(command.spawn().expect("a program that can be started"), stdout, stderr)
    }

    /// Starts db-mutex.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        self.spawn(self.command(arguments))
    }

    /// Runs db-mutex to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        self.start(arguments).wait()
    }

    /// Starts a command that holds the lock until the test ends it; returns once it runs.
    pub(crate) fn hold(&self, name: &str, options: &[&str]) -> Running {
        let ready = format!("{name}.held");
        // Gone first, so that it is not a former holder's that is found.
        let _ = fs::remove_file(self.path(&ready));
        let line = format!("echo $DB_MUTEX_FENCE > {ready}; exec sleep 1000");
        let holder = self.start([&["run", name], options, &["-c", &line]].concat());
        self.wait_for_line(&ready);
        holder
    }

    /// What `show --json` tells of a lock.
    pub(crate) fn show(&self, name: &str) -> Value {
        let shown = self.run(["show", name, "--json"]);
        assert_eq!((shown.code(), &*shown.stderr), (Some(0), ""), "{shown:?}");
        serde_json::from_str(&shown.stdout).expect("JSON")
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.show(name)["state"].as_str().expect("a state").to_owned()
    }

    /// Whether nothing was written to the database.
    pub(crate) fn is_untouched(&self) -> bool {
        fs::metadata(self.database()).expect("the file of the sandbox").len() == 0
    }

    /// The rows that `list --all --json` tells of.
    pub(crate) fn rows(&self) -> Vec<Value> {
        let listed = self.run(["list", "--all", "--json"]);
        assert_eq!((listed.code(), &*listed.stderr), (Some(0), ""), "{listed:?}");
        serde_json::from_str(&listed.stdout).expect("a JSON array")
    }

    /// Waits until the process whose id is in a file is gone, or a zombie that was not reaped yet.
    pub(crate) fn wait_until_gone(&self, file: &str) {
        let pid = self.wait_for_line(file).trim().parse().expect("a process id");
        eventually(&format!("the process in {file} is gone"), || (!self.is_at_work(pid)).then_some(()));
    }

    /// Whether the process is one that was started in here, and runs.
    pub(crate) fn is_at_work(&self, pid: u32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let folder = self.folder.path().as_os_str().as_encoded_bytes();
        // A zombie has no environment any more.
        environment.windows(folder.len()).any(|part| part == folder)
    }
}

impl Drop for Sandbox {
    /// Kills what a failed test has left behind: each process that has this very folder in its environment.
    fn drop(&mut self) {
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            let Some(pid) = pid.filter(|pid| self.is_at_work(*pid)) else { continue };
            let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), Signal::SIGKILL);
        }
    }
}

/// Opens a file with SQLite itself.
pub(crate) fn open(file: &Path) -> Connection {
    let connection = Connection::open(file).expect("an SQLite file");
    connection.busy_timeout(std::time::Duration::from_secs(60)).expect("a timeout");
    connection
}

/// How many rows a query has.
pub(crate) fn count(connection: &Connection, table: &str) -> i64 {
    let mut count = connection.prepare(&format!("SELECT count(*) FROM {table}")).expect("a table");
    count.query_one((), |row| row.get(0)).expect("a count")
}
