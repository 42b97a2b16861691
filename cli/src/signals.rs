use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// The signals that ask a job to end, and the news that a child has changed its state. From here on none of them ends
/// db-mutex by itself.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Stream,
    quit: Stream,
    child: Stream,
    /// SIGHUP was ignored when we were started, as nohup(1) does; it stays so for the child.
    hangup_is_ignored: bool,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup_is_ignored: is_ignored(Signal::SIGHUP),
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// The next signal that is to be passed on.
    ///
    /// # Cancellation safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next_to_pass_on(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return Signal::SIGINT,
                _ = self.terminate.recv() => return Signal::SIGTERM,
                _ = self.quit.recv() => return Signal::SIGQUIT,
                _ = self.hangup.recv() => if !self.hangup_is_ignored { return Signal::SIGHUP },
            }
        }
    }

    /// The next signal to pass on, or `None` when a child has changed its state.
    ///
    /// # Cancellation safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Signal> {
        loop {
            tokio::select! {
                _ = self.child.recv() => return None,
                _ = self.interrupt.recv() => return Some(Signal::SIGINT),
                _ = self.terminate.recv() => return Some(Signal::SIGTERM),
                _ = self.quit.recv() => return Some(Signal::SIGQUIT),
                _ = self.hangup.recv() => if !self.hangup_is_ignored { return Some(Signal::SIGHUP) },
            }
        }
    }
}

/// Whether a signal is ignored, as /proc tells without a system call that needs `unsafe`; elsewhere it is taken not to be.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal as i32 - 1)) != 0
}
