//! What the code that `#[db_mutex]` generates calls. Nothing here is for people, and all of it may change.

use db_mutex_core::{DbMutex, Error, Lock, RunError};

pub use db_mutex_core::{Guard, OnLost, Ttl, WaitLimit};
pub use std::format;
pub use std::option::Option::Some;
pub use std::time::Duration;

/// Returns the lock of a function that names its mutex.
///
/// # Errors
/// None: the result is the one of [`global_lock`].
pub fn lock(mutex: &DbMutex, lock_id: impl AsRef<str>) -> Result<Lock, Error> {
    Ok(mutex.lock(lock_id))
}

/// Returns the lock of a function that uses the global mutex.
///
/// # Errors
/// [`Invalid::GlobalMutex`](crate::Invalid::GlobalMutex) if that was not set.
pub fn global_lock(lock_id: impl AsRef<str>) -> Result<Lock, Error> {
    Ok(crate::global::get()?.lock(lock_id))
}

/// Returns nothing, but a type.
pub fn none<T>() -> Option<T> {
    None
}

/// Runs the body of a function with `on_held = "error"`.
pub async fn run<T: Fallible>(lock: Result<Lock, Error>, body: impl AsyncFnOnce(&Guard) -> T) -> T {
    let outcome = match lock {
        Ok(lock) => lock.run(body).await,
        Err(error) => Err(RunError::Acquire(error)),
    };
    outcome.unwrap_or_else(T::failed)
}

/// Runs the body of a function with `on_held = "skip"`.
pub async fn run_or_skip<T: Skippable>(lock: Result<Lock, Error>, body: impl AsyncFnOnce(&Guard) -> T) -> T {
    let outcome = match lock {
        Ok(lock) => lock.run_or_skip(body).await,
        Err(error) => Err(RunError::Acquire(error)),
    };
    match outcome {
        Ok(output) => output.unwrap_or_else(T::skipped),
        Err(error) => T::failed(error),
    }
}

/// What a function with `on_held = "error"` returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hold an error of db-mutex",
    label = "return a `Result<_, E>` where `E: From<db_mutex::Error>`",
    note = "with `on_held = \"skip\"` the function may return `()` or an `Option`"
)]
pub trait Fallible: Sized {
    /// The lock could not be acquired, or was lost.
    fn failed(error: RunError<Self>) -> Self;
}

impl<T, E: From<Error>> Fallible for Result<T, E> {
    fn failed(error: RunError<Self>) -> Self {
        match error {
            // The caller learns why the work failed, rather than that it was also unprotected.
            RunError::Lost { lock_id, reason, output: Some(Err(error)) } => {
                tracing::warn!(%lock_id, %reason, "the lock was lost; the function has failed otherwise");
                Err(error)
            }
            error => Err(E::from(Error::from(error))),
        }
    }
}

/// What a function with `on_held = "skip"` returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that the function was skipped",
    label = "return `()`, an `Option`, or a `Result` of one of them",
    note = "with `on_held = \"error\"` the function may return any `Result<_, E>` where `E: From<db_mutex::Error>`"
)]
pub trait Skippable: Sized {
    /// The lock is held by another.
    fn skipped() -> Self;

    /// The lock could not be acquired, or was lost.
    fn failed(error: RunError<Self>) -> Self;
}

impl Skippable for () {
    fn skipped() {}

    fn failed(error: RunError<Self>) {
        output_or_log(error);
    }
}

impl<T> Skippable for Option<T> {
    fn skipped() -> Self {
        None
    }

    fn failed(error: RunError<Self>) -> Self {
        output_or_log(error).flatten()
    }
}

impl<T: Nothing, E: From<Error>> Skippable for Result<T, E> {
    fn skipped() -> Self {
        Ok(T::NOTHING)
    }

    fn failed(error: RunError<Self>) -> Self {
        Fallible::failed(error)
    }
}

/// What a function that was skipped returns in its `Ok`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that the function was skipped",
    label = "make it `()` or an `Option`",
    note = "with `on_held = \"error\"` the function may return any `Result<_, E>` where `E: From<db_mutex::Error>`"
)]
pub trait Nothing {
    /// That value.
    const NOTHING: Self;
}

impl Nothing for () {
    const NOTHING: Self = ();
}

impl<T> Nothing for Option<T> {
    const NOTHING: Self = None;
}

/// For a function that cannot return an error. What it has finished reaches the caller.
fn output_or_log<T>(error: RunError<T>) -> Option<T> {
    match error {
        RunError::Lost { lock_id, reason, output: Some(output) } => {
            tracing::warn!(%lock_id, %reason, "the lock was lost; the function is finished, and may have overlapped another");
            return Some(output);
        }
        RunError::Lost { lock_id, reason, .. } => {
            tracing::error!(%lock_id, %reason, "the lock was lost, and the function dropped");
        }
        error => {
            let error = Error::from(error);
            let (cause, id) = (std::error::Error::source(&error), error.lock_id().map(|id| id.as_str()));
            tracing::error!(lock_id = id, %error, cause, "the function was not run");
        }
    }
    None
}
