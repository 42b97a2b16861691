//! The exit codes, and how a failure becomes a line and a code.

use std::error::Error as StdError;

use db_mutex::{Error, Invalid, StoreError};

use crate::args::{OnHeld, RunArgs};
use crate::print;

/// The lock is held: `EX_TEMPFAIL` of sysexits.h, "try again later".
pub(crate) const HELD: u8 = 75;
/// There is nothing to show, or nothing was released.
pub(crate) const NOTHING: u8 = 1;
/// `EX_USAGE` of sysexits.h.
pub(crate) const USAGE: u8 = 64;
/// The lock was lost while the command ran; timeout(1) uses the same.
pub(crate) const LOST: u8 = 124;
/// db-mutex itself failed; env(1), timeout(1) and others use the same.
pub(crate) const FAILED: u8 = 125;
/// The command was found but could not be executed, as in every shell.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found, as in every shell.
pub(crate) const NOT_FOUND: u8 = 127;

/// The code of a process that was ended by a signal, as in every shell.
pub(crate) fn by_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Why the command ends without having done what it was asked: one line, and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The outcome of a `run` that could not acquire the lock.
    pub(crate) fn when_held(self, args: &RunArgs) -> Result<u8, Self> {
        match args.on_held {
            _ if self.code != HELD => Err(self),
            OnHeld::Skip => Ok(0),
            OnHeld::Fail => Err(Self { code: args.exit_code_when_held, ..self }),
        }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::new(USAGE, invalid.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let code = match error {
            Error::Invalid(_) => USAGE,
            Error::Held { .. } => HELD,
            Error::Lost { .. } => LOST,
            _ => FAILED,
        };
        Self::new(
            code,
            match error {
                Error::Held { lock_id, holder } => {
                    format!("lock `{lock_id}` is held by {holder}, {}", print::how_long(holder))
                }
                _ => in_one_line(error),
            },
        )
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(FAILED, in_one_line(&error))
    }
}

/// An error and its causes, without repetition.
fn in_one_line(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !line.contains(&cause_text) {
            line += ": ";
            line += &cause_text;
        }
        source = cause.source();
    }
    line.replace(char::is_control, " ")
}
