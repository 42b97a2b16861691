//! Tells whether a signal was sent to all of a process group, or to db-mutex alone.
//!
//! At a terminal the command is in the same process group as db-mutex. What is sent to the group, as by `kill %1` in a
//! shell, reaches the command without db-mutex, which must not pass it on once more. Nothing in a signal says so; but a
//! second process of ours in the group has received it as well.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{WITNESS, socket, this_executable};

/// How long the kernel may need to send a signal to all of a group.
const SENDING: Duration = Duration::from_millis(5);

/// How long the answer is waited for. A witness that is stopped gives none.
const ANSWERING: Duration = Duration::from_millis(200);

/// How long a signal that was noted can be one that db-mutex has just received.
const NOTED: Duration = Duration::from_secs(1);

/// `si_code` of a signal that the kernel has sent, as for a key of the terminal.
const FROM_KERNEL: i32 = 0x80;

/// Real-time signals are queued, others are pending or not.
const FIRST_QUEUED: i32 = 32;

/// The witness's own process: notes what it receives, and tells it when asked. A question is a signal and a number, which the
/// answer has too.
pub(super) fn main() -> io::Result<()> {
    // It stops and goes on with the job.
    let mut signals = SigSet::all();
    [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU].into_iter().for_each(|signal| signals.remove(signal));
    signals.thread_block()?;
    let _ = set_name(c"dbmutex-witness");
    set_pdeathsig(Signal::SIGKILL)?;
    let mut socket = socket::standard_input()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut noted = Vec::<(u8, Instant)>::new();
    loop {
        let mut sources =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut sources, PollTimeout::NONE)?;
        let is_asked = sources[1].any().unwrap_or(true);
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_code != FROM_KERNEL {
                noted.push((u8::try_from(signal.ssi_signo).unwrap_or(0), Instant::now()));
            }
        }
        noted.retain(|(_, at)| at.elapsed() < NOTED);
        if is_asked {
            let mut question = [0; 2];
            match socket.read_exact(&mut question) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            }
            let at = noted.iter().position(|(signal, _)| *signal == question[0]);
            at.map(|at| noted.remove(at));
            // Those that are not queued may have become one on the other side.
            noted.retain(|(signal, _)| *signal != question[0] || i32::from(*signal) >= FIRST_QUEUED);
            socket.write_all(&[u8::from(at.is_some()), question[1]])?;
        }
    }
}

/// The witness, as db-mutex sees it. It ends with this, or with db-mutex.
#[derive(Debug)]
pub(crate) struct Witness {
    child: Child,
    socket: UnixStream,
    asked: u8,
}

impl Witness {
    /// Starts one in this process's group.
    pub(crate) fn start() -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(this_executable()?);
        command.arg(WITNESS).env_clear().current_dir("/").stdin(OwnedFd::from(theirs));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        drop(command);
        ours.set_read_timeout(Some(ANSWERING))?;
        Ok(Self { child, socket: ours, asked: 0 })
    }

    /// Whether the group has received a signal that this process has just received.
    pub(crate) fn has_received(&mut self, signal: i32) -> bool {
        std::thread::sleep(SENDING);
        self.asked = self.asked.wrapping_add(1);
        let mut asked = || -> io::Result<bool> {
            self.socket.write_all(&[u8::try_from(signal).unwrap_or(0), self.asked])?;
            loop {
                let mut answer = [0; 2];
                self.socket.read_exact(&mut answer)?;
                // One that has stood still answers earlier questions first.
                if answer[1] == self.asked {
                    return Ok(answer[0] == 1);
                }
            }
        };
        asked().unwrap_or(false)
    }
}

impl Drop for Witness {
    /// Reaps it. It is not killed by its number, which may be another's: whoever reaps all children may have reaped it.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        let give_up = Instant::now() + ANSWERING;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < give_up {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
