use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use tokio_postgres::error::SqlState;

use crate::error::{Outcome, classify, is_certificate};

/// Why no host could be used.
#[derive(Debug)]
pub(crate) struct Unreachable {
    /// Whether the URL names several.
    several: bool,
    hosts: Vec<(String, Cause)>,
}

/// Why a host was not taken.
#[derive(Debug)]
pub(crate) enum Cause {
    Driver(tokio_postgres::Error),
    Lookup(io::Error),
    /// It did not say anything, or not all that it had to, for so long.
    Silent(Duration),
    Standby,
    /// Its sessions are.
    ReadOnly,
}

impl Unreachable {
    pub(crate) fn new(several: bool) -> Self {
        Self { several, hosts: Vec::new() }
    }

    /// Adds a host; `name` is what messages call it.
    pub(crate) fn add(&mut self, name: String, cause: Cause) {
        self.hosts.push((name, cause));
    }

    /// The last one, in words, and whether it was silent.
    pub(crate) fn last(&self) -> Option<(String, bool)> {
        let (name, cause) = self.hosts.last()?;
        Some((format!("{name} {cause}"), matches!(cause, Cause::Silent(_))))
    }

    /// Whether the login was refused because of what the session was to be set to: by a pooler.
    pub(crate) fn refuses_settings(&self) -> bool {
        // The last two are those of an engine that is not a PostgreSQL and lacks a setting, which `engine` then finds out.
        let refusals = [
            SqlState::PROTOCOL_VIOLATION,
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::UNDEFINED_OBJECT,
            SqlState::INVALID_PARAMETER_VALUE,
        ];
        self.hosts.iter().any(|(_, cause)| match cause {
            Cause::Driver(error) => error.code().is_some_and(|code| refusals.contains(code)),
            _ => false,
        })
    }

    /// Whether one of them is a standby, or starts.
    pub(crate) fn may_become_a_primary(&self) -> bool {
        self.hosts.iter().any(|(_, cause)| match cause {
            Cause::Standby | Cause::ReadOnly => true,
            Cause::Driver(error) => error.code() == Some(&SqlState::CANNOT_CONNECT_NOW),
            _ => false,
        })
    }

    /// What this means. Nothing was sent.
    ///
    /// Of several hosts, one may be promoted or come back, so another attempt may help, unless all hosts that respond
    /// refuse.
    pub(crate) fn into_error(self) -> (StoreError, Outcome) {
        let verdicts: Vec<_> = self.hosts.iter().map(|(_, cause)| cause.verdict()).collect();
        let passes = |verdict: &&(Kind, Outcome, String)| verdict.1 == Outcome::NotDone;
        let is_wrong_server = |verdict: &&(Kind, Outcome, String)| verdict.0 == Kind::ReadOnly;
        let most_telling = verdicts
            .iter()
            .find(passes)
            .or(verdicts.iter().find(|verdict| !is_wrong_server(verdict)))
            .or(verdicts.last());
        let (kind, outcome, advice) = most_telling.cloned().unwrap_or_else(Self::nothing_tried);
        let (kind, outcome) = match kind {
            Kind::ReadOnly if self.hosts.len() > 1 => (Kind::Unavailable, Outcome::NotDone),
            _ => (kind, outcome),
        };
        let message = match self.several || self.hosts.len() > 1 {
            true => format!("no host of the url can be used: {self}"),
            false => format!("{self}; {advice}"),
        };
        (StoreError::new(kind, message).with_source(self).undone(), outcome)
    }

    fn nothing_tried() -> (Kind, Outcome, String) {
        (Kind::Unavailable, Outcome::NotDone, "there was no time to try a host".into())
    }
}

/// Each host, and what is wrong with it.
impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, cause)) in self.hosts.iter().enumerate() {
            let separator = if number > 0 { "; " } else { "" };
            write!(f, "{separator}{name} {cause}")?;
        }
        Ok(())
    }
}

impl StdError for Unreachable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.hosts.last()?.1 {
            Cause::Driver(error) => Some(error),
            Cause::Lookup(error) => Some(error),
            _ => None,
        }
    }
}

