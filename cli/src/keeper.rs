//! Sees to it that nothing of a child outlives a `db-mutex` that was killed with SIGKILL, and so could not end it.
//!
//! Two helpers, both this very executable under another first argument:
//!
//! - The *starter* asks the kernel (Linux) to kill it when its parent dies, and then becomes the command. It covers the
//!   command itself, from its first instruction on.
//! - The *watchdog* holds the reading end of a pipe whose writing end only `db-mutex` has. When that closes without a word,
//!   it kills the command's whole process group: what the command has started too.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid, getppid};

use crate::exit::{NOT_EXECUTABLE, NOT_FOUND};

const STARTER: &str = "__db-mutex-starter";
const WATCHDOG: &str = "__db-mutex-watchdog";

/// Does a helper's work if this process is one.
pub(crate) fn main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next()?.to_str()? {
        STARTER => Some(start(arguments)),
        WATCHDOG => Some(watch(arguments)),
        _ => None,
    }
}

/// A command that runs `program` through the starter.
pub(crate) fn starter(program: &OsStr, arguments: &[OsString]) -> io::Result<Command> {
    let mut command = Command::new(this_executable()?);
    command.arg(STARTER).arg(getpid().to_string()).arg(program).args(arguments);
    Ok(command)
}

/// The executable that runs now, even if its file was replaced meanwhile.
fn this_executable() -> io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

fn start(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = parse_pid(arguments.next());
    let Some(program) = arguments.next() else { return ExitCode::from(NOT_EXECUTABLE) };
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("db-mutex: cannot tie the command to this process: {error}");
        return ExitCode::from(NOT_EXECUTABLE);
    }
    // The parent may have died before the request was in force.
    if parent != Some(getppid()) {
        return ExitCode::from(NOT_EXECUTABLE);
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("db-mutex: cannot execute {program:?}: {error}");
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}

fn watch(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(group) = parse_pid(arguments.next()) else { return ExitCode::FAILURE };
    if let Ok(0) = io::stdin().read(&mut [0]) {
        let _ = killpg(group, Signal::SIGKILL);
    }
    ExitCode::SUCCESS
}

fn parse_pid(argument: Option<OsString>) -> Option<Pid> {
    argument?.to_str()?.parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

/// The watchdog over one process group.
#[derive(Debug)]
pub(crate) struct Watchdog(Child);

impl Watchdog {
    pub(crate) fn over(group: Pid) -> io::Result<Self> {
        let mut command = Command::new(this_executable()?);
        command.arg(WATCHDOG).arg(group.to_string());
        // A group of its own, so that a Ctrl-C or a kill of our group leaves it alone; and no way to our output, which
        // a reader would otherwise wait for.
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self)
    }

    /// Tells it that its group needs no watching any more, and reaps it.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(b".");
        }
        let _ = self.0.wait();
    }
}
