//! The database servers that the tests start for themselves, and ways to disturb them.
//!
//! | | |
//! |---|---|
//! | [`url`], [`folder`] | the servers that all tests share: `scripts/databases up NAME` has started them |
//! | [`OwnServer`] | a server of one test's own: to count what it does, to kill it, to set its clock |
//! | [`Proxy`] | a way to a server that can be watched, and broken |
//! | [`Fault`], [`Schedule`] | what is done to the connections of a proxy, at random from a seed |
//! | [`load`] | clients that acquire, wait and keep leases while that is done |
//!
//! Everything here panics where it cannot go on, as a test does.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod load;
mod own;
mod proxy;
mod schedule;

pub use own::{OwnPair, OwnServer, signal};
pub use proxy::Proxy;
pub use schedule::{Fault, Schedule};

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The URL of a server that the tests share: what `DB_MUTEX_TEST_NAME_URL` says, such as `DB_MUTEX_TEST_MARIADB_URL`, else what
/// `scripts/databases` does.
pub fn url(name: &str) -> String {
    let variable = format!("DB_MUTEX_TEST_{}_URL", name.to_uppercase().replace('-', "_"));
    if let Ok(url) = env::var(variable) {
        return url;
    }
    static URLS: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    let mut urls = URLS.lock().unwrap_or_else(PoisonError::into_inner);
    urls.entry(name.to_owned()).or_insert_with(|| databases("url", name)).clone()
}

/// The folder of a server that the tests share, with its certificates and its process id.
pub fn folder(name: &str) -> PathBuf {
    databases("dir", name).into()
}

/// Starts a server that the tests share, if it was killed, and waits until it lets clients in.
pub fn start(name: &str) {
    databases("start", name);
}

/// The process of a server that the tests share.
pub fn process(name: &str) -> i32 {
    fs::read_to_string(folder(name).join("pid")).expect("a process id").trim().parse().expect("a process id")
}

fn databases(what: &str, name: &str) -> String {
    let output = script().args([what, name]).output().expect("scripts/databases can be run");
    text_of(&output, &format!("start the server with: scripts/databases up {name}"))
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/databases"))
}

/// What a script has printed.
fn text_of(output: &Output, what_to_do: &str) -> String {
    assert!(output.status.success(), "{}; {what_to_do}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8").trim().to_owned()
}
