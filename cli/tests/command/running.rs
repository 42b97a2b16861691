use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take before a test calls it stuck. Nothing that works comes near it.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer; fails when there is none for a minute.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + TIME_LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < give_up, "not within {TIME_LIMIT:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// `T` for a process that is stopped; `None` if there is none.
pub(crate) fn state_of(pid: i32) -> Option<char> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit_once(") ")?.1.chars().next()
}

/// A process that was started. Its output goes to files, so that a stray descendant cannot keep a reader waiting.
/// Dropped before its end, it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    pub(crate) fn new(child: Child, stdout: PathBuf, stderr: PathBuf) -> Self {
        Self { child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a process that runs");
    }

    /// Whether a signal is caught, or ignored, as the line of /proc/PID/status called `mask` has it.
    pub(crate) fn has_in_mask(&self, mask: &str, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let bits = status.lines().find_map(|line| line.strip_prefix(mask)).unwrap_or(":0");
        let bits = u64::from_str_radix(bits.trim_start_matches(':').trim(), 16).expect("a mask of signals");
        bits & (1 << (signal as i32 - 1)) != 0
    }

    /// Whether it has a file open whose path begins so.
    pub(crate) fn has_open(&self, path: &Path) -> bool {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.pid())) else { return false };
        let path = path.as_os_str().as_encoded_bytes();
        files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|open| open.as_os_str().as_encoded_bytes().starts_with(path))
    }

    /// Whether it waits to be reaped.
    pub(crate) fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Finished {
        let status = eventually("the process ends", || self.child.try_wait().expect("a child of ours"));
        let text = |path| fs::read_to_string(path).expect("output in UTF-8");
        Finished { status, stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once reaped it is not killed: std knows that its id may be another's by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended, and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Its exit code; none for a db-mutex that was killed.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// It died of a signal, and printed nothing.
    #[track_caller]
    pub(crate) fn assert_silent_death(&self, signal: Signal) {
        let died_of = self.status.signal();
        assert_eq!((died_of, &*self.stdout, &*self.stderr), (Some(signal as i32), "", ""), "{signal}");
    }

    /// It ended with 0 and printed nothing.
    #[track_caller]
    pub(crate) fn assert_silent_success(&self) {
        assert_eq!((self.code(), &*self.stdout, &*self.stderr), (Some(0), "", ""));
    }

    /// It ended with that code and said exactly one line, on standard error; answers the line.
    #[track_caller]
    pub(crate) fn assert_refusal(&self, code: i32) -> &str {
        assert_eq!(self.code(), Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let line = self.stderr.strip_suffix('\n').unwrap_or_else(|| panic!("no line on standard error: {self:?}"));
        assert!(line.starts_with("db-mutex: ") && !line.contains(char::is_control), "not one line of ours: {self:?}");
        line
    }
}
