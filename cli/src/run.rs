use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use db_mutex::store::StoreTime;
use db_mutex::{DbMutex, Error, Guard, HolderName, Lock, LostReason, Ttl, WaitLimit};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

use crate::acquire;
use crate::args::{Cli, RunArgs};
use crate::database::{Connected, Purpose, connect_within};
use crate::exit::{FAILED, Failure, LOST, USAGE, by_signal};
use crate::held;
use crate::keeper::{BootTime, Deadline, Keeper, Order, Plan, Report, Status, Witness};
use crate::place::Place;
use crate::print;
use crate::program::Program;
use crate::signals::{Blocked, Signals, die_of};
use crate::terminal::{Terminal, is_at_terminal};

/// How long a store may take to settle what was left unfinished, before the process exits all the same.
const SETTLE: Duration = Duration::from_secs(5);

/// How long a release may take before a signal ends it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// When a witness is started, which short commands need not pay for.
const WITNESS_AFTER: Duration = Duration::from_millis(20);

/// `db-mutex run`: takes the lock, runs the command, releases the lock once the command has ended.
pub(crate) fn run(cli: &Cli, args: &RunArgs) -> Result<u8, Failure> {
    // Before any thread starts, so that no other gets a signal.
    let blocked = Blocked::all().map_err(|error| Failure::new(FAILED, format!("cannot block signals: {error}")))?;
    let program = Program::find(args)?;
    check_text(args)?;
    // Before the lock is acquired, which takes as long.
    let keeper =
        Keeper::stand_by().map_err(|error| Failure::new(FAILED, format!("cannot start the command: {error}")))?;
    let mut signals =
        blocked.listen().map_err(|error| Failure::new(FAILED, format!("cannot receive signals: {error}")))?;
    let runtime = crate::runtime()?;
    match runtime.block_on(locked(cli, args, Command { program, keeper, blocked: blocked.before }, &mut signals))? {
        Status::Exited(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        Status::Signaled(signal) => {
            die_of(signal);
            Ok(by_signal(signal))
        }
    }
}

/// The command, and what stands by to start it.
struct Command {
    program: Program,
    keeper: Keeper,
    /// The signals that it begins with blocked.
    blocked: Vec<i32>,
}

async fn locked(cli: &Cli, args: &RunArgs, command: Command, signals: &mut Signals) -> Result<Status, Failure> {
    let Command { program, mut keeper, blocked } = command;
    let limit = args.wait.unwrap_or(WaitLimit::DontWait);
    let connected = tokio::select! {
        connected = connect_within(cli, Purpose::Lock, limit) => connected?,
        signal = signals.next_that_ends() => return Ok(Status::Signaled(signal)),
    };
    if let Err(failure) = held::refuse_to_wait_for_itself(&connected, &args.name).await {
        return failure.when_held(args).map(|code| Status::Exited(code.into()));
    }
    let Connected { mutex, place, left } = connected;
    let ttl = args.ttl.unwrap_or(mutex.ttl());
    let notice = Notice::of(args, ttl)?;
    let lock = lock_of(&mutex, args);

    let acquired = tokio::select! {
        acquired = acquire(&lock, left, args) => acquired,
        signal = signals.next_that_ends() => {
            settle(&mutex).await;
            return Ok(Status::Signaled(signal));
        }
    };
    let guard = match acquired {
        Ok(guard) => guard,
        Err(error) => {
            settle(&mutex).await;
            let is_held = error.is_held();
            let failure = Failure::from(error);
            return if is_held {
                failure.when_held(args).map(|code| Status::Exited(code.into()))
            } else {
                Err(failure)
            };
        }
    };

    let watch = Watch { guard: &guard, notice, ttl };
    let mut environment: Vec<(OsString, OsString)> = env::vars_os().collect();
    let additions = environment_of(&guard, &place);
    environment.retain(|(name, _)| additions.iter().all(|(added, _)| name != added));
    environment.extend(additions.iter().map(|(name, value)| (name.into(), value.into())));
    let in_terminal = is_at_terminal();
    // From now on the signals of a terminal reach the command's process; one that came before ends this run.
    let ready = tokio::select! {
        biased;
        signal = signals.next_that_ends() => {
            release(&mutex, guard, args.release_timeout, signals).await;
            return Ok(Status::Signaled(signal));
        }
        report = keeper.report() => report,
    };
    let plan = Plan {
        file: program.file,
        arguments: program.arguments,
        environment,
        own_group: !in_terminal,
        blocked,
        descendants: args.descendants,
        grace: notice.0,
        deadline: watch.deadline(),
    };
    let mark = format!("DB_MUTEX_OWNER={}", guard.owner_token().to_hex());
    let terminal = Terminal::remember();
    let outcome = match ready {
        Some(Report::Ready) => match keeper.start(plan, mark) {
            Ok(()) => watch.attend(keeper, signals, in_terminal).await,
            Err(error) => Outcome::NotStarted(error.to_string()),
        },
        Some(Report::NotStarted(why)) => Outcome::NotStarted(why),
        _ => Outcome::NotStarted("the process that keeps it was killed".into()),
    };
    if matches!(outcome, Outcome::Ended { .. } | Outcome::KeeperGone) {
        terminal.restore();
    }
    let lost = |what: String| Failure::new(LOST, format!("the lock `{}` was lost: {what}", args.name));
    match outcome {
        Outcome::ByItself { status, left } => {
            if !left.is_empty() {
                print::note(&format!(
                    "the command has ended, but {} still runs; the lock is released all the same (see --descendants)",
                    left.join(", ")
                ));
            }
            match release(&mutex, guard, args.release_timeout, signals).await {
                Released::Yes => Ok(status),
                Released::Lost => {
                    Err(lost(format!("another process took it while the command ran, which {}", in_words(status))))
                }
                // The work is done, and its exit code stays.
                Released::NotYet(why) => {
                    print::note(&format!("the command {}, but {why}", in_words(status)));
                    Ok(status)
                }
            }
        }
        Outcome::Ended { left } => {
            if !left.is_empty() {
                print::note(&format!("{} could not be ended; is it another user's?", left.join(", ")));
            }
            let reason = guard.lost_reason();
            release(&mutex, guard, SETTLE, signals).await;
            Err(lost(match reason {
                Some(reason @ (LostReason::TakenOver | LostReason::ReleasedByForce | LostReason::StoreUnreachable)) => {
                    format!("{reason}, and the command was ended")
                }
                _ if args.no_renew => "its ttl was over, and the command was ended; give a longer --ttl".into(),
                _ => "its lease could not be renewed, and the command was ended".into(),
            }))
        }
        Outcome::TooLate => {
            release(&mutex, guard, SETTLE, signals).await;
            Err(lost("its lease was over before the command could be started".into()))
        }
        Outcome::NotStarted(why) => {
            release(&mutex, guard, args.release_timeout, signals).await;
            Err(Failure::new(FAILED, format!("cannot start the command: {why}")))
        }
        Outcome::KeeperGone => {
            let is_lost = !guard.is_valid();
            release(&mutex, guard, args.release_timeout, signals).await;
            if is_lost {
                return Err(lost("db-mutex was stopped past its lease, and the command was ended".into()));
            }
            Err(Failure::new(FAILED, "the process that keeps the command was killed, and the command was ended"))
        }
    }
}

fn lock_of(mutex: &DbMutex, args: &RunArgs) -> Lock {
    let mut lock = mutex.lock(&args.name).keep_alive(!args.no_renew);
    if let Some(ttl) = args.ttl {
        lock = lock.ttl(ttl);
    }
    if let Some(hold_at_least) = args.hold_at_least {
        lock = lock.hold_at_least(hold_at_least);
    }
    if let Some(label) = &args.label {
        lock = lock.label(label);
    }
    lock
}

/// What can be refused before a database is opened.
fn check_text(args: &RunArgs) -> Result<(), Failure> {
    db_mutex::LockId::new(&args.name)?;
    if let Some(label) = &args.label {
        HolderName::of_this_process().labelled(label)?;
    }
    Ok(())
}

/// Acquires the lock; tells a person at a terminal, and nobody else, what takes so long.
async fn acquire(lock: &Lock, left: WaitLimit, args: &RunArgs) -> Result<Guard, Error> {
    if args.wait.is_some() && stderr().is_terminal() {
        match lock.try_acquire().await {
            Err(Error::Held { holder, .. }) => {
                let left = print::how_long(&holder);
                print::note(&format!("waiting for `{}`, held by {holder}, {left}", args.name));
            }
            outcome => return outcome,
        }
    }
    acquire::acquire(lock, left).await
}

/// How a release went.
enum Released {
    Yes,
    /// The lease had ended before.
    Lost,
    /// And why.
    NotYet(String),
}

/// Releases the lock; tries again until that is done, the lease is over, `limit` has passed or a signal comes.
async fn release(mutex: &DbMutex, guard: Guard, limit: Duration, signals: &mut Signals) -> Released {
    let (lock_id, until) = (guard.lock_id().clone(), guard.lease().expires_at);
    let give_up = Instant::now() + limit;
    let done = async {
        let failed = match timeout_at(give_up, guard.release()).await {
            Ok(Ok(())) => return Released::Yes,
            Ok(Err(error)) if error.is_lost() => return Released::Lost,
            Ok(Err(error)) => Failure::from(error).message,
            Err(_) => format!("the lock `{lock_id}` could not be released within {}", print::span(limit)),
        };
        let left = give_up.saturating_duration_since(Instant::now());
        if mutex.shutdown(left).await.is_empty() { Released::Yes } else { Released::NotYet(failed) }
    };
    tokio::pin!(done);
    // The signal of which the command has died may only now be read here.
    let released = match timeout(AT_ONCE, &mut done).await {
        Ok(released) => released,
        Err(_) => {
            signals.forget();
            tokio::select! {
                released = done => released,
                _ = signals.next_that_ends() => {
                    Released::NotYet(format!("the release of the lock `{lock_id}` was interrupted"))
                }
            }
        }
    };
    match released {
        Released::NotYet(why) if until.is_never() => {
            Released::NotYet(format!("{why}; it stays held until `db-mutex release {lock_id} --force`"))
        }
        Released::NotYet(why) => {
            Released::NotYet(format!("{why}; it stays held until {} at the latest", print::timestamp(until)))
        }
        released => released,
    }
}

/// Waits until what was dropped half done is released in the store: the process must not end before.
async fn settle(mutex: &DbMutex) {
    for lock_id in mutex.shutdown(SETTLE).await {
        print::note(&format!("lock `{lock_id}` could not be released in time; it stays until its ttl"));
    }
}

fn in_words(status: Status) -> String {
    match status {
        Status::Exited(code) => format!("ended with {code}"),
        Status::Signaled(signal) => format!("was ended by signal {signal}"),
    }
}

fn environment_of(guard: &Guard, place: &Place) -> [(&'static str, String); 5] {
    let expires_at = match guard.lease().expires_at {
        StoreTime::NEVER => "never".into(),
        expires_at => print::timestamp(expires_at),
    };
    [
        ("DB_MUTEX_NAME", guard.lock_id().to_string()),
        ("DB_MUTEX_FENCE", guard.fence().to_string()),
        ("DB_MUTEX_OWNER", guard.owner_token().to_hex()),
        ("DB_MUTEX_EXPIRES_AT", expires_at),
        (held::HELD, held::with_entry(place, guard.lock_id().as_str(), guard.fence())),
    ]
}

/// How long before the end of the lease a command is asked to end.
#[derive(Debug, Clone, Copy)]
struct Notice(Duration);

impl Notice {
    fn of(args: &RunArgs, ttl: Ttl) -> Result<Self, Failure> {
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
enum Outcome {
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
struct Watch<'a> {
    guard: &'a Guard,
    notice: Notice,
    ttl: Ttl,
}

impl Watch<'_> {
    /// Until when the command may work, as things stand.
    fn deadline(&self) -> Deadline {
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
    fn interval(&self) -> Duration {
        self.ttl.duration().map_or(Duration::from_secs(3600), |ttl| ttl / 12).max(Duration::from_millis(10))
    }

    /// Passes signals and deadlines on until the command has ended.
    async fn attend(self, mut keeper: Keeper, signals: &mut Signals, in_terminal: bool) -> Outcome {
        let mut told = self.deadline();
        let mut is_lost = false;
        let (mut has_witness, mut witness) = (false, None);
        let witness_is_due = sleep(WITNESS_AFTER);
        tokio::pin!(witness_is_due);
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
                    let was_sent_to_all = in_terminal
                        && !signal.is_of_child()
                        && (signal.of_terminal
                            || witness.as_mut().is_some_and(|witness: &mut Witness| witness.has_received(signal.number)));
                    if signal.is_of_child() {
                        keeper.reap();
                    } else if !was_sent_to_all {
                        keeper.tell(&Order::Signal(signal.number));
                    }
                }
                () = &mut witness_is_due, if in_terminal && !has_witness => {
                    has_witness = true;
                    // Without one, what is sent to the whole group reaches the command twice.
                    witness = Witness::start().ok();
                }
                _ = self.guard.lost(), if !is_lost => {
                    is_lost = true;
                    keeper.tell(&Order::End);
                }
            }
        };
        let outcome = match report {
            Some(Report::Ended { status, by_keeper: false, left }) => Outcome::ByItself { status, left },
            Some(Report::Ended { left, .. }) => Outcome::Ended { left },
            Some(Report::TooLate) => Outcome::TooLate,
            Some(Report::NotStarted(why)) => Outcome::NotStarted(why),
            Some(Report::Ready) | None => {
                drop(witness);
                keeper.end_in_its_place();
                return Outcome::KeeperGone;
            }
        };
        keeper.finish();
        outcome
    }
}
