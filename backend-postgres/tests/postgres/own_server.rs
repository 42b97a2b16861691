//! A server that a test has for itself: to count what it writes, to pause and to kill it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A throw-away PostgreSQL in a folder of its own, stopped and removed when it is dropped.
pub(crate) struct OwnServer {
    folder: TempDir,
    url: String,
}

const NAME: &str = "postgres-plain";

impl OwnServer {
    pub(crate) fn start() -> Self {
        // The folder's path is short: a Unix socket has to fit in it.
        let folder = tempfile::Builder::new().prefix("dbm-").tempdir_in("/tmp").unwrap();
        let mut server = Self { folder, url: String::new() };
        server.run(&["up", NAME]);
        server.url = server.run(&["url", NAME]);
        server
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Starts it again after a crash; it keeps its port.
    pub(crate) fn start_again(&self) {
        self.run(&["start", NAME]);
    }

    /// Kills the postmaster, as the kernel does when memory is out.
    pub(crate) fn kill(&self) {
        let pid = fs::read_to_string(Path::new(&self.run(&["dir", NAME])).join("pid")).unwrap();
        signal("KILL", pid.trim().parse().unwrap());
    }

    /// What the server writes its messages to.
    pub(crate) fn log(&self) -> PathBuf {
        Path::new(&self.run(&["dir", NAME])).join("log")
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
