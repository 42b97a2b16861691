use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A server in a folder of its own, stopped and removed with this.
#[derive(Debug)]
pub struct OwnServer {
    folder: TempDir,
    name: &'static str,
    url: String,
}

impl OwnServer {
    /// Starts one of those that `scripts/databases` knows.
    pub fn start(name: &'static str) -> Self {
        // The folder's path is short: a Unix socket has to fit in it.
        let folder = tempfile::Builder::new().prefix("dbm-").tempdir_in("/tmp").expect("a folder");
        let mut server = Self { folder, name, url: String::new() };
        server.run(&["up", name]);
        server.url = server.run(&["url", name]);
        server
    }

    /// The name by which `scripts/databases` knows it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sets the clock of a server whose name ends in `-faketime`: `+10y` ahead, `-90s` behind, `+0` right. Takes effect at once.
    pub fn set_clock(&self, offset: &str) {
        self.run(&["clock", self.name, offset]);
    }

    /// Kills it, as the kernel does when memory is out.
    pub fn kill(&self) {
        let pid = fs::read_to_string(self.folder_of_server().join("pid")).expect("a process id");
        signal("KILL", pid.trim().parse().expect("a process id"));
    }

    /// Starts it again after it was killed; it keeps its port.
    pub fn start_again(&self) {
        self.run(&["start", self.name]);
    }

    /// What the server writes its messages to.
    pub fn log(&self) -> PathBuf {
        self.folder_of_server().join("log")
    }

    fn folder_of_server(&self) -> PathBuf {
        self.run(&["dir", self.name]).into()
    }

    fn run(&self, arguments: &[&str]) -> String {
        super::text_of(&self.script(arguments), &format!("the arguments were {arguments:?}"))
    }

    fn script(&self, arguments: &[&str]) -> Output {
        let mut command = super::script();
        command.args(arguments).env("DB_MUTEX_TEST_DIR", self.folder.path().join("d"));
        command.output().expect("scripts/databases can be run")
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.script(&["down"]);
    }
}

/// Sends a signal to a process of a server, such as `KILL` or `STOP`.
pub fn signal(name: &str, pid: i32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).output().expect("kill");
}
