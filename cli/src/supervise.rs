//! While the command runs, sends signals and each new deadline to its keeper.

use std::time::Duration;

use db_mutex::{Guard, Ttl};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{RunArgs, refuse_short_ttl};
use crate::exit::{Failure, USAGE};
use crate::keeper::{BootTime, Deadline, Keeper, Order, Report, Status, Witness};
use crate::print;
use crate::signals::Signals;

/// How long before the end of the lease the command gets SIGTERM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notice(pub(crate) Duration);

impl Notice {
    pub(crate) fn of(args: &RunArgs, ttl: Ttl) -> Result<Self, Failure> {
        let default = Duration::from_secs(10);
        let Some(lease) = ttl.duration() else { return Ok(Self(args.kill_after.unwrap_or(default))) };
        // The option was checked before.
        refuse_short_ttl(lease)
            .map_err(|what| Failure::new(USAGE, format!("DB_MUTEX_TTL_SECONDS is too small: {what}")))?;
        // A lease is renewed when a third of it is over, and the renewal may take a while.
        let longest = if args.no_renew { lease / 4 * 3 } else { lease / 2 };
        match args.kill_after {
            Some(kill_after) if kill_after > longest => {
                let message = format!(
                    "--kill-after {} is too long for a ttl of {}; give at most {}",
                    print::span(kill_after),
                    print::span(lease),
                    print::span(longest)
                );
                Err(Failure::new(USAGE, message))
            }
            Some(kill_after) => Ok(Self(kill_after)),
            None => Ok(Self(default.min(lease / 3))),
        }
    }
}

/// How the command ended.
pub(crate) enum Outcome {
    ByItself {
        status: Status,
        /// The processes that it has left running in its process group.
        left: Vec<String>,
    },
    /// The lock was lost, or about to be.
    Ended {
        /// Whether db-mutex was stopped, or the machine suspended, for so long that it could not renew the lease in time.
        was_stopped: bool,
        /// The processes that could not be terminated.
        left: Vec<String>,
    },
    TooLate,
    NotStarted(String),
    /// The keeper was killed, and the command with it.
    KeeperGone,
}

/// The supervision of a command that runs under a lock.
#[derive(Clone, Copy)]
pub(crate) struct Supervision<'a> {
    pub(crate) guard: &'a Guard,
    pub(crate) notice: Notice,
    pub(crate) ttl: Ttl,
}

impl Supervision<'_> {
    /// Until when the command may work, as the lease is now.
    pub(crate) fn deadline(&self) -> Deadline {
        // Read first, so that the end is too early rather than too late.
        let now = BootTime::now();
        let (Some(left), Some(ttl)) = (self.guard.remaining(), self.ttl.duration()) else {
            return Deadline { ask_at: BootTime::NEVER, kill_at: BootTime::NEVER, last: BootTime::NEVER };
        };
        let kill_at = now.after(left);
        // Still within the margin by which a guard ends before its lease.
        let last = kill_at.after((ttl / 40).max(Duration::from_millis(50)).min(ttl / 4));
        Deadline { ask_at: kill_at.before(self.notice.0), kill_at, last }
    }

    /// How often to check for a new deadline.
    pub(crate) fn interval(&self) -> Duration {
        self.ttl.duration().map_or(Duration::from_secs(3600), |ttl| ttl / 12).max(Duration::from_millis(10))
    }

    /// Passes signals and deadlines on until the command has ended.
    pub(crate) async fn supervise(
        self,
        keeper: &mut Keeper,
        witness: Option<Witness>,
        signals: &mut Signals,
        in_terminal: bool,
    ) -> Outcome {
        let mut sent = self.deadline();
        let (mut is_lost, mut was_stopped) = (false, false);
        let mut ticks = interval(self.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let report = loop {
            let late = BootTime::now().after(3 * self.interval());
            tokio::select! {
                biased;
                _ = ticks.tick(), if !is_lost => {
                    was_stopped |= late < BootTime::now();
                    let deadline = self.deadline();
                    if deadline.kill_at > sent.kill_at.after(Duration::from_millis(1)) {
                        sent = deadline;
                        keeper.send(&Order::Deadline(deadline));
                    }
                }
                report = keeper.report() => break report,
                signal = signals.next() => {
                    if signal.is_of_child() {
                        keeper.reap();
                    } else if !(in_terminal && signal.to_group) {
                        keeper.send(&Order::Signal(signal.number));
                    }
                }
                _ = self.guard.lost(), if !is_lost => {
                    is_lost = true;
                    keeper.send(&Order::End);
                }
            }
        };
        let outcome = match report {
            Ok(Some(Report::Ended { status, by_keeper: false, left })) => Outcome::ByItself { status, left },
            Ok(Some(Report::Ended { left, .. })) => Outcome::Ended { was_stopped, left },
            Ok(Some(Report::TooLate)) => Outcome::TooLate,
            Ok(Some(Report::NotStarted(why))) => Outcome::NotStarted(why),
            Ok(Some(Report::Ready) | None) | Err(_) => {
                drop(witness);
                keeper.end_in_its_place();
                Outcome::KeeperGone
            }
        };
        // It ends while the lock is released.
        keeper.send(&Order::Done);
        outcome
    }
}
