use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp, tcsetpgrp};

fn open() -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open("/dev/tty").ok()
}

/// Whether there is a terminal whose keys reach this process. The command then stays in the process group that the shell has
/// made for the job.
pub(crate) fn is_at_terminal() -> bool {
    open().is_some()
}

/// What the terminal was set to, if this process is in its foreground.
#[derive(Debug)]
pub(crate) struct Terminal(Option<(File, Termios)>);

impl Terminal {
    pub(crate) fn remember() -> Self {
        let in_foreground = |terminal: &File| tcgetpgrp(terminal) == Ok(getpgrp());
        Self(open().filter(in_foreground).and_then(|terminal| {
            let settings = tcgetattr(&terminal).ok()?;
            Some((terminal, settings))
        }))
    }

    /// Sets the terminal back after a command that could not do so: it was killed. One that has ended by itself may have
    /// meant what it did, like stty(1).
    pub(crate) fn restore(&self) {
        let Some((terminal, settings)) = &self.0 else { return };
        // Or it would stop this process, if that is no longer in the foreground.
        let mut background = SigSet::empty();
        background.add(Signal::SIGTTOU);
        let _ = background.thread_block();
        let _ = tcsetpgrp(terminal, getpgrp());
        let _ = tcsetattr(terminal, SetArg::TCSADRAIN, settings);
        let _ = background.thread_unblock();
    }
}
