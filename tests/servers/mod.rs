//! The servers of `scripts/databases`.

use std::path::Path;
use std::process::Command;

/// The URL of a server that is up.
pub(crate) fn url(name: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/databases");
    let output = Command::new(script).args(["url", name]).output().expect("scripts/databases can be run");
    assert!(output.status.success(), "run scripts/databases up {name}");
    String::from_utf8(output.stdout).expect("a URL is UTF-8").trim().to_owned()
}
