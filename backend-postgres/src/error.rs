use std::error::Error as StdError;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use tokio_postgres::error::SqlState;

use crate::unreachable::Unreachable;

/// Whether a request that failed may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was not done: the server never got it.
    NotDone,
    /// It was not done: the server undid it, because of a conflict with another transaction.
    Conflict,
    /// It was not done: the server's timeout or a cancel request has cancelled it. An old PgBouncer may forward a cancel
    /// request to a connection that serves another client by then.
    Cancelled,
    /// It may have been done: the connection broke before the answer.
    Unknown,
    /// It may have been done, or will be: no answer came in time.
    Unanswered,
    /// It was not done: the server accepts no writes, and perhaps another one does by now.
    WrongServer,
    /// It was done, and a synchronous standby may not have it: that wait was cancelled.
    Unconfirmed,
    /// It was not done, and will not be.
    Final,
}

/// Says what an error of the driver means, and whether the request may be repeated.
pub(crate) fn classify(error: &tokio_postgres::Error) -> (Kind, Outcome, &'static str) {
    let Some(code) = error.code() else {
        return if error.is_closed() || is_io(error) {
            (Kind::Unavailable, Outcome::Unknown, "the connection to PostgreSQL broke")
        } else {
            (Kind::Other, Outcome::Final, "PostgreSQL's answer could not be used")
        };
    };
    let done = |kind, what| (kind, Outcome::Final, what);
    match code.code() {
        "40001" | "40P01" => {
            (Kind::Busy, Outcome::Conflict, "PostgreSQL gave up on a conflict with another transaction; try again")
        }
        "55P03" => (Kind::Busy, Outcome::Final, "another transaction has the row or the table locked; try again"),
        "57014" => (
            Kind::Unavailable,
            Outcome::Cancelled,
            "PostgreSQL cancelled the statement; it took longer than its timeout, or a request cancelled it",
        ),
        "57P01" | "57P02" | "57P03" => (
            Kind::Unavailable,
            Outcome::Unknown,
            "PostgreSQL is stopping or starting, or an administrator ended the connection",
        ),
        "53300" => (
            Kind::Unavailable,
            Outcome::NotDone,
            "PostgreSQL has no connection left; raise max_connections or use a smaller pool",
        ),
        "25006" => (
            Kind::ReadOnly,
            Outcome::WrongServer,
            "PostgreSQL accepts no writes here: a replica, or a read-only default; connect to the primary",
        ),
        "53100" => done(Kind::Full, "PostgreSQL has no space left on its disk"),
        "42P01" | "42703" | "42804" | "42P10" => done(
            Kind::Schema,
            "the table is missing or is not db-mutex's; run `db-mutex migrate`, or name another table",
        ),
        "42501" => done(Kind::Config, "PostgreSQL refused a right; grant SELECT, INSERT and UPDATE on the table"),
        "28000" | "28P01" => done(Kind::Config, "PostgreSQL refused the login; check user, password and pg_hba.conf"),
        "3D000" | "3F000" => done(Kind::Config, "PostgreSQL has no such database or schema; check the url"),
        "08P01" => done(
            Kind::Config,
            "a pooler in front of PostgreSQL refused how the connection is to be set; write pooler=yes in the url",
        ),
        _ if code.code().starts_with("08") => {
            (Kind::Unavailable, Outcome::Unknown, "the connection to PostgreSQL broke")
        }
        _ if *code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::DUPLICATE_PSTATEMENT => done(
            Kind::Config,
            "a pooler in front of PostgreSQL mixes prepared statements up; write pooler=yes in the url",
        ),
        _ => done(Kind::Other, "PostgreSQL refused the statement"),
    }
}

/// Whether the login was refused because of what the session was to be set to: by a pooler.
pub(crate) fn refuses_settings(error: &StoreError) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<Unreachable>());
    cause.is_some_and(Unreachable::refuses_settings)
}

pub(crate) fn store_error(error: tokio_postgres::Error) -> StoreError {
    let (kind, _, what) = classify(&error);
    StoreError::new(kind, what).with_source(error)
}

/// Whether TLS itself failed, over a network that works.
#[cfg(feature = "_rustls")]
pub(crate) fn is_certificate(error: &tokio_postgres::Error) -> bool {
    // An I/O error leaves its own cause out of the chain.
    error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::get_ref)
        .is_some_and(|cause| cause.is::<rustls::Error>())
}

#[cfg(not(feature = "_rustls"))]
pub(crate) fn is_certificate(_: &tokio_postgres::Error) -> bool {
    false
}

/// Says which right is missing, if that is what is wrong; the error itself becomes the source.
pub(crate) fn explain_right(error: StoreError, what: impl FnOnce() -> String) -> StoreError {
    let cause = error.source().and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    if cause.and_then(tokio_postgres::Error::code) == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return StoreError::new(Kind::Config, what()).with_source(error);
    }
    error
}

/// Whether an error names the row that the statement met. A wait for a locked table has no such context.
pub(crate) fn names_a_row(error: &StoreError) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    cause.and_then(tokio_postgres::Error::as_db_error).is_some_and(|error| error.where_().is_some())
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<std::io::Error>() {
            return true;
        }
        source = cause.source();
    }
    false
}
