//! Tells whether a signal was sent to all of a process group, or to db-mutex alone.
//!
//! At a terminal the command is in the same process group as db-mutex. What is sent to the group, as by `kill %1` in a
//! shell, reaches the command without db-mutex, which must not pass it on once more. Nothing in a signal says so; but a
//! second process of ours in the group has received it as well.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{WITNESS, this_executable};

/// How long the kernel may need to send a signal to all of a group.
const SENDING: Duration = Duration::from_millis(5);

/// How long the answer is waited for. A witness that is stopped gives none.
const ANSWERING: Duration = Duration::from_millis(200);

/// The witness's own process: notes what it receives, and tells it when asked.
pub(super) fn main() -> io::Result<()> {
    SigSet::all().thread_block()?;
    let _ = set_name(c"db-mutex-witness");
    set_pdeathsig(Signal::SIGKILL)?;
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut received = Vec::new();
    loop {
        let mut sources =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut sources, PollTimeout::NONE)?;
        let is_asked = sources[1].any().unwrap_or(true);
        while let Ok(Some(signal)) = signals.read_signal() {
            received.push(u8::try_from(signal.ssi_signo).unwrap_or(0));
        }
        if is_asked {
            let mut asked = [0];
            if socket.read(&mut asked)? == 0 {
                return Ok(());
            }
            let has_received = received.contains(&asked[0]);
            received.retain(|signal| *signal != asked[0]);
            socket.write_all(&[u8::from(has_received)])?;
        }
    }
}

/// The witness, as db-mutex sees it. Ends with it.
#[derive(Debug)]
pub(crate) struct Witness {
    child: Child,
    socket: UnixStream,
}

impl Witness {
    /// Starts one in this process's group.
    pub(crate) fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(this_executable()?);
        let null = || std::process::Stdio::null();
        command.arg(WITNESS).env_clear().current_dir("/").stdin(std::os::fd::OwnedFd::from(theirs));
        let child = command.stdout(null()).stderr(null()).spawn()?;
        ours.set_read_timeout(Some(ANSWERING))?;
        Ok(Self { child, socket: ours })
    }

    /// Whether the group has received a signal that this process has just received.
    pub(crate) fn has_received(&mut self, signal: i32) -> bool {
        std::thread::sleep(SENDING);
        let mut answer = [0];
        let asked = [u8::try_from(signal).unwrap_or(0)];
        let answered = self.socket.write_all(&asked).and_then(|()| self.socket.read_exact(&mut answer));
        answered.is_ok() && answer == [1]
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
