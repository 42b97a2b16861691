//! A process of ours that is the parent of the command, and ends it when the lease is over: even if db-mutex is stopped,
//! hangs, or was killed.
//!
//! ```text
//! db-mutex ──── keeper ──── command ──── what it starts
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `message` | what db-mutex and the keeper tell each other |
//! | `socket` | over what |
//! | `process` | the keeper's own process |
//! | `descendants` | all that the command has started is found, and ended |
//! | `starter` | the first moments of the command's process |
//! | `witness` | whether a signal was meant for the whole process group |
//!
//! The keeper knows until when the command may work. Each renewal sends it the next deadline; if none arrives, it asks the
//! command and all its descendants to end, and kills them at the deadline. A timer of the kernel kills the keeper itself
//! soon after, should it be stopped as well, and the kernel then kills the command, whose parent it is.
//!
//! Keeper, starter and witness are this very executable under another first argument.

mod descendants;
mod message;
mod process;
mod socket;
mod starter;
mod witness;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use tokio::net::UnixStream;

pub(crate) use message::{BootTime, Deadline, Order, Plan, Report, Status};
pub(crate) use witness::Witness;

use crate::exit::FAILED;
use message::Message;

const STARTER: &str = "__db-mutex-starter";
const KEEPER: &str = "__db-mutex-keeper";
const WITNESS: &str = "__db-mutex-witness";

/// Does the work of a keeper, a starter or a witness if this process is one.
pub(crate) fn main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next()?.to_str()? {
        STARTER => Some(starter::main(arguments)),
        // Whoever has started them sees that they are gone.
        KEEPER => Some(code_of(&process::main())),
        WITNESS => Some(code_of(&witness::main())),
        _ => None,
    }
}

fn code_of(ended: &io::Result<()>) -> ExitCode {
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// The executable that runs now, even if its file was replaced meanwhile; without /proc the file itself.
fn this_executable() -> io::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() {
        return Ok(link);
    }
    let executed = OsStr::from_bytes(rustix::param::linux_execfn().to_bytes());
    if executed.is_empty() {
        return Err(io::Error::other("/proc is not mounted, and is needed to find this executable"));
    }
    Ok(executed.into())
}

/// The keeper of a command, as db-mutex sees it.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    /// Where orders go. Not tokio's, which writes nothing before it was once told that it can.
    orders: StdStream,
    reports: UnixStream,
    received: Vec<u8>,
    /// The command's environment has this in it.
    mark: String,
}

impl Keeper {
    /// Starts a keeper, and tells it to start the command. `mark` is a part of the command's environment that no other
    /// process has.
    pub(crate) fn start(plan: Plan, mark: String) -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let (ours, theirs) = StdStream::pair()?;
        let mut command = Command::new(this_executable()?);
        // Nothing that it has is to be read by others. The group of its own keeps the terminal's signals away from it.
        command.arg(KEEPER).env_clear().process_group(0).stdin(std::os::fd::OwnedFd::from(theirs));
        let child = command.spawn()?;
        // The keeper's end must not stay open here.
        drop(command);
        socket::hand_over(&ours)?;
        Order::Start(Box::new(plan)).send(&ours)?;
        ours.set_nonblocking(true)?;
        let reports = UnixStream::from_std(ours.try_clone()?)?;
        Ok(Self { child, orders: ours, reports, received: Vec::new(), mark })
    }

    /// Tells the keeper something. One that is gone hears nothing, which [`report`](Self::report) says.
    pub(crate) fn tell(&self, order: &Order) {
        let _ = order.send(&self.orders);
    }

    /// Waits for its report; `None` if it is gone.
    ///
    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    pub(crate) async fn report(&mut self) -> Option<Report> {
        loop {
            if let Some((length, body)) = self.received.split_at_checked(4) {
                let length = u32::from_be_bytes(length.try_into().ok()?);
                if body.len() >= usize::try_from(length).ok()? {
                    return Report::decoded(body);
                }
            }
            self.reports.readable().await.ok()?;
            let mut part = [0; 4096];
            match self.reports.try_read(&mut part) {
                Ok(0) => return None,
                Ok(length) => self.received.extend(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// Reaps what is not the keeper: orphans, where db-mutex is the first process of a container.
    pub(crate) fn reap_others(&self) {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, peek)
            && let Some(pid) = status.pid().filter(|pid| u32::try_from(pid.as_raw()) != Ok(self.child.id()))
        {
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }

    /// Reaps the keeper, after its report.
    pub(crate) fn finish(mut self) {
        drop((self.orders, self.reports));
        let _ = self.child.wait();
    }

    /// Kills all that the command has started, where the keeper is gone: it was killed.
    pub(crate) fn end_in_its_place(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let is_marked = |pid: i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == self.mark.as_bytes())
        };
        // Other children there may be too: those of whoever became db-mutex, and orphans where db-mutex is process 1.
        let reap = || while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {};
        descendants::kill_all(|process| is_marked(process.pid), reap);
    }
}
