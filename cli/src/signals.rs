use std::collections::VecDeque;
use std::fs;
use std::io;
use std::sync::Arc;
use std::thread;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal as Named, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{getpid, getsid};
use rustix::process::{Pid, Signal, kill_process};
use rustix_libc_wrappers::process::SignalExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::keeper::Questions;

/// The signals that this process leaves to the kernel: those of its own faults, those that stop and continue a job, and
/// those with which the kernel limits it.
const NOT_OURS: [Named; 14] = [
    Named::SIGABRT,
    Named::SIGBUS,
    Named::SIGCONT,
    Named::SIGFPE,
    Named::SIGILL,
    Named::SIGPIPE,
    Named::SIGSEGV,
    Named::SIGSYS,
    Named::SIGTRAP,
    Named::SIGTSTP,
    Named::SIGTTIN,
    Named::SIGTTOU,
    Named::SIGXCPU,
    Named::SIGXFSZ,
];

/// The signals that do nothing to a process that does not expect them.
const HARMLESS: [i32; 3] = [Named::SIGCHLD as i32, Named::SIGURG as i32, Named::SIGWINCH as i32];

/// `si_code` of a signal that the kernel has sent, as for a key of the terminal.
const FROM_KERNEL: i32 = 0x80;

/// The signals of this process, which are blocked and read as they come. What they are set to do never changes, so that the
/// command inherits it: a signal that was ignored stays ignored, by both.
#[derive(Debug)]
pub(crate) struct Blocked {
    signals: SigSet,
    /// A bit for each that is ignored, beginning with signal 1.
    ignored: u64,
    /// What was blocked before.
    pub(crate) before: Vec<i32>,
}

impl Blocked {
    /// Blocks them in this thread, and in all that it starts.
    pub(crate) fn all() -> io::Result<Self> {
        // Before SIGCHLD is set to something else.
        let ignored = ignored() & !(1 << (Named::SIGCHLD as i32 - 1));
        let mut signals = SigSet::all();
        NOT_OURS.into_iter().for_each(|signal| signals.remove(signal));
        let before = SigSet::thread_get_mask()?.iter().map(|signal| signal as i32).collect();
        signals.thread_block()?;
        // Where SIGCHLD is ignored, as some parents leave it, the exit status of a child would be lost.
        signal_hook::flag::register(Named::SIGCHLD as i32, Arc::default())?;
        Ok(Self { signals, ignored, before })
    }

    /// Restores what was blocked before.
    pub(crate) fn restore(self) -> io::Result<()> {
        let mut signals = self.signals;
        self.before.iter().filter_map(|signal| Named::try_from(*signal).ok()).for_each(|signal| signals.remove(signal));
        Ok(signals.thread_unblock()?)
    }

    /// Starts reading them, on a thread that lives as long as the process. `witness` finds out which were sent to the whole
    /// process group; without one, only those of the terminal are recognised.
    pub(crate) fn listen(&self, mut witness: Option<Questions>) -> io::Result<Signals> {
        let source = SignalFd::with_flags(&self.signals, SfdFlags::SFD_CLOEXEC)?;
        let (sender, received) = unbounded_channel();
        let ignored = self.ignored;
        let read = move || {
            while let Ok(Some(read)) = source.read_signal() {
                // One that is blocked arrives though it is ignored.
                let is_ignored = ignored & 1u64.checked_shl(read.ssi_signo.saturating_sub(1)).unwrap_or(0) != 0;
                if is_ignored {
                    continue;
                }
                let mut received = Received::of(&read);
                if let Some(witness) = &mut witness
                    && !received.is_of_child()
                    && !received.to_group
                {
                    received.to_group = witness.has_received(received.number);
                }
                if sender.send(received).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(read)?;
        Ok(Signals { received, blocked: self.before.clone(), kept: VecDeque::new() })
    }
}

/// A signal that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) number: i32,
    /// Whether it was sent to the whole process group, and not to this process alone: as by a key of the terminal, or its
    /// end.
    pub(crate) to_group: bool,
}

impl Received {
    fn of(read: &siginfo) -> Self {
        let number = i32::try_from(read.ssi_signo).unwrap_or(0);
        Self { number, to_group: read.ssi_code == FROM_KERNEL && is_of_terminal(number) }
    }

    pub(crate) fn is_of_child(self) -> bool {
        self.number == Named::SIGCHLD as i32
    }
}

#[derive(Debug)]
pub(crate) struct Signals {
    received: UnboundedReceiver<Received>,
    /// What the caller has blocked.
    blocked: Vec<i32>,
    /// Those of them that have come before the command was there.
    kept: VecDeque<Received>,
}

impl Signals {
    /// The next signal.
    ///
    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    pub(crate) async fn next(&mut self) -> Received {
        match self.kept.pop_front() {
            Some(kept) => kept,
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Received {
        match self.received.recv().await {
            Some(received) => received,
            // They can be read for as long as the process lives.
            None => std::future::pending().await,
        }
    }

    /// Takes no notice of those that have come until now.
    pub(crate) fn forget(&mut self) {
        while self.received.try_recv().is_ok() {}
        self.kept.clear();
    }

    /// The next signal that ends a process which does nothing about it. One that the caller has blocked does not, and is kept
    /// for the command, which begins with it blocked as well.
    ///
    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    pub(crate) async fn next_that_ends(&mut self) -> i32 {
        loop {
            let received = self.receive().await;
            if HARMLESS.contains(&received.number) {
                continue;
            }
            if !self.blocked.contains(&received.number) {
                return received.number;
            }
            self.kept.push_back(received);
        }
    }
}

/// Whether the terminal sends this signal, from the kernel, to the whole foreground group. The end of a terminal is
/// signalled only to the leader of its session.
fn is_of_terminal(number: i32) -> bool {
    let is_leader = || getsid(None) == Ok(getpid());
    match Named::try_from(number) {
        Ok(Named::SIGINT | Named::SIGQUIT | Named::SIGWINCH) => true,
        Ok(Named::SIGHUP) => !is_leader(),
        _ => false,
    }
}

/// The ignored signals, from /proc, because the system call needs `unsafe`. Without /proc: none. The command then ignores
/// those that are passed on.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Ends this process by a signal, as a shell expects of one whose command has ended so. Returns if it has no effect: because
/// it is ignored, or this is the first process of a container.
pub(crate) fn die_of(number: i32) {
    // The command has left its own core file, if any.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // Rust's runtime has had it ignored.
    sigpipe::reset();
    let _ = SigSet::all().thread_unblock();
    // Rust catches some to report an overflow of the stack; for any other reason its handler removes itself.
    for _ in 0..2 {
        // To this thread: the one that reads signals could take one that is sent to the process.
        match Named::try_from(number) {
            Ok(signal) => drop(raise(signal)),
            Err(_) => {
                if let (Some(own), Some(signal)) = (Pid::from_raw(getpid().as_raw()), Signal::from_raw(number)) {
                    let _ = kill_process(own, signal);
                }
            }
        }
    }
}