/// What follows the name of a host.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(error) => match error.as_db_error() {
                Some(error) => write!(f, "refused the login ({})", error.message()),
                None => write!(f, "cannot be connected to ({})", innermost(error)),
            },
            Self::Lookup(error) => write!(f, "has a name without an address ({error})"),
            Self::Silent(time) => write!(f, "did not answer within {:.1} s", time.as_secs_f64()),
            Self::Standby => f.write_str("is a standby"),
            Self::ReadOnly => f.write_str("accepts no writes (default_transaction_read_only is on)"),
        }
    }
}

impl Cause {
    /// The kind, whether another attempt is worth it, and what to do.
    fn verdict(&self) -> (Kind, Outcome, String) {
        let (kind, outcome, advice) = match self {
            Self::Driver(error) => of_the_driver(error),
            Self::Lookup(_) => (Kind::Unavailable, Outcome::NotDone, "check the host's name and the DNS"),
            Self::Silent(_) => (Kind::Unavailable, Outcome::NotDone, "check the network to it, and that it runs"),
            Self::Standby => (Kind::ReadOnly, Outcome::Final, "connect to the primary"),
            Self::ReadOnly => (Kind::ReadOnly, Outcome::Final, "turn that off for the role"),
        };
        (kind, outcome, advice.into())
    }
}

fn of_the_driver(error: &tokio_postgres::Error) -> (Kind, Outcome, &'static str) {
    let (kind, outcome, what) = match classify(error) {
        _ if is_certificate(error) => (
            Kind::Config,
            Outcome::Final,
            "the TLS connection to PostgreSQL failed; check its certificate, the host's name in it, and sslrootcert",
        ),
        answer if error.code().is_some() => answer,
        // The connection did not come about, or was closed.
        (_, outcome @ Outcome::Unknown, _) => {
            (Kind::Unavailable, outcome, "check host, port, and that PostgreSQL runs")
        }
        // The driver gave up: it may not go on without TLS, a password, or a way to log in that it knows.
        _ => (
            Kind::Config,
            Outcome::Final,
            "PostgreSQL and the url do not agree on how to log in; check whether it has TLS (sslmode) and the password",
        ),
    };
    (kind, if outcome == Outcome::Final { Outcome::Final } else { Outcome::NotDone }, what)
}

/// What is at the bottom says most: `Connection refused`, and not that there was an error.
fn innermost(error: &tokio_postgres::Error) -> String {
    let mut innermost: &dyn StdError = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(causes: impl IntoIterator<Item = Cause>) -> (StoreError, Outcome) {
        let mut unreachable = Unreachable::new(true);
        for (number, cause) in causes.into_iter().enumerate() {
            unreachable.add(format!("h{number}:5432"), cause);
        }
        unreachable.into_error()
    }

    fn refused() -> Cause {
        Cause::Lookup(io::Error::other("no such name"))
    }

    #[test]
    fn each_host_is_named_with_its_cause() {
        let (error, outcome) = unreachable([refused(), Cause::Silent(Duration::from_millis(3040)), Cause::Standby]);
        assert_eq!(
            error.to_string(),
            "no host of the url can be used: h0:5432 has a name without an address (no such name); \
             h1:5432 did not answer within 3.0 s; h2:5432 is a standby"
        );
        assert_eq!((error.kind(), outcome, error.is_undone()), (Kind::Unavailable, Outcome::NotDone, true));
    }

    #[test]
    fn several_standbys_are_worth_another_attempt_and_one_is_not() {
        let (error, outcome) = unreachable([Cause::Standby, Cause::ReadOnly]);
        assert_eq!((error.kind(), outcome), (Kind::Unavailable, Outcome::NotDone));
        let mut one = Unreachable::new(false);
        one.add("h:5432".into(), Cause::Standby);
        let (error, outcome) = one.into_error();
        assert_eq!(error.to_string(), "h:5432 is a standby; connect to the primary");
        assert_eq!((error.kind(), outcome), (Kind::ReadOnly, Outcome::Final));
    }

    #[test]
    fn a_wrong_password_is_not_tried_again() {
        // The driver's own errors cannot be made here; this one is of its kind.
        let driver = "x".parse::<tokio_postgres::Config>().unwrap_err();
        let (error, outcome) = unreachable([Cause::Standby, Cause::Driver(driver)]);
        assert_eq!((error.kind(), outcome), (Kind::Config, Outcome::Final));
    }
}
