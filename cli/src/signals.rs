use std::collections::VecDeque;
use std::fs;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal as Named, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{getpid, getsid};
use rustix::process::{Pid, Signal, kill_process};
use rustix_libc_wrappers::process::SignalExt;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::keeper::{BootTime, Questions};

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

    /// Starts listening to them. `witness` finds out which were sent to the whole process group; without one, only those of
    /// the terminal are recognised.
    pub(crate) fn listen(&self, witness: Option<Questions>) -> io::Result<Signals> {
        Ok(Signals {
            source: Source::start(&self.signals, self.ignored)?,
            asked: witness.map(Asked::start).transpose()?,
            blocked: self.before.clone(),
            kept: VecDeque::new(),
        })
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

/// Where they are read.
#[derive(Debug)]
struct Source {
    signals: SignalFd,
    /// Told that there may be one.
    came: Arc<Notify>,
    ignored: u64,
}

impl Source {
    /// Starts the thread that waits for them, and lives as long as the process. It leaves them to be read.
    fn start(which: &SigSet, ignored: u64) -> io::Result<Self> {
        let signals = SignalFd::with_flags(which, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let events = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // Once for each, whether those before were read or not.
        events.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0))?;
        let came = Arc::new(Notify::new());
        let told = Arc::clone(&came);
        let wait = move || {
            while matches!(events.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE), Ok(_) | Err(Errno::EINTR)) {
                told.notify_one();
            }
        };
        thread::Builder::new().name("signals".into()).spawn(wait)?;
        Ok(Self { signals, came, ignored })
    }

    /// One that has already come.
    fn take(&self) -> Option<Received> {
        loop {
            let read = self.signals.read_signal().ok().flatten()?;
            // One that is blocked arrives though it is ignored.
            if self.ignored & 1u64.checked_shl(read.ssi_signo.saturating_sub(1)).unwrap_or(0) == 0 {
                return Some(Received::of(&read));
            }
        }
    }

    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    async fn next(&self) -> Received {
        loop {
            if let Some(received) = self.take() {
                return received;
            }
            self.came.notified().await;
        }
    }
}

/// The thread that asks the witness, because an answer takes time.
#[derive(Debug)]
struct Asked {
    questions: mpsc::Sender<(Received, BootTime)>,
    answers: UnboundedReceiver<Received>,
}

impl Asked {
    fn start(mut witness: Questions) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel::<(Received, BootTime)>();
        let (answer, answers) = unbounded_channel();
        let ask = move || {
            for (received, at) in asked {
                let to_group = witness.has_received(received.number, at);
                if answer.send(Received { to_group, ..received }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("witness".into()).spawn(ask)?;
        Ok(Self { questions, answers })
    }

    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    async fn next(asked: &mut Option<Self>) -> Received {
        let answer = match asked {
            Some(asked) => asked.answers.recv().await,
            None => None,
        };
        match answer {
            Some(received) => received,
            None => std::future::pending().await,
        }
    }
}

/// The signals that come. The kernel keeps each until it is read here, so that none which was sent before a given moment is
/// still on its way after it.
#[derive(Debug)]
pub(crate) struct Signals {
    source: Source,
    asked: Option<Asked>,
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
        loop {
            if let Some(kept) = self.kept.pop_front() {
                return kept;
            }
            let received = tokio::select! {
                biased;
                answered = Asked::next(&mut self.asked) => return answered,
                received = self.source.next() => received,
            };
            match &self.asked {
                Some(asked) if !received.is_of_child() && !received.to_group => {
                    // Without the thread, which lives as long as this, there is no answer to wait for.
                    if asked.questions.send((received, BootTime::now())).is_err() {
                        return received;
                    }
                }
                _ => return received,
            }
        }
    }

    /// Takes no notice of those that have come until now.
    pub(crate) fn forget(&mut self) {
        while self.source.take().is_some() {}
        while self.asked.as_mut().is_some_and(|asked| asked.answers.try_recv().is_ok()) {}
        self.kept.clear();
    }

    /// The next signal that ends a process which does nothing about it. One that the caller has blocked does not, and is kept
    /// for the command, which begins with it blocked as well.
    ///
    /// # Cancellation safety
    /// If the future is dropped, nothing is lost.
    pub(crate) async fn next_that_ends(&mut self) -> i32 {
        loop {
            let received = self.source.next().await;
            if let Some(number) = self.ends(received) {
                return number;
            }
        }
    }

    /// Such a signal that was sent before this is called, if there is one.
    pub(crate) fn that_has_ended(&mut self) -> Option<i32> {
        while let Some(received) = self.source.take() {
            if let Some(number) = self.ends(received) {
                return Some(number);
            }
        }
        None
    }

    fn ends(&mut self, received: Received) -> Option<i32> {
        if HARMLESS.contains(&received.number) {
            return None;
        }
        if !self.blocked.contains(&received.number) {
            return Some(received.number);
        }
        // The command's process may have received it as well, or not yet have been there. Blocked, two of them are one.
        self.kept.push_back(Received { to_group: false, ..received });
        None
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
        // To this thread: another could take one that is sent to the process.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Even if no other thread has run since: else one that was sent before the command's process was there could be taken for
    /// one that has reached it.
    #[test]
    fn a_signal_that_was_sent_is_there_at_once() {
        // In a thread of its own, so that the other tests keep their signals.
        let test = || {
            let blocked = Blocked::all().unwrap();
            for _ in 0..100 {
                let mut signals = blocked.listen(None).unwrap();
                assert_eq!(signals.that_has_ended(), None);
                raise(Named::SIGUSR1).unwrap();
                assert_eq!(signals.that_has_ended(), Some(Named::SIGUSR1 as i32));
            }
        };
        thread::spawn(test).join().unwrap();
    }

    /// One that the caller had blocked is for the command, whichever processes it has reached.
    #[test]
    fn a_signal_that_the_caller_blocks_is_kept_for_the_command() {
        let test = || {
            let usr2 = SigSet::from_iter([Named::SIGUSR2]);
            usr2.thread_block().unwrap();
            let mut signals = Blocked::all().unwrap().listen(None).unwrap();
            raise(Named::SIGUSR2).unwrap();
            assert_eq!(signals.that_has_ended(), None);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let kept = runtime.block_on(signals.next());
            assert_eq!(kept, Received { number: Named::SIGUSR2 as i32, to_group: false });
        };
        thread::spawn(test).join().unwrap();
    }
}
