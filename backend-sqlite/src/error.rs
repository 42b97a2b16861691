use std::path::Path;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use rusqlite::{Error, ErrorCode, ffi};

const FULL: &str = "cannot grow: the disk is full; free some space";

/// Says what an SQLite error means for the lock file, and what to do about it.
pub(crate) fn store_error(place: &Path, error: Error) -> StoreError {
    let (kind, what) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Kind::Busy, "stayed locked by another process; try again, or find who holds a transaction open on it")
        }
        Some(ErrorCode::ReadOnly) => (Kind::ReadOnly, "is read-only; make the file and its folder writable"),
        Some(ErrorCode::DiskFull) => (Kind::Full, FULL),
        // The shared memory beside the log could not grow, which SQLite does not report as a full disk.
        _ if extended_code(&error) == Some(ffi::SQLITE_IOERR_SHMSIZE) => (Kind::Full, FULL),
        Some(ErrorCode::NotADatabase) => (Kind::Schema, "is not an SQLite database; name another file"),
        Some(ErrorCode::DatabaseCorrupt) => (Kind::Schema, "is damaged; move it away or restore it"),
        Some(ErrorCode::CannotOpen) => {
            (Kind::Config, "cannot be opened; check that its folder exists, and that you may write to it")
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            (Kind::Config, "may not be accessed; check the permissions of the file and its folder")
        }
        Some(ErrorCode::SystemIoFailure) => (Kind::Unavailable, "cannot be read or written; check the disk under it"),
        Some(ErrorCode::SchemaChanged) => (Kind::Schema, "was changed while it was in use"),
        _ => (Kind::Other, "could not be used"),
    };
    StoreError::new(kind, format!("the lock file {place:?} {what}")).with_source(error)
}

fn extended_code(error: &Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

/// The same for an error that is ours and not SQLite's.
pub(crate) fn place_error(place: &Path, kind: Kind, what: impl AsRef<str>) -> StoreError {
    StoreError::new(kind, format!("the lock file {place:?} {}", what.as_ref()))
}
