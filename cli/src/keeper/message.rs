//! The messages between db-mutex and its keeper, each of a few fields.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::args::Descendants;

/// A time on a clock that continues while the machine is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(u64);

impl BootTime {
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        Self(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
    }

    /// For too long a duration: never.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn before(self, duration: Duration) -> Self {
        if self == Self::NEVER {
            return self;
        }
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long until then; zero if it has passed.
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(Self::now().0))
    }

    pub(crate) fn since_boot(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub(crate) fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}

/// Until when the command may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// It gets SIGTERM.
    pub(crate) ask_at: BootTime,
    /// It is killed.
    pub(crate) kill_at: BootTime,
    /// The kernel kills the keeper if it has not killed the command, and the command dies with it.
    pub(crate) last: BootTime,
}

/// What to start, and under which rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) file: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Whether the command has its own process group; otherwise it is in that of db-mutex.
    pub(crate) own_group: bool,
    /// The numbers of the signals that the command begins with blocked.
    pub(crate) blocked: Vec<i32>,
    pub(crate) descendants: Descendants,
    /// The time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    pub(crate) deadline: Deadline,
}

/// The orders from db-mutex to its keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    Start(Box<Plan>),
    Deadline(Deadline),
    /// The lock is gone: end the command.
    End,
    /// Pass the signal on.
    Signal(i32),
    /// The report has arrived, and nothing is left to do.
    Done,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Exited(i32),
    Signaled(i32),
}

/// The reports from the keeper to db-mutex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The process that becomes the command is ready.
    Ready,
    NotStarted(String),
    /// The lease was over before the command could be started.
    TooLate,
    /// The command has ended, by itself or by the keeper, with what is left of its descendants.
    Ended {
        status: Status,
        by_keeper: bool,
        left: Vec<String>,
    },
}

fn number(number: impl ToString) -> Vec<u8> {
    number.to_string().into_bytes()
}

impl Deadline {
    fn fields(self) -> [Vec<u8>; 3] {
        [self.ask_at, self.kill_at, self.last].map(|time| number(time.0))
    }
}

impl Order {
    fn fields(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Start(plan) => {
                let mut fields = vec![b"start".to_vec(), number(u8::from(plan.own_group))];
                fields.push(number(plan.descendants as u8));
                fields.push(number(plan.grace.as_nanos()));
                fields.extend(plan.deadline.fields());
                fields.push(plan.file.as_os_str().as_bytes().to_vec());
                for list in [
                    plan.blocked.iter().map(number).collect(),
                    plan.arguments.iter().map(|one| one.as_bytes().to_vec()).collect(),
                    plan.environment.iter().flat_map(|(name, value)| [bytes(name), bytes(value)]).collect::<Vec<_>>(),
                ] {
                    fields.push(number(list.len()));
                    fields.extend(list);
                }
                fields
            }
            Self::Deadline(deadline) => [b"deadline".to_vec()].into_iter().chain(deadline.fields()).collect(),
            Self::End => vec![b"end".to_vec()],
            Self::Signal(signal) => vec![b"signal".to_vec(), number(signal)],
            Self::Done => vec![b"done".to_vec()],
        }
    }

    fn parse(fields: Vec<Vec<u8>>) -> Option<Self> {
        let mut fields = Fields(fields.into_iter());
        Some(match &*fields.next()? {
            b"start" => Self::Start(Box::new(fields.plan()?)),
            b"deadline" => Self::Deadline(fields.deadline()?),
            b"end" => Self::End,
            b"signal" => Self::Signal(fields.number()?),
            b"done" => Self::Done,
            _ => return None,
        })
    }
}

impl Report {
    fn fields(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Ready => vec![b"ready".to_vec()],
            Self::NotStarted(why) => vec![b"not started".to_vec(), why.clone().into_bytes()],
            Self::TooLate => vec![b"too late".to_vec()],
            Self::Ended { status, by_keeper, left } => {
                let (kind, code) = match status {
                    Status::Exited(code) => (0, code),
                    Status::Signaled(signal) => (1, signal),
                };
                let fields = [b"ended".to_vec(), number(kind), number(code), number(u8::from(*by_keeper))];
                fields.into_iter().chain(left.iter().map(|one| one.clone().into_bytes())).collect()
            }
        }
    }

    fn parse(fields: Vec<Vec<u8>>) -> Option<Self> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let mut fields = Fields(fields.into_iter());
        Some(match &*fields.next()? {
            b"ready" => Self::Ready,
            b"not started" => Self::NotStarted(text(fields.next()?)),
            b"too late" => Self::TooLate,
            b"ended" => {
                let (kind, code): (u8, i32) = (fields.number()?, fields.number()?);
                let status = if kind == 0 { Status::Exited(code) } else { Status::Signaled(code) };
                let by_keeper = fields.number::<u8>()? == 1;
                Self::Ended { status, by_keeper, left: fields.0.map(text).collect() }
            }
            _ => return None,
        })
    }
}

