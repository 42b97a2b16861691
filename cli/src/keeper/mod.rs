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
//! | `starter` | the command's process before it is the command |
//! | `witness` | whether a signal was meant for the whole process group |
//!
//! The keeper knows until when the command may work. Each renewal sends it the next deadline; if none arrives, it asks the
//! command and all its descendants to end, and kills them at the deadline. A timer of the kernel kills the keeper itself
//! soon after, should it be stopped as well, and the kernel then kills the command, whose parent it is.
//!
//! Keeper and starter are started before the lock is acquired, and stand by meanwhile. They and the witness are this very
//! executable under another first argument.

mod descendants;
mod message;
mod process;
mod socket;
mod starter;
mod witness;

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::unistd::getpid;
use tokio::net::UnixStream;

pub(crate) use message::{BootTime, Deadline, Order, Plan, Report, Status};
pub(crate) use witness::Witness;

use crate::exit::FAILED;
use descendants::Reaped;
use message::Message;

const STARTER: &str = "__db-mutex-starter";
const KEEPER: &str = "__db-mutex-keeper";
const WITNESS: &str = "__db-mutex-witness";

/// How long db-mutex tries to kill what a keeper that was killed has kept.
const KILLING: Duration = Duration::from_secs(10);

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
    is_reaped: bool,
    /// Where orders go. Not tokio's socket, which writes nothing before it was once told that it can.
    orders: StdStream,
    reports: Option<UnixStream>,
    received: Vec<u8>,
    /// Whether this process had children before, or gets those of others.
    has_others: bool,
    /// The command's environment has this in it.
    mark: Option<Vec<u8>>,
}

impl Keeper {
    /// Starts a keeper, which stands by.
    pub(crate) fn stand_by() -> io::Result<Self> {
        // A shell that has become db-mutex may have children; the first process of a container gets all orphans.
        let has_others = getpid().as_raw() == 1 || !descendants::children().is_empty();
        set_child_subreaper(true)?;
        let (ours, theirs) = StdStream::pair()?;
        let mut command = Command::new(this_executable()?);
        // Nothing that it has is to be read by others.
        let child = command.arg(KEEPER).env_clear().stdin(OwnedFd::from(theirs)).spawn()?;
        // The keeper's end must not stay open here.
        drop(command);
        socket::hand_over(io::stdin(), &ours)?;
        Ok(Self { child, is_reaped: false, orders: ours, reports: None, received: Vec::new(), has_others, mark: None })
    }

    /// Tells the keeper to start the command. `mark` is a variable of the command's environment that no other process has.
    pub(crate) fn start(&mut self, plan: Plan, mark: String) -> io::Result<()> {
        self.mark = Some(mark.into_bytes());
        self.orders.set_nonblocking(false)?;
        Order::Start(Box::new(plan)).send(&self.orders)?;
        self.orders.set_nonblocking(true)
    }

    /// Tells the keeper something. One that is gone hears nothing, which [`report`](Self::report) says.
    pub(crate) fn tell(&self, order: &Order) {
        let _ = order.send(&self.orders);
    }

    /// Waits for its next report; `None` if it is gone.
    ///
    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    pub(crate) async fn report(&mut self) -> Option<Report> {
        if self.reports.is_none() {
            self.orders.set_nonblocking(true).ok()?;
            self.reports = Some(UnixStream::from_std(self.orders.try_clone().ok()?).ok()?);
        }
        loop {
            if let Some((length, body)) = self.received.split_at_checked(4) {
                let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
                if let Some(body) = body.get(..length) {
                    let report = Report::decoded(body);
                    self.received.drain(..4 + length);
                    return report;
                }
            }
            let reports = self.reports.as_ref()?;
            reports.readable().await.ok()?;
            let mut part = [0; 4096];
            match reports.try_read(&mut part) {
                Ok(0) => return None,
                Ok(length) => self.received.extend(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// Reaps what has ended: also orphans, where db-mutex is the first process of a container.
    pub(crate) fn reap(&mut self) {
        while let Reaped::Child(pid, _) = descendants::reap() {
            self.is_reaped |= u32::try_from(pid) == Ok(self.child.id());
        }
    }

    /// Reaps the keeper, which was told that its report has arrived.
    pub(crate) fn finish(mut self) {
        if !self.is_reaped {
            let _ = self.child.wait();
        }
    }

    /// Kills all that the command has started, where the keeper is gone: it was killed.
    pub(crate) fn end_in_its_place(&mut self) {
        if !self.is_reaped {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.is_reaped = true;
        }
        // All that the keeper had are children of this process now.
        if !self.has_others || !descendants::can_be_found() {
            return descendants::kill_all(|_| true, KILLING);
        }
        let Some(mark) = &self.mark else { return };
        let is_marked = |pid: i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == mark)
        };
        let ours = RefCell::new(HashSet::new());
        let belongs = |process: &descendants::Process| {
            let mut ours = ours.borrow_mut();
            let belongs = ours.contains(&process.pid) || ours.contains(&process.parent) || is_marked(process.pid);
            if belongs {
                ours.insert(process.pid);
            }
            belongs
        };
        descendants::kill_all(belongs, KILLING);
    }
}
