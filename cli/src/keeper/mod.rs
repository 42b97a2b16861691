//! The keeper: the parent process of the command. It terminates the command when the lease is over, even if db-mutex is
//! stopped, hangs, or was killed.
//!
//! ```text
//! db-mutex ──── keeper ──── command ──── what it starts
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `message` | the messages between db-mutex and the keeper |
//! | `socket` | the sockets between them |
//! | `process` | the keeper's own process |
//! | `fuse` | a kernel timer, in case the keeper itself is stopped |
//! | `descendants` | finding and terminating all processes that the command has started |
//! | `starter` | the process that becomes the command |
//! | `witness` | whether a signal was meant for the whole process group |
//!
//! The keeper knows until when the command may work. Each renewal sends it the next deadline. If none arrives, it sends
//! SIGTERM to the command and all its descendants, and kills them at the deadline. If the keeper is stopped as well, a
//! kernel timer kills it soon after, and the kernel then kills the command, because its parent has died.
//!
//! The keeper and the starter are started before the lock is acquired, and stand by. The keeper and the witness are this
//! executable with another first argument; the starter is a fork of the keeper.

mod descendants;
mod fuse;
mod message;
mod process;
mod socket;
mod starter;
mod witness;

use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use nix::unistd::getpid;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

pub(crate) use message::{BootTime, Deadline, Order, Plan, Report, Status};
pub(crate) use witness::{Questions, Witness};

use crate::exit::FAILED;
use descendants::Reaped;
use message::Message;

const KEEPER: &str = "__db-mutex-keeper";
const WITNESS: &str = "__db-mutex-witness";

/// How long db-mutex tries to kill the processes of a keeper that was killed.
const KILLING: Duration = Duration::from_secs(10);

/// How often a keeper that has not reported yet is continued with SIGCONT.
const GOING_ON: Duration = Duration::from_millis(100);

/// How long to wait for a keeper that has nothing left to do.
const ENDING: Duration = Duration::from_secs(2);