fn bytes(text: &OsStr) -> Vec<u8> {
    text.as_bytes().to_vec()
}

struct Fields(std::vec::IntoIter<Vec<u8>>);

impl Fields {
    fn next(&mut self) -> Option<Vec<u8>> {
        self.0.next()
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        String::from_utf8(self.next()?).ok()?.parse().ok()
    }

    fn text(&mut self) -> Option<OsString> {
        self.next().map(OsString::from_vec)
    }

    fn list<T>(&mut self, mut next: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length: usize = self.number()?;
        (0..length).map(|_| next(self)).collect()
    }

    fn deadline(&mut self) -> Option<Deadline> {
        let [ask_at, kill_at, last] = [self.number()?, self.number()?, self.number()?].map(BootTime);
        Some(Deadline { ask_at, kill_at, last })
    }

    fn plan(&mut self) -> Option<Plan> {
        let own_group = self.number::<u8>()? == 1;
        let descendants = match self.number::<u8>()? {
            wait if wait == Descendants::Wait as u8 => Descendants::Wait,
            end if end == Descendants::End as u8 => Descendants::End,
            _ => Descendants::Leave,
        };
        let grace = Duration::from_nanos(self.number()?);
        let deadline = self.deadline()?;
        let file = PathBuf::from(self.text()?);
        let blocked = self.list(Self::number)?;
        let arguments = self.list(Self::text)?;
        let environment = self.list(Self::text)?;
        let environment = environment.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Some(Plan { file, arguments, environment, own_group, blocked, descendants, grace, deadline })
    }
}

/// A message as it is sent: its length, and its fields with a NUL after each, which none of them contains.
fn encode(fields: &[Vec<u8>]) -> Vec<u8> {
    let length: usize = fields.iter().map(|field| field.len() + 1).sum();
    let mut message = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    for field in fields {
        message.extend(field.iter().filter(|byte| **byte != 0));
        message.push(0);
    }
    message
}

fn decode(body: &[u8]) -> Vec<Vec<u8>> {
    let body = body.strip_suffix(&[0]).unwrap_or(body);
    body.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// What can be sent.
pub(crate) trait Message: Sized {
    fn encoded(&self) -> Vec<u8>;
    fn decoded(body: &[u8]) -> Option<Self>;

    fn send(&self, mut to: impl Write) -> io::Result<()> {
        to.write_all(&self.encoded())
    }

    /// The next message; `None` when the other side is gone.
    fn receive(mut from: impl Read) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap_or(0)];
        from.read_exact(&mut body)?;
        Self::decoded(&body).map(Some).ok_or_else(|| io::Error::other("an unknown message"))
    }
}

impl Message for Order {
    fn encoded(&self) -> Vec<u8> {
        encode(&self.fields())
    }

    fn decoded(body: &[u8]) -> Option<Self> {
        Self::parse(decode(body))
    }
}

impl Message for Report {
    fn encoded(&self) -> Vec<u8> {
        encode(&self.fields())
    }

    fn decoded(body: &[u8]) -> Option<Self> {
        Self::parse(decode(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrives<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
        let sent = message.encoded();
        assert_eq!(M::receive(&*sent).unwrap().as_ref(), Some(message));
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let deadline = Deadline { ask_at: BootTime(1), kill_at: BootTime(2), last: BootTime::NEVER };
        let plan = Plan {
            file: "/bin/true".into(),
            arguments: vec!["true".into(), "".into(), OsString::from_vec(vec![0xff, b' '])],
            environment: vec![("A".into(), "".into()), ("B".into(), "x=\ny".into())],
            own_group: true,
            blocked: vec![1, 12],
            descendants: Descendants::Wait,
            grace: Duration::from_millis(1500),
            deadline,
        };
        let alone = Plan { own_group: false, blocked: vec![], environment: vec![], ..plan.clone() };
        for order in [
            Order::Start(Box::new(plan)),
            Order::Start(Box::new(alone)),
            Order::Deadline(deadline),
            Order::End,
            Order::Signal(34),
            Order::Done,
        ] {
            arrives(&order);
        }
        let left = vec!["sleep (17)".into(), "".into()];
        for report in [
            Report::Ready,
            Report::NotStarted("no such file".into()),
            Report::TooLate,
            Report::Ended { status: Status::Exited(3), by_keeper: false, left },
            Report::Ended { status: Status::Signaled(9), by_keeper: true, left: vec![] },
        ] {
            arrives(&report);
        }
    }

    #[test]
    fn the_end_of_the_other_side_is_no_message() {
        assert_eq!(Order::receive(&[][..]).unwrap(), None);
        assert!(Order::receive(&[0, 0, 0, 9, b'e'][..]).is_err());
    }
}
