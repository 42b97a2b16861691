//! A server that a test has for itself: to count what it does, to kill it, to set its clock.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use db_mutex_core::OwnerToken;

/// A server in its own folder, gone with the test.
pub(crate) struct OwnServer {
    pub(crate) name: &'static str,
    folder: PathBuf,
    url: String,
}

impl OwnServer {
    pub(crate) fn start(name: &'static str) -> Self {
        // A short path, because Unix sockets have to fit in it.
        let random = OwnerToken::mint().unwrap().to_hex();
        let folder = std::env::temp_dir().join(format!("dbm-{}", &random[..8]));
        let mut server = Self { name, folder, url: String::new() };
        server.run(&["up", name]);
        server.url = server.run(&["url", name]);
        server
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sets the clock of a server whose name ends in `-faketime`: `+10y` ahead, `+0` right. Takes effect at once.
    pub(crate) fn set_clock(&self, offset: &str) {
        self.run(&["clock", self.name, offset]);
    }

    pub(crate) fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.join(self.name).join("pid")).unwrap();
        let killed = Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
        assert!(killed.success());
    }

    /// Starts it again after it was killed; it keeps its port.
    pub(crate) fn start_again(&self) {
        self.run(&["start", self.name]);
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.script(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn script(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/databases");
        let mut command = Command::new(script);
        command.args(arguments).env("DB_MUTEX_TEST_DIR", &self.folder);
        command.output().expect("scripts/databases can be run")
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.script(&["down"]);
    }
}
