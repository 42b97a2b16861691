//! While the command runs: signals and each new deadline are sent to its keeper.

use std::time::Duration;

use db_mutex::{Guard, Ttl};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::RunArgs;
use crate::exit::{Failure, USAGE};
use crate::keeper::{BootTime, Deadline, Keeper, Order, Report, Status, Witness};
use crate::print;
use crate::signals::Signals;

/// How long before the end of the lease a command is asked to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notice(pub(crate) Duration);

impl Notice {
    pub(crate) fn of(args: &RunArgs, ttl: Ttl) -> Result<Self, Failure> {
        let default = Duration::from_secs(10);
        let Some(lease) = ttl.duration() else { return Ok(Self(args.kill_after.unwrap_or(default))) };
        // A lease that is renewed is renewed when a third of it is over, and that may take a while.
        let longest = if args.no_renew { lease / 4 * 3 } else { lease / 2 };
        match args.kill_after {
            Some(kill_after) if kill_after > longest => {
                let message = format!(
                    "--kill-after {} leaves the command too little of a ttl of {}; give at most {}",
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
        /// What it has left running in its process group.
        left: Vec<String>,
    },
    /// The lock was lost, or about to be.
    Ended {
        /// What could not be ended.
        left: Vec<String>,
    },
    TooLate,
    NotStarted(String),
    /// The keeper was killed, and what it kept with it.
    KeeperGone,
}

/// A lock under which a command runs.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a> {
    pub(crate) guard: &'a Guard,
    pub(crate) notice: Notice,
    pub(crate) ttl: Ttl,
}

impl Watch<'_> {
    /// Until when the command may work, as things stand.
    pub(crate) fn deadline(&self) -> Deadline {
        // First, so that the end is too early rather than too late.
        let now = BootTime::now();
        let (Some(left), Some(ttl)) = (self.guard.remaining(), self.ttl.duration()) else {
            return Deadline { ask_at: BootTime::NEVER, kill_at: BootTime::NEVER, last: BootTime::NEVER };
        };
        let kill_at = now.after(left);
        // Still within the margin by which a guard ends before its lease.
        let last = kill_at.after((ttl / 40).max(Duration::from_millis(50)).min(ttl / 4));
        Deadline { ask_at: kill_at.before(self.notice.0), kill_at, last }
    }

    /// How often there may be a new deadline.
    pub(crate) fn interval(&self) -> Duration {
        self.ttl.duration().map_or(Duration::from_secs(3600), |ttl| ttl / 12).max(Duration::from_millis(10))
    }

    /// Passes signals and deadlines on until the command has ended.
    pub(crate) async fn attend(
        self,
        keeper: &mut Keeper,
        witness: Option<Witness>,
        signals: &mut Signals,
        in_terminal: bool,
    ) -> Outcome {
        let mut told = self.deadline();
        let mut is_lost = false;
        let mut look = interval(self.interval());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let report = loop {
            tokio::select! {
                biased;
                _ = look.tick(), if !is_lost => {
                    let deadline = self.deadline();
                    if deadline.kill_at > told.kill_at.after(Duration::from_millis(1)) {
                        told = deadline;
                        keeper.tell(&Order::Deadline(deadline));
                    }
                }
                report = keeper.report() => break report,
                signal = signals.next() => {
                    if signal.is_of_child() {
                        keeper.reap();
                    } else if !(in_terminal && signal.to_group) {
                        keeper.tell(&Order::Signal(signal.number));
                    }
                }
                _ = self.guard.lost(), if !is_lost => {
                    is_lost = true;
                    keeper.tell(&Order::End);
                }
            }
        };
        let outcome = match report {
            Ok(Some(Report::Ended { status, by_keeper: false, left })) => Outcome::ByItself { status, left },
            Ok(Some(Report::Ended { left, .. })) => Outcome::Ended { left },
            Ok(Some(Report::TooLate)) => Outcome::TooLate,
            Ok(Some(Report::NotStarted(why))) => Outcome::NotStarted(why),
            Ok(Some(Report::Ready) | None) | Err(_) => {
                drop(witness);
                keeper.end_in_its_place();
                Outcome::KeeperGone
            }
        };
        // It ends while the lock is released.
        keeper.tell(&Order::Done);
        outcome
    }
}
