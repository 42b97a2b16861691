//! What an answer has to be, and the message when it is another one.

use db_mutex_core::store::{Deleted, Holder, Inserted, Lease, Renewed, StoreError, StoreErrorKind};

/// The lease of an insert that has to be granted by `promise`.
#[track_caller]
pub(crate) fn granted(answer: Inserted, promise: &str) -> Lease {
    match answer {
        Inserted::Granted(lease) => lease,
        Inserted::Held(holder) => {
            let left = holder.expires_in;
            panic!(
                "{promise}: an insert must return `Granted` here; it returned `Held`, by {holder}, for {left:?} more"
            )
        }
        other => panic!("{promise}: an insert must return `Granted` here; it returned `{other:?}`"),
    }
}

/// The holder that an insert meets which has to be refused by `promise`.
#[track_caller]
pub(crate) fn refused(answer: Inserted, promise: &str) -> Holder {
    match answer {
        Inserted::Held(holder) => holder,
        Inserted::Granted(lease) => {
            panic!(
                "{promise}: an insert must return `Held` here; it returned `Granted`, with the fence {}",
                lease.fence
            )
        }
        other => panic!("{promise}: an insert must return `Held` here; it returned `{other:?}`"),
    }
}

/// Checks that an insert was refused because its token is spent, as `promise` says.
#[track_caller]
pub(crate) fn spent(answer: Inserted, promise: &str) {
    match answer {
        Inserted::Spent => {}
        other => panic!("{promise}: an insert must return `Spent` here; it returned `{other:?}`"),
    }
}

/// The lease of a renewal that has to succeed by `promise`.
#[track_caller]
pub(crate) fn renewed(answer: Renewed, promise: &str) -> Lease {
    match answer {
        Renewed::Renewed(lease) => lease,
        other => panic!("{promise}: a renewal must return `Renewed` here; it returned `{other:?}`"),
    }
}

/// Checks that a renewal was refused, as `promise` says.
#[track_caller]
pub(crate) fn not_renewed(answer: Renewed, promise: &str) {
    if let Renewed::Renewed(lease) = answer {
        panic!("{promise}: a renewal must return `NotHeld` here; it returned `Renewed`, with the fence {}", lease.fence)
    }
}

/// Checks that a delete released the lock, as `promise` says.
#[track_caller]
pub(crate) fn released(answer: Deleted, promise: &str) {
    assert!(answer == Deleted::Released, "{promise}: a delete must return `Released` here; it returned `{answer:?}`");
}

/// Checks that a delete released nothing, as `promise` says.
#[track_caller]
pub(crate) fn not_released(answer: Deleted, promise: &str) {
    assert!(answer == Deleted::NotHeld, "{promise}: a delete must return `NotHeld` here; it returned `{answer:?}`");
}

/// Checks that a delete met what was released before, as `promise` says.
#[track_caller]
pub(crate) fn released_already(answer: Deleted, promise: &str) {
    assert!(answer == Deleted::Already, "{promise}: a delete must return `Already` here; it returned `{answer:?}`");
}

/// Checks that a request met a locked row, as `promise` says.
#[track_caller]
pub(crate) fn busy<T: std::fmt::Debug>(result: &Result<T, StoreError>, promise: &str) {
    match result {
        Err(error) if error.kind() == StoreErrorKind::Busy => {}
        other => panic!("{promise}: the error `Busy` must be returned here; it was `{other:?}`"),
    }
}

/// The answer of `call`, which no case expects to be an error.
#[track_caller]
pub(crate) fn answered<T>(result: Result<T, StoreError>, call: &str) -> T {
    match result {
        Ok(answer) => answer,
        Err(error) => panic!("{call} must return an answer here; it returned an error: {error:?}"),
    }
}

/// The answers of a call for many, none of which a case expects to be an error.
#[track_caller]
pub(crate) fn all_answered<T>(results: Vec<Result<T, StoreError>>, call: &str) -> Vec<T> {
    results.into_iter().map(|result| answered(result, call)).collect()
}
