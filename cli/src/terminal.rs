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

/// The settings of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal(Option<Settings>);

#[derive(Debug)]
struct Settings {
    terminal: File,
    settings: Termios,
    /// Whether this process was in its foreground.
    was_ours: bool,
}

impl Terminal {
    pub(crate) fn remember() -> Self {
        Self(open().and_then(|terminal| {
            let settings = tcgetattr(&terminal).ok()?;
            let was_ours = tcgetpgrp(&terminal) == Ok(getpgrp());
            Some(Settings { terminal, settings, was_ours })
        }))
    }

    /// Restores the terminal after a command that was killed and could not do so. A command that ended by itself may have
    /// changed it on purpose, like stty(1).
    pub(crate) fn restore(&self) {
        let Some(Settings { terminal, settings, was_ours }) = &self.0 else { return };
        if !was_ours && tcgetpgrp(terminal) != Ok(getpgrp()) {
            return;
        }
        // Or it would stop this process, if that is no longer in the foreground.
        let mut background = SigSet::empty();
        background.add(Signal::SIGTTOU);
        let _ = background.thread_block();
        let _ = tcsetpgrp(terminal, getpgrp());
        let _ = tcsetattr(terminal, SetArg::TCSADRAIN, settings);
        let _ = background.thread_unblock();
    }
}
