//! The keeper's own process: starts the command, and ends it when its time is over.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use fork::Fork;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_child_subreaper, set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal as Named};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{getpgid, getpgrp, getpid, setsid};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use rustix_libc_wrappers::process::SignalExt;

use super::descendants::{self, Process, Reaped};
use super::fuse::Fuse;
use super::message::{BootTime, Deadline, Message, Order, Plan, Report, Status};
use super::{socket, starter};
use crate::args::Descendants;

/// The maximum wait before the deadline is checked: a wait does not advance while the machine is suspended.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long after the command the processes of its group may still end without being reported.
const DYING: Duration = Duration::from_millis(100);

/// How long to try to kill a process that does not die, before reporting it.
const KILLING: Duration = Duration::from_secs(10);

/// Keeps one command. Returns when its end was reported, and the report has arrived.
pub(super) fn main() -> io::Result<()> {
    // Only SIGKILL and SIGSTOP may interrupt it.
    SigSet::all().thread_block()?;
    // Until the command runs, it is not needed without db-mutex.
    set_pdeathsig(Named::SIGKILL)?;
    // Not the name with which someone would kill all db-mutex processes.
    let _ = set_name(c"dbmutex-keeper");
    // If SIGCHLD is ignored, as some parents leave it, the kernel does not report how a child has ended.
    signal_hook::flag::register(Named::SIGCHLD as i32, Arc::default())?;
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    set_child_subreaper(true)?;
    let supervisor = socket::standard_input()?;
    let Some(stdin) = socket::take_over(&supervisor)? else { return Ok(()) };
    let group = getpgrp().as_raw();
    let (command, starter) = match stand_by() {
        Ok(started) => started,
        Err(error) => return Report::NotStarted(error.to_string()).send(&supervisor),
    };
    // The terminal's signals are not for it. And the kernel takes the command's process group for what it is in the shell's
    // session: one whose parents are those of db-mutex.
    setsid()?;
    let ordered = Report::Ready.send(&supervisor).and_then(|()| Order::receive(&supervisor));
    let plan = match ordered {
        Ok(Some(Order::Start(plan))) if plan.deadline.ask_at > BootTime::now() => plan,
        ordered => {
            // The lock was not acquired, or too late.
            drop(starter);
            if let Some(starter) = Pid::from_raw(command) {
                let _ = kill_process(starter, Signal::KILL);
            }
            while !matches!(descendants::reap(), Reaped::Alone) {
                std::thread::sleep(Duration::from_micros(200));
            }
            return if matches!(ordered, Ok(Some(_))) { Report::TooLate.send(&supervisor) } else { Ok(()) };
        }
    };
    set_pdeathsig(None)?;
    let mut fuse = Fuse::new();
    fuse.set(plan.deadline.last);
    // If it has died meanwhile, that is how the command has ended.
    let _ = socket::hand_over(&stdin, &starter);
    drop(stdin);
    let _ = starter.set_nonblocking(false);
    let keeper = Keeper::new(&plan, command, group, fuse);
    let _ = Order::Start(plan).send(&starter);
    drop(starter);
    // It may have been stopped with the job while it stood by.
    keeper.send(Signal::CONT);
    keeper.keep(&supervisor, &signals)
}

/// Starts the process that becomes the command, in the process group of db-mutex.
///
/// A copy of this process is there sooner than a new one, and has as little in its environment and arguments. It may be made
/// because there is one thread only.
fn stand_by() -> io::Result<(i32, UnixStream)> {
    let keeper = getpid();
    let (ours, theirs) = UnixStream::pair()?;
    match fork::fork()? {
        Fork::Parent(command) => Ok((command, ours)),
        Fork::Child => {
            drop(ours);
            std::process::exit(starter::main(keeper, theirs).into())
        }
    }
}

/// How far the end of the command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// All were asked to end, and are killed then.
    Asked(BootTime),
    /// All are killed, at least until then.
    Killing(BootTime),
}

struct Keeper {
    command: i32,
    /// Whether it has its own process group.
    own_group: bool,
    /// The group in which it was started.
    group: i32,
    descendants: Descendants,
    grace: Duration,
    deadline: Deadline,
    fuse: Fuse,
    status: Option<Status>,
    /// Whether nothing it has started is left.
    is_alone: bool,
    ending: Ending,
    /// Whether the command was ended, and not only what it has left behind.
    by_keeper: bool,
    /// When the command ended, if something in its group has not.
    left_since: Option<BootTime>,
    has_supervisor: bool,
    has_reported: bool,
    /// Those that run with other credentials and cannot be killed.
    beyond: Vec<Process>,
}

