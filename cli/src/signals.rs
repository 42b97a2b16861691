use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// The signals that ask a job to end, and the news that a child has changed its state. From here on none of them ends
/// db-mutex by itself.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Stream,
    terminate: Stream,
    /// None where SIGHUP was ignored when we were started, as nohup(1) does. To catch it would end that for the child
    /// too: a handler does not outlive an exec, and what is ignored does.
    hangup: Option<Stream>,
    quit: Stream,
    child: Stream,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if is_ignored(Signal::SIGHUP) { None } else { Some(signal(SignalKind::hangup())?) },
            quit: signal(SignalKind::quit())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// The next signal that is to be passed on.
    ///
    /// # Cancellation safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next_to_pass_on(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.quit.recv() => Signal::SIGQUIT,
            () = next_of(&mut self.hangup) => Signal::SIGHUP,
        }
    }

    /// The next signal to pass on, or `None` when a child has changed its state.
    ///
    /// # Cancellation safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Signal> {
        tokio::select! {
            _ = self.child.recv() => None,
            _ = self.interrupt.recv() => Some(Signal::SIGINT),
            _ = self.terminate.recv() => Some(Signal::SIGTERM),
            _ = self.quit.recv() => Some(Signal::SIGQUIT),
            () = next_of(&mut self.hangup) => Some(Signal::SIGHUP),
        }
    }
}

/// The next signal of a kind that may not be listened to.
async fn next_of(stream: &mut Option<Stream>) {
    match stream {
        Some(stream) => {
            stream.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether a signal is ignored, as /proc tells without a system call that needs `unsafe`; elsewhere it is taken not to be.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal as i32 - 1)) != 0
}