/// Does the work of a keeper or a witness if this process is one.
pub(crate) fn main() -> Option<ExitCode> {
    match std::env::args_os().nth(1)?.to_str()? {
        // The process that has started them notices that they are gone.
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
    /// Where orders go. Not tokio's socket, which writes nothing before it was first reported as writable.
    orders: StdStream,
    /// The part of them that did not fit into the socket.
    unsent: Vec<u8>,
    /// Where reports come from; registered with the runtime at the first one.
    reports: Reports,
    received: Vec<u8>,
    /// The children that this process had before: a shell that has become db-mutex may have some.
    others: Vec<i32>,
    /// The command's environment has this in it.
    mark: Option<Vec<u8>>,
}

impl Keeper {
    /// Starts a keeper, which stands by.
    pub(crate) fn stand_by() -> io::Result<Self> {
        let mut command = Command::new(this_executable()?);
        // Nothing that it has is to be read by others.
        command.arg(KEEPER).env_clear();
        Self::start_as(command)
    }

    fn start_as(mut command: Command) -> io::Result<Self> {
        let others = descendants::children();
        set_child_subreaper(true)?;
        let (ours, theirs) = StdStream::pair()?;
        let child = command.stdin(OwnedFd::from(theirs)).spawn()?;
        // The keeper's end must not stay open here.
        drop(command);
        socket::hand_over(io::stdin(), &ours)?;
        let reports = Reports::Later(ours.try_clone()?);
        let (unsent, received) = (Vec::new(), Vec::new());
        Ok(Self { child, is_reaped: false, orders: ours, unsent, reports, received, others, mark: None })
    }

    /// Waits for its first report: that it stands by. If it was stopped with the job before it had a session of its own, no other
    /// process lets it go on.
    ///
    /// # Errors
    /// When this process cannot listen.
    ///
    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    pub(crate) async fn stands_by(&mut self) -> io::Result<Option<Report>> {
        loop {
            // It is not reaped, so the number is its own.
            if let Some(keeper) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(keeper, Signal::CONT);
            }
            if let Ok(report) = timeout(GOING_ON, self.report()).await {
                return report;
            }
        }
    }

    /// Orders the keeper to start the command. `mark` is a variable of the command's environment that no other process has.
    pub(crate) fn start(&mut self, plan: Plan, mark: String) -> io::Result<()> {
        self.mark = Some(mark.into_bytes());
        self.orders.set_nonblocking(false)?;
        Order::Start(Box::new(plan)).send(&self.orders)?;
        self.orders.set_nonblocking(true)
    }

    /// Sends an order to the keeper. If the keeper is gone, the order is lost, and [`report`](Self::report) returns `None`.
    pub(crate) fn send(&mut self, order: &Order) {
        self.unsent.extend(order.encoded());
        self.flush();
    }

    /// Writes what fits into the socket.
    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match (&self.orders).write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The other side is gone.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// Waits for its next report; `None` if it is gone.
    ///
    /// # Errors
    /// When this process cannot listen.
    ///
    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    pub(crate) async fn report(&mut self) -> io::Result<Option<Report>> {
        if let Reports::Later(socket) = &self.reports {
            socket.set_nonblocking(true)?;
            self.reports = Reports::Now(UnixStream::from_std(socket.try_clone()?)?);
        }
        loop {
            if let Some((length, body)) = self.received.split_at_checked(4) {
                let length = length.try_into().map_or(0, u32::from_be_bytes);
                let length = usize::try_from(length).map_err(io::Error::other)?;
                if let Some(body) = body.get(..length) {
                    let report = Report::decoded(body);
                    self.received.drain(..4 + length);
                    return Ok(report);
                }
            }
            self.flush();
            let Reports::Now(reports) = &self.reports else { return Ok(None) };
            let interest =
                if self.unsent.is_empty() { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            let ready = reports.ready(interest).await?;
            if ready.is_writable() && !self.unsent.is_empty() {
                // So that tokio knows when it is full, the first of them is written by its leave.
                let written = reports.try_io(Interest::WRITABLE, || (&self.orders).write(&self.unsent));
                match written {
                    Ok(length) => drop(self.unsent.drain(..length)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => self.unsent.clear(),
                }
            }
            let mut part = [0; 4096];
            match reports.try_read(&mut part) {
                Ok(0) => return Ok(None),
                Ok(length) => self.received.extend(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Reaps processes that have ended, including orphans if db-mutex is the first process of a container.
    pub(crate) fn reap(&mut self) {
        while let Reaped::Child(pid, _) = descendants::reap() {
            self.is_reaped |= u32::try_from(pid) == Ok(self.child.id());
        }
    }

    /// Kills all processes that the command has started, after the keeper was killed.
    pub(crate) fn end_in_its_place(&mut self) {
        if !self.is_reaped {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.is_reaped = true;
        }
        // All that the keeper had are children of this process now.
        if !descendants::can_be_found() {
            return descendants::kill_all(|_| true, false, KILLING);
        }
        let is_marked = |pid: i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|one| Some(one) == self.mark.as_deref())
        };
        // The first process of a container gets the orphans of others too; elsewhere only what was there before is not ours.
        let is_first = getpid().as_raw() == 1;
        let (ours, not_ours) = (RefCell::new(HashSet::new()), RefCell::new(HashSet::new()));
        let belongs = |process: &descendants::Process| {
            let is_below = |all: &RefCell<HashSet<i32>>| all.borrow().contains(&process.parent);
            if is_first {
                let belongs = is_below(&ours) || is_marked(process.pid);
                return belongs && {
                    ours.borrow_mut().insert(process.pid);
                    true
                };
            }
            let belongs = !self.others.contains(&process.pid) && !is_below(&not_ours);
            belongs || {
                not_ours.borrow_mut().insert(process.pid);
                false
            }
        };
        descendants::kill_all(belongs, is_first || !self.others.is_empty(), KILLING);
    }
}

impl Drop for Keeper {
    /// Reaps the keeper. It ends when it is ordered to, or when db-mutex is gone.
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        let _ = self.orders.set_nonblocking(false);
        let _ = self.orders.set_write_timeout(Some(ENDING));
        let _ = (&self.orders).write_all(&self.unsent);
        let _ = self.orders.shutdown(Shutdown::Both);
        if !descendants::ends_within(&mut self.child, ENDING) {
            // It is stopped, and has nothing left to do.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[derive(Debug)]
enum Reports {
    Later(StdStream),
    Now(UnixStream),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stops itself twice before it reports.
    #[test]
    fn a_keeper_that_was_stopped_before_it_stands_by_is_let_go_on() {
        let mut command = Command::new("sh");
        command.args(["-c", r"kill -STOP $$; kill -STOP $$; printf '\0\0\0\6ready\0' >&0"]);
        let mut keeper = Keeper::start_as(command).unwrap();
        let stat = format!("/proc/{}/stat", keeper.child.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            std::thread::sleep(Duration::from_millis(1));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limit = Duration::from_secs(30);
        let report = runtime.block_on(async { timeout(limit, keeper.stands_by()).await });
        assert_eq!(report.unwrap().unwrap(), Some(Report::Ready));
    }
}
