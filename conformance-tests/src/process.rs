//! The other processes of a case: the test's own program, started again for the same test and the same namespace.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use db_mutex_core::store::Fence;

use crate::subject::Subject;

/// How long processes wait for one another.
const TIME_LIMIT: Duration = Duration::from_secs(40);

const CASE: &str = "DB_MUTEX_CONFORMANCE_CASE";
const NAMESPACE: &str = "DB_MUTEX_CONFORMANCE_NAMESPACE";
const FOLDER: &str = "DB_MUTEX_CONFORMANCE_FOLDER";
const NUMBER: &str = "DB_MUTEX_CONFORMANCE_NUMBER";

/// The processes that a case has started. When this is dropped, they are killed, and their folder is removed.
pub(crate) struct Others {
    meeting: Meeting,
    children: Vec<Child>,
}

impl Others {
    /// Starts processes, which execute the case's part in [`cases::processes::in_another`](crate::cases::processes::in_another).
    pub(crate) fn start(store: &Subject, number: usize) -> Self {
        let test = store.test().expect(
            "a case with other processes has to know which test to start again: make the tests with `suite!`, or set \
             `Suite::test`",
        );
        let folder = std::env::temp_dir().join(format!("db-mutex-conformance-{}", store.namespace()));
        fs::create_dir(&folder).expect("the folder for temporary files must be writable");
        let mut others = Self { meeting: Meeting(folder), children: Vec::new() };
        for number in 0..number {
            let output = File::create(others.meeting.output(number)).expect("the folder was just made");
            let program = std::env::current_exe().expect("the operating system knows the test's program");
            let mut command = Command::new(program);
            command.args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"]);
            command.env(CASE, store.case()).env(NAMESPACE, store.namespace()).env(FOLDER, &others.meeting.0);
            command.env(NUMBER, number.to_string()).stdin(Stdio::null());
            command.stdout(output.try_clone().expect("a file can be opened twice")).stderr(output);
            others.children.push(command.spawn().expect("the test's program can be started again"));
        }
        others
    }

    pub(crate) fn meeting(&self) -> &Meeting {
        &self.meeting
    }

    /// Waits for a signal of one of the processes, and fails if it has failed.
    pub(crate) async fn wait_for(&mut self, signal: &str) {
        let started = Instant::now();
        while !self.meeting.0.join(signal).exists() {
            for number in 0..self.children.len() {
                self.has_ended(number);
            }
            assert!(started.elapsed() < TIME_LIMIT, "another process has not come to {signal:?} within {TIME_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until all have done their part.
    pub(crate) async fn finish(&mut self) {
        let started = Instant::now();
        for number in 0..self.children.len() {
            while !self.has_ended(number) {
                assert!(started.elapsed() < TIME_LIMIT, "another process has not ended within {TIME_LIMIT:?}");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// Kills them, as a machine that fails would.
    pub(crate) fn kill(&mut self) {
        for child in &mut self.children {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }

    fn has_ended(&mut self, number: usize) -> bool {
        let status = self.children[number].try_wait().expect("a child can be waited for");
        if let Some(status) = status.filter(|status| !status.success()) {
            let output = fs::read_to_string(self.meeting.output(number)).unwrap_or_default();
            panic!("in another process ({status}): {}", output.trim());
        }
        status.is_some()
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.kill();
        drop(fs::remove_dir_all(&self.meeting.0));
    }
}

/// This process, if a case has started it.
pub(crate) struct ThisOne {
    pub(crate) case: String,
    pub(crate) namespace: String,
    pub(crate) number: usize,
    pub(crate) meeting: Meeting,
}

impl ThisOne {
    pub(crate) fn started_by_a_case() -> Option<Self> {
        let number = std::env::var(NUMBER).ok()?.parse().ok()?;
        let (case, namespace) = (std::env::var(CASE).ok()?, std::env::var(NAMESPACE).ok()?);
        Some(Self { case, namespace, number, meeting: Meeting(PathBuf::from(std::env::var_os(FOLDER)?)) })
    }
}

/// A folder in which the processes of a case meet.
#[derive(Debug, Clone)]
pub(crate) struct Meeting(PathBuf);

impl Meeting {
    fn output(&self, number: usize) -> PathBuf {
        self.0.join(format!("output {number}"))
    }

    /// Lets the others go on which wait for this signal.
    pub(crate) fn signal(&self, signal: &str) {
        File::create(self.0.join(signal)).expect("the case that started this process has made the folder");
    }

    pub(crate) async fn wait_for(&self, signal: &str) {
        let started = Instant::now();
        while !self.0.join(signal).exists() {
            assert!(started.elapsed() < TIME_LIMIT, "the case has not come to {signal:?} within {TIME_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Enters a section in which only one process may be.
    pub(crate) fn enter(&self, fence: Fence) -> Inside {
        let inside = self.0.join("inside");
        let entered = OpenOptions::new().write(true).create_new(true).open(&inside);
        assert!(
            entered.is_ok(),
            "insert_if_absent MUST grant a lock to one owner at a time, however many processes ask (A1): two processes hold \
             it at once"
        );
        let fences = OpenOptions::new().append(true).create(true).open(self.0.join("fences"));
        writeln!(fences.expect("the folder is writable"), "{fence}").expect("the folder is writable");
        Inside(inside)
    }

    /// The fencing tokens in the order in which the section was entered.
    pub(crate) fn fences(&self) -> Vec<i64> {
        let fences = fs::read_to_string(Path::new(&self.0).join("fences")).unwrap_or_default();
        fences.lines().map(|line| line.parse().expect("only fencing tokens are written there")).collect()
    }
}

/// The section is left when this is dropped.
pub(crate) struct Inside(PathBuf);

impl Drop for Inside {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}
