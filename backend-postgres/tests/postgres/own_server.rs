//! A server that a test has for itself: to count what it writes, to pause and to kill it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A throw-away PostgreSQL in a folder of its own, stopped and removed when it is dropped.
pub(crate) struct OwnServer {
    folder: TempDir,
    name: &'static str,
    url: String,
}

impl OwnServer {
    pub(crate) fn start() -> Self {
        Self::start_as("postgres-plain")
    }

    /// Starts one whose clock can be set.
    pub(crate) fn start_with_clock() -> Self {
        Self::start_as("postgres-faketime")
    }

    fn start_as(name: &'static str) -> Self {
        // The folder's path is short: a Unix socket has to fit in it.
        let folder = tempfile::Builder::new().prefix("dbm-").tempdir_in("/tmp").unwrap();
        let mut server = Self { folder, name, url: String::new() };
        server.run(&["up", name]);
        server.url = server.run(&["url", name]);
        server
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sets its clock: `+10y` ahead, `-90s` behind, `+0` right. Takes effect at once.
    pub(crate) fn set_clock(&self, offset: &str) {
        self.run(&["clock", self.name, offset]);
    }

    /// Starts it again after a crash; it keeps its port.
    pub(crate) fn start_again(&self) {
        self.run(&["start", self.name]);
    }

    /// Kills the postmaster, as the kernel does when memory is out.
    pub(crate) fn kill(&self) {
        let pid = fs::read_to_string(Path::new(&self.run(&["dir", self.name])).join("pid")).unwrap();
        signal("KILL", pid.trim().parse().unwrap());
    }

    /// What the server writes its messages to.
    pub(crate) fn log(&self) -> PathBuf {
        Path::new(&self.run(&["dir", self.name])).join("log")
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.script(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn script(&self, arguments: &[&str]) -> Output {
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/databases"))
            .args(arguments)
            .env("DB_MUTEX_TEST_DIR", self.folder.path().join("d"))
            .output()
            .unwrap()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.script(&["down"]);
    }
}

/// Sends a signal to a process of a server.
pub(crate) fn signal(name: &str, pid: i32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).output().unwrap();
}
