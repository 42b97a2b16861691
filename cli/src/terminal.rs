use std::io::{self, IsTerminal, Stdin};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

/// The terminal, handed to a child's process group for as long as the child runs.
///
/// The child has a process group of its own, and only the terminal's foreground group may read from it and gets its
/// Ctrl-C. A shell does the same with its jobs. In cron there is no terminal, and none of this happens.
#[derive(Debug)]
pub(crate) struct Terminal {
    stdin: Stdin,
    child: Pid,
}

impl Terminal {
    /// Hands the terminal over, if standard input is one and it is ours to give.
    pub(crate) fn hand_to(child: Pid) -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || tcgetpgrp(&stdin).ok()? != getpgrp() {
            return None;
        }
        // To take it back is allowed to a background process only if this signal, which would stop us, is blocked.
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTTOU);
        blocked.thread_block().ok()?;
        let terminal = Self { stdin, child };
        terminal.give_to(child);
        Some(terminal)
    }

    /// Does what a shell's job does on Ctrl-Z: stops with its child, and goes on with it.
    pub(crate) fn stop_with_child(&self) {
        self.give_to(getpgrp());
        let _ = raise(Signal::SIGSTOP);
        // Continued by `fg`, which has put us into the foreground again, or by `bg`, which has not.
        if tcgetpgrp(&self.stdin) == Ok(getpgrp()) {
            self.give_to(self.child);
        }
    }

    fn give_to(&self, group: Pid) {
        let _ = tcsetpgrp(&self.stdin, group);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if tcgetpgrp(&self.stdin) == Ok(self.child) {
            self.give_to(getpgrp());
        }
    }
}
