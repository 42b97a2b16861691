use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{AccessFlags, Pid, access};

use crate::args::RunArgs;
use crate::exit::{FAILED, Failure, NOT_EXECUTABLE, NOT_FOUND, USAGE, by_signal};
use crate::keeper::{Watchdog, starter};
use crate::terminal::Terminal;

/// What to run, known to exist: a command that cannot run must not cost a lock.
#[derive(Debug)]
pub(crate) struct Program {
    file: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    pub(crate) fn find(args: &RunArgs) -> Result<Self, Failure> {
        let (name, arguments) = match (&args.shell_line, args.command.split_first()) {
            (Some(line), _) => (OsStr::new("/bin/sh"), vec!["-c".into(), line.clone()]),
            (None, Some((name, arguments))) => (name.as_os_str(), arguments.to_vec()),
            (None, None) => {
                return Err(Failure::new(USAGE, "no command was given; write it after `--`, or a shell line after -c"));
            }
        };
        Ok(Self { file: find_executable(name)?, arguments })
    }
}

/// Looks a command up as a shell does: by its path if it has a `/`, else in `PATH`.
fn find_executable(name: &OsStr) -> Result<PathBuf, Failure> {
    let not_found = || Failure::new(NOT_FOUND, format!("the command {name:?} was not found; check its name and PATH"));
    if name.is_empty() {
        return Err(not_found());
    }
    let candidates: Vec<PathBuf> = if name.as_encoded_bytes().contains(&b'/') {
        vec![name.into()]
    } else {
        let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        env::split_paths(&path).map(|folder| folder.join(name)).collect()
    };
    if let Some(found) = candidates.iter().find(|file| file.is_file() && access(*file, AccessFlags::X_OK).is_ok()) {
        return Ok(found.clone());
    }
    match candidates.iter().find(|file| file.exists()) {
        Some(file) => Err(Failure::new(NOT_EXECUTABLE, format!("{file:?} cannot be executed; {}", hint(file)))),
        None => Err(not_found()),
    }
}

fn hint(file: &Path) -> &'static str {
    if file.is_dir() { "it is a folder" } else { "make it executable with chmod +x" }
}

/// A running command in a process group of its own, with a watchdog over the group.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    watchdog: Option<Watchdog>,
    terminal: Option<Terminal>,
}

impl Child {
    /// Starts the command. Called from the main thread, with which the command dies.
    pub(crate) fn start(program: &Program, environment: &[(&str, String)]) -> Result<Self, Failure> {
        let failed = |error| Failure::new(FAILED, format!("cannot start {:?}: {error}", program.file));
        let mut command: Command = starter(program.file.as_os_str(), &program.arguments).map_err(failed)?;
        // It may have a password in it, and a child that locks something else must say where itself.
        command.env_remove("DB_MUTEX_URL");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let started = command.process_group(0).spawn().map_err(failed)?;
        let pid = Pid::from_raw(i32::try_from(started.id()).unwrap_or(i32::MAX));
        let mut child = Self { pid, watchdog: None, terminal: Terminal::hand_to(pid) };
        match Watchdog::over(pid) {
            Ok(watchdog) => child.watchdog = Some(watchdog),
            Err(error) => {
                child.signal(Signal::SIGKILL);
                return Err(failed(error));
            }
        }
        // It may have been stopped for reading from a terminal that was not yet its own.
        if child.terminal.is_some() {
            child.signal(Signal::SIGCONT);
        }
        Ok(child)
    }

    /// Sends a signal to the whole process group. A group that is gone already is no failure.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = killpg(self.pid, signal);
    }

    /// Reaps the command if it has ended, and answers its exit code; never blocks. A command that was stopped from the
    /// terminal stops db-mutex too, until both go on.
    pub(crate) fn try_reap(&mut self) -> Option<u8> {
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Exited(_, code)) => return Some(u8::try_from(code).unwrap_or(u8::MAX)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Some(by_signal(signal as i32)),
                Ok(WaitStatus::Stopped(..)) => {
                    if let Some(terminal) = &self.terminal {
                        terminal.stop_with_child();
                        self.signal(Signal::SIGCONT);
                    }
                }
                Err(Errno::EINTR) => {}
                // Somebody else reaped it: its end is known, its code is not.
                Err(_) => return Some(FAILED),
                Ok(_) => return None,
            }
        }
    }

    /// Says that the command has been reaped: takes the terminal back, and dismisses the watchdog.
    pub(crate) fn finish(mut self) {
        drop(self.terminal.take());
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
    }
}
