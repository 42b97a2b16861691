use std::io::{IsTerminal, stderr};
use std::time::Duration;

use db_mutex::store::StoreTime;
use db_mutex::{DbMutex, Error, Guard, HolderName, Lock, LostReason, Ttl, WaitLimit};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use crate::args::{Cli, OnHeld, RunArgs};
use crate::child::{Child, Program};
use crate::database::{Purpose, mutex};
use crate::exit::{FAILED, Failure, LOST, USAGE, by_signal};
use crate::print;
use crate::signals::Signals;

/// How long a store may take to settle what was left unfinished, before the process exits all the same.
const SETTLE: Duration = Duration::from_secs(5);

/// `db-mutex run`: takes the lock, runs the command, releases the lock once the command has been reaped.
pub(crate) async fn run(cli: &Cli, args: &RunArgs) -> Result<u8, Failure> {
    let mut signals =
        Signals::listen().map_err(|error| Failure::new(FAILED, format!("cannot catch signals: {error}")))?;
    let program = Program::find(args)?;
    check_text(args)?;
    let mutex = tokio::select! {
        mutex = mutex(cli, Purpose::Lock) => mutex?,
        signal = signals.next_to_pass_on() => return Ok(by_signal(signal as i32)),
    };
    let notice = Notice::of(args, args.ttl.unwrap_or(mutex.ttl()))?;
    let lock = lock_of(&mutex, args);

    let acquired = tokio::select! {
        acquired = acquire(&lock, args) => acquired,
        signal = signals.next_to_pass_on() => {
            settle(&mutex).await;
            return Ok(by_signal(signal as i32));
        }
    };
    let guard = match acquired {
        Ok(guard) => guard,
        Err(Error::Held { .. }) if args.on_held == OnHeld::Skip => return Ok(0),
        Err(error) => {
            settle(&mutex).await;
            let held = error.is_held();
            let failure = Failure::from(error);
            return Err(if held { Failure { code: args.exit_code_when_held, ..failure } } else { failure });
        }
    };

    let mut child = match Child::start(&program, &environment(&guard)) {
        Ok(child) => child,
        Err(failure) => {
            release(guard).await?;
            return Err(failure);
        }
    };
    let end = attend(&mut child, &guard, &mut signals, notice).await;
    child.finish();
    let lost = |what: String| Failure::new(LOST, format!("the lock `{}` was lost: {what}", args.name));
    match end {
        End::ByItself(code) => match release(guard).await {
            Ok(()) => Ok(code),
            Err(failure) if failure.code == LOST => {
                Err(lost(format!("somebody took it while the command ran, which ended with {code}")))
            }
            // The work is done; the lock ends with its ttl.
            Err(failure) => {
                print::note(&format!("the command ended with {code}, but {}", failure.message));
                Ok(code)
            }
        },
        End::ByUs(reason) => {
            let _ = release(guard).await;
            Err(lost(match reason {
                Some(reason @ (LostReason::TakenOver | LostReason::ReleasedByForce | LostReason::StoreUnreachable)) => {
                    format!("{reason}, and the command was ended")
                }
                _ if args.no_renew => "its ttl was over, and the command was ended; give a longer --ttl".into(),
                _ => "its lease could not be renewed, and the command was ended".into(),
            }))
        }
    }
}

