use std::env;
use std::ffi::OsString;
use std::io::{IsTerminal, stderr};

use db_mutex::store::StoreTime;
use db_mutex::{DbMutex, Error, Guard, HolderName, Lock, LostReason, WaitLimit};

use nix::sys::resource::{Resource, getrlimit};

use crate::acquire;
use crate::args::{Cli, RunArgs};
use crate::database::{Connected, Purpose, connect_within};
use crate::exit::{FAILED, Failure, LOST, by_signal};
use crate::held;
use crate::keeper::{Keeper, Plan, Report, Status, Witness};
use crate::place::Place;
use crate::print;
use crate::program::Program;
use crate::release::{AT_ONCE, Released, SETTLE, release, settle};
use crate::signals::{Blocked, Signals, die_of};
use crate::supervise::{Notice, Outcome, Supervision};
use crate::terminal::{Terminal, is_at_terminal};

/// How many files a run may have to open, with a pool of connections to a server.
const FILES: u64 = 32;

/// What a run needs first. Signals are blocked before any thread starts, and the command's process starts while the rest is
/// prepared, which takes as long.
pub(crate) struct Preparation {
    blocked: Blocked,
    keeper: Keeper,
    witness: Option<Witness>,
}

impl Preparation {
    pub(crate) fn begin() -> Result<Self, Failure> {
        let failed = |what: &str, error| Failure::new(FAILED, format!("cannot {what}: {error}"));
        if let Ok((files, _)) = getrlimit(Resource::RLIMIT_NOFILE)
            && files < FILES
        {
            let message = format!("at most {files} files may be open, and a run needs {FILES}; raise `ulimit -n`");
            return Err(Failure::new(FAILED, message));
        }
        let blocked = Blocked::all().map_err(|error| failed("block signals", error))?;
        let keeper = Keeper::stand_by().map_err(|error| failed("start the command", error))?;
        // Without one, what is sent to the whole group reaches the command twice.
        let witness = is_at_terminal().then(Witness::start).and_then(Result::ok);
        Ok(Self { blocked, keeper, witness })
    }

    /// Undoes it, because the command line is not that of a run.
    pub(crate) fn undo(self) -> Result<(), Failure> {
        let restored = self.blocked.restore();
        restored.map_err(|error| Failure::new(FAILED, format!("cannot unblock signals: {error}")))
    }
}

/// `db-mutex run`: takes the lock, runs the command, releases the lock once the command has ended.
pub(crate) fn run(cli: &Cli, args: &RunArgs, prepared: Preparation) -> Result<u8, Failure> {
    let Preparation { blocked, keeper, witness } = prepared;
    let program = Program::find(args)?;
    check_text(args)?;
    let questions = witness.as_ref().and_then(|witness| witness.questions().ok());
    let signals = blocked.listen(questions);
    let mut signals = signals.map_err(|error| Failure::new(FAILED, format!("cannot receive signals: {error}")))?;
    let runtime = crate::runtime()?;
    match runtime.block_on(locked(
        cli,
        args,
        Command { program, keeper, witness, blocked: blocked.before },
        &mut signals,
    ))? {
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
    witness: Option<Witness>,
    /// The signals that it begins with blocked.
    blocked: Vec<i32>,
}

async fn locked(cli: &Cli, args: &RunArgs, command: Command, signals: &mut Signals) -> Result<Status, Failure> {
    let Command { program, mut keeper, mut witness, blocked } = command;
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

    let supervision = Supervision { guard: &guard, notice, ttl };
    let mut environment: Vec<(OsString, OsString)> = env::vars_os().collect();
    let additions = environment_of(&guard, &place);
    environment.retain(|(name, _)| additions.iter().all(|(added, _)| name != added));
    environment.extend(additions.iter().map(|(name, value)| (name.into(), value.into())));
    let in_terminal = is_at_terminal();
    // Once the keeper stands by, the signals of a terminal reach the command's process. One that came before may not have
    // reached it, and ends this run.
    let (ready, signal) = tokio::select! {
        signal = signals.next_that_ends() => (Ok(None), Some(signal)),
        report = keeper.stands_by() => (report, signals.that_has_ended()),
    };
    if let Some(signal) = signal {
        release(&mutex, guard, args.release_timeout, signals).await;
        return Ok(Status::Signaled(signal));
    }
    let plan = Plan {
        file: program.file,
        arguments: program.arguments,
        environment,
        own_group: !in_terminal,
        blocked,
        descendants: args.descendants,
        grace: notice.0,
        deadline: supervision.deadline(),
    };
    let mark = format!("DB_MUTEX_OWNER={}", guard.owner_token().to_hex());
    let terminal = Terminal::remember();
    let outcome = match ready {
        Ok(Some(Report::Ready)) => match keeper.start(plan, mark) {
            Ok(()) => supervision.supervise(&mut keeper, witness.take(), signals, in_terminal).await,
            Err(error) => Outcome::NotStarted(error.to_string()),
        },
        Ok(Some(Report::NotStarted(why))) => Outcome::NotStarted(why),
        Err(error) => Outcome::NotStarted(error.to_string()),
        _ => Outcome::NotStarted("the process that keeps it was killed".into()),
    };
    if matches!(outcome, Outcome::Ended { .. } | Outcome::KeeperGone) {
        terminal.restore();
    }
    let ended = end(args, &mutex, guard, outcome, signals).await;
    // Reaped only now, for it ends while the lock is released.
    drop(keeper);
    ended
}

/// Releases the lock after the command, and returns how the command ended.
async fn end(
    args: &RunArgs,
    mutex: &DbMutex,
    guard: Guard,
    outcome: Outcome,
    signals: &mut Signals,
) -> Result<Status, Failure> {
    let lost = |what: String| Failure::new(LOST, format!("the lock `{}` was lost: {what}", args.name));
    match outcome {
        Outcome::ByItself { status, left } => {
            if !left.is_empty() {
                print::note(&format!(
                    "the command has ended, but {} still runs; the lock is released anyway (see --descendants)",
                    left.join(", ")
                ));
            }
            match release(mutex, guard, args.release_timeout, signals).await {
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
        Outcome::Ended { was_stopped, left } => {
            if !left.is_empty() {
                print::note(&format!("{} could not be ended; is it another user's?", left.join(", ")));
            }
            let reason = guard.lost_reason();
            // If the database is away, it has not long to come back: once the lease is over, a release changes nothing.
            let limit = guard.remaining().map_or(SETTLE, |left| SETTLE.min(left + AT_ONCE));
            release(mutex, guard, limit, signals).await;
            Err(lost(match reason {
                Some(
                    reason @ (LostReason::TakenOver
                    | LostReason::Missing
                    | LostReason::ReleasedByForce
                    | LostReason::StoreUnreachable),
                ) => format!("{reason}, and the command was ended"),
                _ if args.no_renew => "its ttl was over, and the command was ended; give a longer --ttl".into(),
                _ if was_stopped => "db-mutex was stopped past its lease, and the command was ended".into(),
                _ => "its lease could not be renewed, and the command was ended".into(),
            }))
        }
        Outcome::TooLate => {
            release(mutex, guard, SETTLE, signals).await;
            Err(lost("its lease was over before the command could be started".into()))
        }
        Outcome::NotStarted(why) => {
            release(mutex, guard, args.release_timeout, signals).await;
            Err(Failure::new(FAILED, format!("cannot start the command: {why}")))
        }
        Outcome::KeeperGone => {
            let is_lost = !guard.is_valid();
            release(mutex, guard, args.release_timeout, signals).await;
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

/// Acquires the lock. On a terminal, and only there, prints why it takes so long.
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
