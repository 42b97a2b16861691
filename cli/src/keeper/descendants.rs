//! Finds what a process has started, and what that has started in turn, and ends it: nothing else, and nothing less.
//!
//! The process asks to be a subreaper first, so that what loses its parent becomes its child: as long as a descendant is
//! left, so is a child.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::AsFd;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::getpid;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, wait};

use super::message::Status;

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) name: String,
}

impl Process {
    /// Reads its line in /proc; `None` if there is no such process, or it has ended and waits to be reaped.
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// `17 (name) S 1 17 …`, where the name may contain spaces and brackets.
    fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<_> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
        // Its first thread may have ended while others run.
        let has_ended = matches!(*fields.first()?, "Z" | "X" | "x") && number(17) <= Some(1);
        if has_ended {
            return None;
        }
        Some(Self { pid: pid.parse().ok()?, parent: number(1)?, group: number(2)?, name: name.to_owned() })
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        format!("{} ({})", self.name, self.pid)
    }
}

/// Whether /proc is there, and has the process ids that system calls have: not those of another namespace.
pub(crate) fn can_be_found() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own.to_str() == Some(&getpid().to_string()))
}

/// All descendants of this process, those nearest to it first. None where they cannot be found.
pub(crate) fn find() -> Vec<Process> {
    let own = getpid().as_raw();
    if !can_be_found() {
        return Vec::new();
    }
    let mut children = HashMap::<i32, Vec<Process>>::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(process) = pid.and_then(Process::read) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = children.remove(&own).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let below = children.remove(&process.pid).unwrap_or_default();
        found.extend(below);
        next += 1;
    }
    found
}

/// The numbers of the children of this process, which has one thread that starts any.
pub(crate) fn children() -> Vec<i32> {
    if !can_be_found() {
        return Vec::new();
    }
    match fs::read_to_string("/proc/thread-self/children") {
        Ok(children) => children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // A kernel without that file.
        Err(_) => find().into_iter().filter(|one| one.parent == getpid().as_raw()).map(|one| one.pid).collect(),
    }
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// It runs with other credentials, as under sudo(8).
    NotAllowed,
    Gone,
}

/// Sends a signal to a process that was found, and to no other: one that has its number by now has another parent.
pub(crate) fn send(process: &Process, signal: Signal) -> Sent {
    let Some(pid) = Pid::from_raw(process.pid) else { return Sent::Gone };
    let sent = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => match Process::read(process.pid) {
            // Its parent may have died, and this process be the new one.
            Some(now) if now.parent == process.parent || now.parent == getpid().as_raw() => {
                pidfd_send_signal(&fd, signal)
            }
            _ => Err(Errno::SRCH),
        },
        // An old kernel.
        Err(Errno::NOSYS) => kill_process(pid, signal),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) => Sent::Yes,
        Err(Errno::PERM) => Sent::NotAllowed,
        Err(_) => Sent::Gone,
    }
}

/// What was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaped {
    Child(i32, Status),
    /// There are children, and all of them run.
    NoneYet,
    /// There are no children, and so no descendants.
    Alone,
}

/// Reaps one child that has ended.
pub(crate) fn reap() -> Reaped {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let status =
                    status.terminating_signal().map(Status::Signaled).or(status.exit_status().map(Status::Exited));
                if let Some(status) = status {
                    return Reaped::Child(pid.as_raw_nonzero().get(), status);
                }
            }
            Ok(None) => return Reaped::NoneYet,
            Err(Errno::CHILD) => return Reaped::Alone,
            Err(Errno::INTR) => {}
            // It says nothing about children.
            Err(_) => return Reaped::NoneYet,
        }
    }
}

/// Reaps a child as soon as it ends; returns whether it has ended within `limit`.
pub(crate) fn ends_within(child: &mut Child, limit: Duration) -> bool {
    let give_up = Instant::now() + limit;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let fd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    while let Ok(None) = child.try_wait() {
        let left = give_up.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        match &fd {
            // It is readable from the end of the process on.
            Some(fd) => {
                let mut ended = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut ended, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            }
            // An old kernel.
            None => thread::sleep(Duration::from_micros(200)),
        }
    }
    true
}

/// Kills all descendants that `belongs` says are meant: first stops them, until none is left that could start another.
/// Returns those that may not be killed.
pub(crate) fn kill(belongs: impl Fn(&Process) -> bool) -> Vec<Process> {
    let (mut frozen, mut beyond) = (HashSet::new(), Vec::new());
    loop {
        let found = find();
        let new: Vec<_> = found.into_iter().filter(|one| !frozen.contains(&one.pid) && belongs(one)).collect();
        if new.is_empty() {
            break;
        }
        for process in new {
            frozen.insert(process.pid);
            if send(&process, Signal::STOP) == Sent::NotAllowed {
                beyond.push(process);
            }
        }
    }
    for process in find().into_iter().filter(|one| belongs(one)) {
        send(&process, Signal::KILL);
    }
    beyond
}

/// Kills this process's own children, again and again for a moment: one whose parent always dies before it is seen has become
/// a child.
pub(crate) fn kill_children() {
    for _ in 0..200 {
        // Not reaped meanwhile, so their numbers are theirs.
        for pid in children().into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        while let Reaped::Child(..) = reap() {}
        if children().is_empty() {
            return;
        }
    }
}

/// How long to pause before the next attempt to kill what is left.
pub(crate) const AGAIN: Duration = Duration::from_millis(10);

/// Kills all descendants that belong, until none is left but those that may not be killed, for at most `limit`. If only `some`
/// of the children belong, /proc decides whether any is left; otherwise the kernel does: without children there are no
/// descendants.
pub(crate) fn kill_all(belongs: impl Fn(&Process) -> bool, some: bool, limit: Duration) {
    let give_up = Instant::now() + limit;
    loop {
        let beyond = kill(&belongs);
        let is_alone = loop {
            match reap() {
                Reaped::Child(..) => {}
                last => break last == Reaped::Alone,
            }
        };
        if is_alone || Instant::now() >= give_up {
            return;
        }
        let left: Vec<_> = find().into_iter().filter(|one| belongs(one)).collect();
        let are_beyond = left.iter().all(|one| beyond.iter().any(|other| other.pid == one.pid));
        if are_beyond && (some || !left.is_empty()) {
            return;
        }
        if !some && beyond.is_empty() {
            kill_children();
        }
        thread::sleep(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let process = Process::parse("17 (a) b (c)) S 3 17 17 0 -1").unwrap();
        let expected = Process { pid: 17, parent: 3, group: 17, name: "a) b (c)".into() };
        assert_eq!(process, expected);
    }

    #[test]
    fn what_has_ended_is_not_found() {
        let line = |threads: u8| format!("17 (sh) Z 3 17 17 0 -1 4228100 0 0 0 0 0 0 0 0 20 0 {threads} 0 1");
        assert_eq!(Process::parse(&line(1)), None);
        assert!(Process::parse(&line(2)).is_some());
        assert_eq!(Process::read(i32::MAX), None);
    }
}
