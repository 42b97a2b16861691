use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A server in a folder of its own, stopped and removed with this.
#[derive(Debug)]
pub struct OwnServer {
    folder: Folder,
    name: &'static str,
    url: String,
}

impl OwnServer {
    /// Starts one of those that `scripts/databases` knows.
    pub fn start(name: &'static str) -> Self {
        let folder = Folder::new();
        folder.run(&["up", name]);
        let url = folder.run(&["url", name]);
        Self { folder, name, url }
    }

    /// The name by which `scripts/databases` knows it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL of another that was started with it.
    pub fn url_of(&self, name: &str) -> String {
        self.folder.run(&["url", name])
    }

    /// Sets the clock of a server whose name ends in `-faketime`: `+10y` ahead, `-90s` behind, `+0` right. Takes effect at once.
    pub fn set_clock(&self, offset: &str) {
        self.folder.run(&["clock", self.name, offset]);
    }

    /// Kills it, as the kernel does when memory is out.
    pub fn kill(&self) {
        self.kill_server(self.name);
    }

    /// Kills another that was started with it, such as the one that a pooler needs.
    pub fn kill_server(&self, name: &str) {
        let folder = PathBuf::from(self.folder.run(&["dir", name]));
        let pid = fs::read_to_string(folder.join("pid")).expect("a process id");
        signal("KILL", pid.trim().parse().expect("a process id"));
    }

    /// Starts it again after it was killed; it keeps its port.
    pub fn start_again(&self) {
        self.folder.run(&["start", self.name]);
    }

    /// What the server writes its messages to.
    pub fn log(&self) -> PathBuf {
        self.folder_of_server().join("log")
    }

    fn folder_of_server(&self) -> PathBuf {
        self.folder.run(&["dir", self.name]).into()
    }
}

/// A PostgreSQL and its hot standby, in a folder of their own, stopped and removed with this. Each may become the primary.
#[derive(Debug)]
pub struct OwnPair {
    folder: Folder,
    urls: [String; 2],
}

impl OwnPair {
    const NAMES: [&'static str; 2] = ["postgres-one", "postgres-two"];

    /// Starts both; the first is the primary.
    pub fn start() -> Self {
        let folder = Folder::new();
        folder.run(&["up", Self::NAMES[0], Self::NAMES[1]]);
        let urls = Self::NAMES.map(|name| folder.run(&["url", name]));
        Self { folder, urls }
    }

    /// The URL of one of the two.
    pub fn url_of(&self, number: usize) -> &str {
        &self.urls[number]
    }

    /// The URL of both, in this order.
    pub fn url_of_both(&self, order: [usize; 2]) -> String {
        let [first, second] = order.map(|number| self.urls[number].split_once('@').expect("a user"));
        let ((login, first), (_, second)) = (first, second);
        let (address, _) = first.split_once('/').expect("a database");
        format!("{login}@{address},{second}")
    }

    /// Starts `HAProxy`, which leads to the first, and to the second while the first is down. Returns its URL.
    pub fn behind_haproxy(&self) -> String {
        self.folder.run(&["up", "haproxy-pair"]);
        self.folder.run(&["url", "haproxy-pair"])
    }

    /// Whether the commits of a primary wait until the other has them.
    pub fn set_synchronous(&self, number: usize, synchronous: bool) {
        self.folder.run(&["synchronous", Self::NAMES[number], if synchronous { "on" } else { "off" }]);
    }

    /// Kills one with all its processes, as when its machine fails.
    pub fn kill(&self, number: usize) {
        self.folder.run(&["kill", Self::NAMES[number]]);
    }

    /// Stops all processes of one where they are, as when its machine does not get on: connections are accepted, and nothing is
    /// said. It is not used again before [`follow`](Self::follow).
    pub fn freeze(&self, number: usize) {
        self.folder.run(&["freeze", Self::NAMES[number]]);
    }

    /// Makes a standby the primary.
    pub fn promote(&self, number: usize) {
        self.folder.run(&["promote", Self::NAMES[number]]);
    }

    /// Lets one follow the other, as a new copy of it. It may have been a primary or a standby before.
    pub fn follow(&self, number: usize) {
        self.folder.run(&["follow", Self::NAMES[number]]);
    }
}

/// A folder for `scripts/databases`.
#[derive(Debug)]
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        // The path is short: a Unix socket has to fit in it.
        Self(tempfile::Builder::new().prefix("dbm-").tempdir_in("/tmp").expect("a folder"))
    }

    fn run(&self, arguments: &[&str]) -> String {
        super::text_of(&self.script(arguments), &format!("the arguments were {arguments:?}"))
    }

    fn script(&self, arguments: &[&str]) -> Output {
        let mut command = super::script();
        command.args(arguments).env("DB_MUTEX_TEST_DIR", self.0.path().join("d"));
        command.output().expect("scripts/databases can be run")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.script(&["down"]);
    }
}

/// Sends a signal to a process of a server, such as `KILL` or `STOP`.
pub fn signal(name: &str, pid: i32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).output().expect("kill");
}
