//! What the code that `#[db_mutex]` generates calls. Nothing here is for people, and all of it may change.

use db_mutex_core::{DbMutex, Error, Lock, RunError};

#[cfg(feature = "blocking")]
pub use db_mutex_core::blocking::Guard as BlockingGuard;
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

/// How a function returns that its body was not run, or not under the lock to its end.
#[derive(Debug)]
pub struct Outcome<T> {
    skipped: Option<fn() -> T>,
    failed: fn(RunError<T>) -> T,
}

/// Returns the outcome of a function with `on_held = "error"`.
pub fn or_error<T: Fallible>() -> Outcome<T> {
    Outcome { skipped: None, failed: T::failed }
}

/// Returns the outcome of a function with `on_held = "skip"`.
pub fn or_skip<T: Skippable>() -> Outcome<T> {
    Outcome { skipped: Some(T::skipped), failed: T::failed }
}

impl<T> Outcome<T> {
    /// Runs the body of a function.
    pub async fn run(self, lock: Result<Lock, Error>, body: impl AsyncFnOnce(&Guard) -> T) -> T {
        let lock = match lock {
            Ok(lock) => lock,
            Err(error) => return (self.failed)(RunError::Acquire(error)),
        };
        let outcome = match self.skipped {
            Some(skipped) => lock.run_or_skip(body).await.map(|output| output.unwrap_or_else(skipped)),
            None => lock.run(body).await,
        };
        outcome.unwrap_or_else(self.failed)
    }
}

#[cfg(feature = "blocking")]
impl<T> Outcome<T> {
    /// Runs the body of a function that blocks.
    pub fn block(self, lock: Result<Lock, Error>, body: impl FnOnce(&BlockingGuard) -> T) -> T {
        let lock = match lock {
            Ok(lock) => crate::blocking::Lock::from(lock),
            Err(error) => return (self.failed)(RunError::Acquire(error)),
        };
        let outcome = match self.skipped {
            Some(skipped) => lock.run_or_skip(body).map(|output| output.unwrap_or_else(skipped)),
            None => lock.run(body),
        };
        outcome.unwrap_or_else(self.failed)
    }
}

pub use crate::__if_blocking as if_blocking;

/// The code of a function that blocks.
#[cfg(feature = "blocking")]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_blocking {
    ($code:expr) => {
        $code
    };
}

/// What a function that blocks needs.
#[cfg(not(feature = "blocking"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_blocking {
    ($code:expr) => {
        ::std::compile_error!("a function with `blocking` needs the feature `blocking` of the crate db-mutex")
    };
}

/// Returns nothing, but a type.
pub fn none<T>() -> Option<T> {
    None
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
