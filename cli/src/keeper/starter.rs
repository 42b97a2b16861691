//! Becomes the command: asks the kernel to kill it when the keeper dies, restores what the command is to find, executes it.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{execvp, getppid};

use crate::exit::{FAILED, NOT_EXECUTABLE, NOT_FOUND};

/// The arguments of the starter: its parent, the blocked signals, the file, and the command's arguments from its name on.
pub(super) fn arguments(blocked: &[i32], file: OsString, arguments: Vec<OsString>) -> Vec<OsString> {
    let parent = nix::unistd::getpid().to_string();
    let blocked = blocked.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    [parent.into(), blocked.into(), file].into_iter().chain(arguments).collect()
}

pub(super) fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut text = || arguments.next()?.into_string().ok();
    let (Some(parent), Some(blocked)) = (text(), text()) else { return ExitCode::from(FAILED) };
    if let Err(error) = set_pdeathsig(Signal::SIGKILL) {
        eprintln!("db-mutex: cannot tie the command to this process: {error}");
        return ExitCode::from(FAILED);
    }
    // The parent may have died before the request was in force.
    if parent != getppid().to_string() {
        return ExitCode::from(FAILED);
    }
    // Rust's runtime has had it ignored.
    sigpipe::reset();
    let blocked = blocked.split(',').filter_map(|number| Signal::try_from(number.parse::<i32>().ok()?).ok());
    let _ = blocked.collect::<SigSet>().thread_set_mask();
    let Some(file) = arguments.next() else { return ExitCode::from(FAILED) };
    let shown = file.clone();
    let text = |text: OsString| CString::new(text.into_vec()).unwrap_or_default();
    let arguments: Vec<CString> = arguments.map(text).collect();
    let Err(error) = execvp(&text(file), &arguments);
    let error = io::Error::from(error);
    eprintln!("db-mutex: cannot execute {shown:?}: {error}");
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}