impl Keeper {
    fn new(plan: &Plan, command: i32, group: i32, fuse: Fuse) -> Self {
        Self {
            command,
            own_group: plan.own_group,
            group: if plan.own_group { command } else { group },
            descendants: plan.descendants,
            grace: plan.grace,
            deadline: plan.deadline,
            fuse,
            status: None,
            is_alone: false,
            ending: Ending::No,
            by_keeper: false,
            left_since: None,
            has_supervisor: true,
            has_reported: false,
            beyond: Vec::new(),
        }
    }

    fn keep(mut self, supervisor: &UnixStream, signals: &SignalFd) -> io::Result<()> {
        loop {
            self.reap();
            if !self.has_reported {
                self.advance();
                if let Some(report) = self.report() {
                    if !self.has_supervisor {
                        return Ok(());
                    }
                    // What is left to do is to wait for its arrival.
                    self.fuse.set(BootTime::NEVER);
                    // One that is gone is seen below.
                    let _ = report.send(supervisor);
                    self.has_reported = true;
                }
            }
            let mut sources = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            if self.has_supervisor {
                sources.push(PollFd::new(supervisor.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut sources, PollTimeout::try_from(self.wait()).unwrap_or(PollTimeout::ZERO)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_told = sources.get(1).and_then(PollFd::any).unwrap_or(false);
            while let Ok(Some(_)) = signals.read_signal() {}
            if is_told && self.obey(supervisor) {
                return Ok(());
            }
        }
    }

    /// Reaps what has ended: the command, and what it has left behind.
    fn reap(&mut self) {
        loop {
            // As long as it is not reaped, its group is its own.
            if self.by_keeper && self.own_group && self.status.is_none() && self.command_has_ended() {
                self.send_to_group(Signal::KILL);
            }
            match descendants::reap() {
                Reaped::Child(pid, status) if pid == self.command => self.status = Some(status),
                Reaped::Child(..) => {}
                last => return self.is_alone = last == Reaped::Alone,
            }
        }
    }

    fn command_has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let command = Pid::from_raw(self.command);
        command.is_some_and(|command| waitid(WaitId::Pid(command), options).is_ok_and(|status| status.is_some()))
    }

    /// Returns whether there is such a group.
    fn send_to_group(&self, signal: Signal) -> bool {
        Pid::from_raw(self.command).is_some_and(|group| kill_process_group(group, signal).is_ok())
    }

    /// Executes the next order, and returns whether it was to stop.
    fn obey(&mut self, supervisor: &UnixStream) -> bool {
        match Order::receive(supervisor) {
            Ok(Some(Order::Deadline(deadline))) if self.ending == Ending::No => {
                self.deadline = deadline;
                self.fuse.set(deadline.last);
            }
            Ok(Some(Order::Signal(signal))) => {
                if let Some(signal) = Signal::from_raw(signal) {
                    self.pass_on(signal);
                }
            }
            Ok(Some(Order::End)) => self.end(),
            Ok(Some(Order::Done)) => return true,
            Ok(Some(_)) => {}
            // The supervisor is gone, so nothing is renewed. The processes that the command has left run without a lock.
            Ok(None) | Err(_) => {
                (self.has_supervisor, self.has_reported) = (false, false);
                self.end();
            }
        }
        false
    }

    /// Passes a signal on to the command and to what it has started in its process group. One that asks it to end reaches
    /// it even if it is stopped.
    fn pass_on(&self, signal: Signal) {
        self.send(signal);
        if matches!(signal, Signal::TERM | Signal::HUP) {
            self.send(Signal::CONT);
        }
    }

    fn send(&self, signal: Signal) {
        let is_here = self.status.is_none();
        // Until the command is reaped, neither its number nor its group's can be another's.
        if let Some(command) = Pid::from_raw(self.command).filter(|_| is_here) {
            let has_group = self.own_group && self.send_to_group(signal);
            // It may not have made its group yet, or may have moved to another one.
            if !has_group
                || getpgid(Some(nix::unistd::Pid::from_raw(self.command))).map(|group| group.as_raw())
                    != Ok(self.command)
            {
                let _ = kill_process(command, signal);
            }
            if self.own_group {
                return;
            }
        }
        for process in descendants::find() {
            let is_in_group = process.group == self.group && process.pid != self.command;
            // What has left on purpose is not asked for by a signal that comes when the command has ended.
            if is_in_group || !is_here && self.descendants != Descendants::Leave {
                descendants::send(&process, signal);
            }
        }
    }

    /// Sends SIGTERM to the command.
    fn end(&mut self) {
        if self.ending == Ending::No {
            self.by_keeper = self.status.is_none();
            self.ask();
        }
    }

    /// Sends SIGTERM to all, and SIGCONT, so that it also reaches stopped processes.
    fn ask(&mut self) {
        self.ending = Ending::Asked(self.deadline.kill_at.min(BootTime::now().after(self.grace)));
        let found = descendants::find();
        if found.is_empty() {
            self.pass_on(Signal::TERM);
        }
        // Parents first: a shell whose child ended first would continue with its next line.
        for process in &found {
            descendants::send(process, Signal::TERM);
        }
        for process in &found {
            descendants::send(process, Signal::CONT);
        }
    }

    fn advance(&mut self) {
        let now = BootTime::now();
        if self.ending == Ending::No {
            if self.deadline.ask_at <= now {
                self.end();
            } else if self.status.is_some() && self.descendants == Descendants::End && !self.is_alone {
                self.ask();
            }
        }
        if let Ending::Asked(kill_at) = self.ending {
            // If the lock is lost, the processes that the command has left have nothing to finish.
            let is_over = kill_at <= now || self.by_keeper && self.status.is_some();
            if is_over && !self.is_alone {
                // Busy with it from now on, and no longer to be killed for being late.
                self.fuse.set(BootTime::NEVER);
                self.ending = Ending::Killing(now.after(KILLING));
            }
        }
        if let Ending::Killing(_) = self.ending {
            self.kill();
        }
    }

    fn kill(&mut self) {
        self.beyond = descendants::kill(|_| true);
        // If descendants cannot be found.
        if let Some(command) = Pid::from_raw(self.command).filter(|_| self.status.is_none()) {
            if self.own_group {
                self.send_to_group(Signal::KILL);
            }
            let _ = kill_process(command, Signal::KILL);
        }
        self.reap();
        if self.status.is_some() && self.beyond.is_empty() && !self.is_alone {
            descendants::kill_children();
            self.reap();
        }
    }

    /// The report, once there is nothing more to do.
    fn report(&mut self) -> Option<Report> {
        let status = self.status?;
        let ended = |left: Vec<String>| Some(Report::Ended { status, by_keeper: self.by_keeper, left });
        let described = |left: Vec<Process>| left.iter().map(Process::describe).collect::<Vec<_>>();
        match self.ending {
            _ if self.is_alone => ended(Vec::new()),
            // A process that has made its own group or session has left on purpose, and is not reported.
            Ending::No if self.descendants == Descendants::Leave => {
                let mut left = descendants::find();
                left.retain(|one| one.group == self.group);
                // Processes that got the signal of which the command died may need a moment to die, too.
                if !left.is_empty() && *self.left_since.get_or_insert(BootTime::now()) > BootTime::now().before(DYING) {
                    return None;
                }
                ended(described(left))
            }
            // As long as a descendant is left there is a child, whether it can be seen or not.
            Ending::Killing(until) => {
                let left = descendants::find();
                let is_beyond = |one: &Process| self.beyond.iter().any(|other| other.pid == one.pid);
                if !left.is_empty() && left.iter().all(is_beyond) {
                    return ended(described(left));
                }
                if until > BootTime::now() {
                    return None;
                }
                ended(if left.is_empty() { vec!["something".into()] } else { described(left) })
            }
            _ => None,
        }
    }

    fn wait(&self) -> Duration {
        if self.has_reported {
            return LONGEST_WAIT;
        }
        let due = match self.ending {
            Ending::No if self.left_since.is_some() => descendants::AGAIN,
            Ending::No => self.deadline.ask_at.left(),
            Ending::Asked(kill_at) => kill_at.left(),
            Ending::Killing(_) => descendants::AGAIN,
        };
        due.clamp(Duration::from_millis(1), LONGEST_WAIT)
    }
}
