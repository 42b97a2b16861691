//! Reaching the database: what a command may do there, and for how long it tries.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, SystemTime};

use db_mutex::{Connector, DbMutex, Error, StoreError, StoreErrorKind, WaitLimit};
use tokio::time::{Instant, sleep, timeout};

use crate::args::Cli;
use crate::exit::{Failure, USAGE};
use crate::place::Place;
use crate::print;

/// How long one attempt waits for a server that accepts no writes yet. After it, a note says that db-mutex is waiting.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(10);

/// What a command wants to do with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Acquire locks. It may create the SQLite file or the table.
    Lock,
    /// Change an existing database. A missing one most likely means that the path is wrong.
    Change,
    /// Read an existing database, with only the right to read.
    Look,
}

/// A connected database, and what is left of the limit within which it had to be reached.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) mutex: DbMutex,
    pub(crate) place: Place,
    pub(crate) left: WaitLimit,
}

/// Connects once.
pub(crate) async fn connect(cli: &Cli, purpose: Purpose) -> Result<Connected, Failure> {
    connect_within(cli, purpose, WaitLimit::DontWait).await
}

/// Connects, and tries again until the limit while the reason of the failure may pass.
pub(crate) async fn connect_within(cli: &Cli, purpose: Purpose, limit: WaitLimit) -> Result<Connected, Failure> {
    let place = Place::of(cli)?.with_password();
    place.refuse_memory()?;
    let connector = match purpose {
        Purpose::Lock => {
            place.create_default_folder()?;
            place.connector.clone()
        }
        // No lock was ever acquired there, which is not an error: an empty database gives the same result.
        _ if place.is_untouched_default() => Connector::new("sqlite::memory:")?,
        Purpose::Change => place.connector.clone().create_if_missing(false),
        Purpose::Look => place.connector.clone().create_if_missing(false).read_only(true),
    };
    let (mutex, left) = reach(&connector, limit).await.map_err(|failure| explain_default(&place, failure))?;
    Ok(Connected { mutex, place, left })
}

/// The default file was not chosen by the user, so a failure says that it was used, and how to use another.
fn explain_default(place: &Place, failure: Failure) -> Failure {
    if place.origin != crate::held::Origin::Default || failure.code == USAGE {
        return failure;
    }
    let is_writable = place.connector.path().and_then(|file| file.parent()).is_some_and(|folder| {
        nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_ok()
    });
    let message = format!("{}; it is the default, name another with --url sqlite:/path/locks.db", failure.message);
    Failure::new(if is_writable { failure.code } else { USAGE }, message)
}

async fn reach(connector: &Connector, limit: WaitLimit) -> Result<(DbMutex, WaitLimit), Failure> {
    let begun = Instant::now();
    let left = || match limit {
        WaitLimit::AtMost(limit) => limit.saturating_sub(begun.elapsed()),
        WaitLimit::Forever => Duration::MAX,
        _ => Duration::ZERO,
    };
    let mut pause = Duration::from_millis(50);
    // A limit shorter than a first connection takes must not be a reason never to connect.
    let mut shortest = Duration::from_secs(1);
    let mut last = None;
    loop {
        let outcome = match limit {
            WaitLimit::AtMost(_) => {
                let limit = left().max(shortest);
                let connector = connector.clone().connect_within(limit.min(LONGEST_ATTEMPT));
                timeout(limit, connector.connect()).await.ok()
            }
            // Bounded by the store itself.
            _ => Some(connector.connect().await),
        };
        match outcome {
            Some(Ok(mutex)) => {
                let rest = if let WaitLimit::AtMost(_) = limit { WaitLimit::AtMost(left()) } else { limit };
                return Ok((mutex, rest));
            }
            Some(Err(error)) if limit == WaitLimit::DontWait || !may_pass(connector, &error) => {
                return Err(error.into());
            }
            Some(Err(error)) => {
                if last.is_none() && stderr().is_terminal() {
                    print::note(&format!("waiting for the database: {}", Failure::from(&error).message));
                }
                last = Some(error);
            }
            None => {}
        }
        if left().is_zero() {
            return Err(not_reached(last, begun.elapsed()));
        }
        sleep(jittered(pause).min(left())).await;
        pause = (pause * 2).min(Duration::from_secs(1));
        shortest = Duration::from_millis(50);
    }
}

/// Whether another attempt may succeed. A server that accepts no writes may do so after a failover; a file that cannot be written stays
/// as it is.
fn may_pass(connector: &Connector, error: &Error) -> bool {
    let is_read_only = |source: &StoreError| source.kind() == StoreErrorKind::ReadOnly;
    error.is_transient()
        || connector.address().is_some() && matches!(error, Error::Connect { source } if is_read_only(source))
}

fn not_reached(last: Option<Error>, tried: Duration) -> Failure {
    let mut failure = match last {
        Some(error) => Failure::from(error),
        None => Failure::new(crate::exit::FAILED, "could not open the database: the server did not respond"),
    };
    failure.message = format!("{}; tried for {}", failure.message, print::span(tried));
    failure
}

/// Between half of a pause and all of it, so that many processes do not try in step.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let random = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos() / 100;
    pause / 2 + pause / 2 * (random % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_half_and_all() {
        let pause = Duration::from_secs(1);
        for _ in 0..1000 {
            assert!(jittered(pause) >= pause / 2 && jittered(pause) <= pause);
        }
    }
}
