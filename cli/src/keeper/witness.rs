//! Finds out whether a signal was sent to a whole process group, or only to db-mutex.
//!
//! At a terminal the command is in the same process group as db-mutex. A signal to the group, as by `kill %1` in a shell,
//! reaches the command directly, and db-mutex must not pass it on again. The signal itself does not show this, but a second
//! db-mutex process in the group has received it as well.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::message::BootTime;
use super::{WITNESS, descendants, socket, this_executable};

/// How long the kernel may need to send a signal to all of a group.
const SENDING: Duration = Duration::from_millis(5);

/// How long to wait for an answer: longer than a busy machine needs. A stopped witness does not answer.
const ANSWERING: Duration = Duration::from_secs(2);

/// How long to wait once there was no answer.
const ANSWERING_AGAIN: Duration = Duration::from_millis(10);

/// How long to wait for a witness that has nothing left to do.
const ENDING: Duration = Duration::from_millis(200);

/// How long a signal that was noted can be one that db-mutex has just received.
const NOTED: Duration = Duration::from_secs(1);

/// `si_code` of a signal that the kernel has sent, as for a key of the terminal.
const FROM_KERNEL: i32 = 0x80;

/// The bytes of a question.
const QUESTION: usize = 10;

/// Real-time signals are queued, others are pending or not.
const FIRST_QUEUED: i32 = 32;

/// The witness's own process: it notes the signals that it receives, and answers questions about them. A question consists
/// of a signal, a number that the answer repeats, and the time when db-mutex read the signal.
pub(super) fn main() -> io::Result<()> {
    // It stops and continues with the job.
    let mut signals = SigSet::all();
    [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU].into_iter().for_each(|signal| signals.remove(signal));
    signals.thread_block()?;
    let _ = set_name(c"dbmutex-witness");
    set_pdeathsig(Signal::SIGKILL)?;
    let mut socket = socket::standard_input()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut noted = Vec::<(u8, BootTime)>::new();
    loop {
        let mut sources =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut sources, PollTimeout::NONE)?;
        let is_asked = sources[1].any().unwrap_or(true);
        while let Ok(Some(signal)) = signals.read_signal() {
            if signal.ssi_code != FROM_KERNEL {
                noted.push((u8::try_from(signal.ssi_signo).unwrap_or(0), BootTime::now()));
            }
        }
        noted.retain(|(_, at)| at.after(NOTED) > BootTime::now());
        if is_asked {
            let mut question = [0; QUESTION];
            match socket.read_exact(&mut question) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            }
            let [asked, number, read @ ..] = question;
            let read = BootTime::from_bytes(read);
            let first = noted.iter().position(|(signal, _)| *signal == asked);
            first.map(|first| noted.remove(first));
            // Of those that are not queued, the ones that came before it was read have become one on the other side.
            noted.retain(|(signal, at)| *signal != asked || i32::from(*signal) >= FIRST_QUEUED || *at > read);
            socket.write_all(&[u8::from(first.is_some()), number])?;
        }
    }
}

/// The witness, as db-mutex sees it. It ends with this, or with db-mutex.
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
        command.arg(WITNESS).env_clear().current_dir("/").stdin(OwnedFd::from(theirs));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        drop(command);
        Ok(Self { child, socket: ours })
    }

    /// The part for the thread that asks, because an answer takes time.
    pub(crate) fn questions(&self) -> io::Result<Questions> {
        Ok(Questions { socket: self.socket.try_clone()?, asked: 0, wait: ANSWERING })
    }
}

impl Drop for Witness {
    /// Reaps it. It is not killed by its number, which may be another's: code that reaps all children may have reaped it.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        descendants::ends_within(&mut self.child, ENDING);
    }
}

/// Asks the witness. Once that is gone, it has received nothing.
#[derive(Debug)]
pub(crate) struct Questions {
    socket: UnixStream,
    asked: u8,
    wait: Duration,
}

impl Questions {
    /// Whether the group has received a signal that this process has read just now, at the time `read`.
    ///
    /// Exact for signals that come one at a time. The kernel makes one of two alike that come at once, and may have done so
    /// in one process and not in the other; then one of them may reach the command twice, or not.
    pub(crate) fn has_received(&mut self, signal: i32, read: BootTime) -> bool {
        std::thread::sleep(SENDING);
        let answer = self.ask(signal, read);
        self.wait = if answer.is_ok() { ANSWERING } else { ANSWERING_AGAIN };
        answer.unwrap_or(false)
    }

    fn ask(&mut self, signal: i32, read: BootTime) -> io::Result<bool> {
        self.asked = self.asked.wrapping_add(1);
        self.socket.set_read_timeout(Some(self.wait))?;
        // A stopped witness reads nothing, and its socket fills up.
        self.socket.set_write_timeout(Some(self.wait))?;
        let mut question = [0; QUESTION];
        question[..2].copy_from_slice(&[u8::try_from(signal).unwrap_or(0), self.asked]);
        question[2..].copy_from_slice(&read.to_bytes());
        self.socket.write_all(&question)?;
        loop {
            let mut answer = [0; 2];
            self.socket.read_exact(&mut answer)?;
            // A witness that was stopped answers earlier questions first.
            if answer[1] == self.asked {
                return Ok(answer[0] == 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_witness_that_is_stopped_blocks_no_one() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        while (&ours).write(&[0; QUESTION]).is_ok() {}
        ours.set_nonblocking(false).unwrap();
        let mut questions = Questions { socket: ours, asked: 0, wait: ANSWERING_AGAIN };
        let (sender, receiver) = channel();
        std::thread::spawn(move || sender.send(questions.has_received(Signal::SIGTERM as i32, BootTime::now())));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(30)), Ok(false));
        drop(theirs);
    }
}