fn lock_of(mutex: &DbMutex, args: &RunArgs) -> Lock {
    let mut lock = mutex.lock(&args.name).wait(args.wait.unwrap_or(WaitLimit::DontWait)).keep_alive(!args.no_renew);
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
async fn acquire(lock: &Lock, args: &RunArgs) -> Result<Guard, Error> {
    if args.wait.is_some() && stderr().is_terminal() {
        match lock.try_acquire().await {
            Err(Error::Held { holder, .. }) => {
                let left = print::how_long(&holder);
                print::note(&format!("waiting for `{}`, held by {holder}, {left}", args.name));
            }
            outcome => return outcome,
        }
    }
    lock.acquire().await
}

async fn release(guard: Guard) -> Result<(), Failure> {
    Ok(guard.release().await?)
}

/// Waits until what was dropped half done is released in the store: the process must not end before.
async fn settle(mutex: &DbMutex) {
    for lock_id in mutex.shutdown(SETTLE).await {
        print::note(&format!("lock `{lock_id}` could not be released in time; it stays until its ttl"));
    }
}

fn environment(guard: &Guard) -> [(&'static str, String); 4] {
    let expires_at = match guard.lease().expires_at {
        StoreTime::NEVER => "never".into(),
        expires_at => print::timestamp(expires_at),
    };
    [
        ("DB_MUTEX_NAME", guard.lock_id().to_string()),
        ("DB_MUTEX_FENCE", guard.fence().to_string()),
        ("DB_MUTEX_OWNER", guard.owner_token().to_hex()),
        ("DB_MUTEX_EXPIRES_AT", expires_at),
    ]
}

/// How long before the end of the lease a command is asked to end.
#[derive(Debug, Clone, Copy)]
struct Notice(Duration);

impl Notice {
    fn of(args: &RunArgs, ttl: Ttl) -> Result<Self, Failure> {
        let Some(lease) = ttl.duration() else { return Ok(Self(Duration::ZERO)) };
        let longest = lease / 4 * 3;
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
            None => Ok(Self(Duration::from_secs(10).min(lease / 3))),
        }
    }
}

enum End {
    ByItself(u8),
    /// The lock was lost, or about to be.
    ByUs(Option<LostReason>),
}

/// How far the end of a command has come.
#[derive(Clone, Copy)]
enum Ending {
    No,
    /// It was asked to end. It is killed when the lease is over, or at that time where the lease is gone already.
    Asked(Option<Instant>),
    Killed,
}

/// Passes signals on until the command has been reaped; ends it when the lock is lost.
async fn attend(child: &mut Child, guard: &Guard, signals: &mut Signals, notice: Notice) -> End {
    let mut ending = Ending::No;
    loop {
        if let Some(code) = child.try_reap() {
            if matches!(ending, Ending::No) {
                return End::ByItself(code);
            }
            // What the command has started may have stayed behind; the lock must not be given away under it.
            child.signal(Signal::SIGKILL);
            return End::ByUs(guard.lost_reason());
        }
        ending = end_in_time(child, guard, notice, ending);
        let looking_again = sleep_until(Instant::now() + next_look(guard, notice, ending));
        tokio::select! {
            signal = signals.next() => if let Some(signal) = signal { child.signal(signal) },
            _ = guard.lost(), if matches!(ending, Ending::No) => {}
            () = looking_again => {}
        }
    }
}

/// SIGTERM in time before the lease is over, SIGKILL when it is. Where somebody else has taken the lock there is no such
/// time any more, and the command is given its notice all the same.
fn end_in_time(child: &Child, guard: &Guard, notice: Notice, ending: Ending) -> Ending {
    let left = guard.remaining().unwrap_or(Duration::MAX);
    let taken = matches!(guard.lost_reason(), Some(LostReason::TakenOver | LostReason::ReleasedByForce));
    let over = match ending {
        Ending::Asked(Some(kill_at)) => Instant::now() >= kill_at,
        _ => left.is_zero() && !taken,
    };
    match ending {
        Ending::No | Ending::Asked(_) if over => {
            child.signal(Signal::SIGKILL);
            Ending::Killed
        }
        Ending::No if taken || left <= notice.0 => {
            child.signal(Signal::SIGTERM);
            // One that was stopped would not hear it.
            child.signal(Signal::SIGCONT);
            Ending::Asked(taken.then(|| Instant::now() + notice.0))
        }
        ending => ending,
    }
}

/// How long until the lease has to be looked at again. At most a second: tokio's timer stands still during suspend, the
/// lease does not.
fn next_look(guard: &Guard, notice: Notice, ending: Ending) -> Duration {
    let left = guard.remaining().unwrap_or(Duration::MAX);
    let due = match ending {
        Ending::No => left.saturating_sub(notice.0),
        Ending::Asked(Some(kill_at)) => kill_at.saturating_duration_since(Instant::now()),
        Ending::Asked(None) => left,
        Ending::Killed => Duration::MAX,
    };
    due.clamp(Duration::from_millis(10), Duration::from_secs(1))
}
