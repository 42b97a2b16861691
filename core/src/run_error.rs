use std::fmt;

use thiserror::Error as ThisError;

use crate::{Error, LockId, LostReason};

/// Why running a closure under a lock failed: the error of [`Lock::run`](crate::Lock::run).
///
/// `T` is the output of the closure, so that finished work is not lost. In a function that returns [`Error`], `?` converts
/// this error; the output is then dropped, and a warning is logged.
///
/// ```
/// # use db_mutex_core::{DbMutex, Error, RunError, testing::MemoryStore};
/// async fn import(mutex: &DbMutex) -> Result<usize, Error> {
///     match mutex.run("import", async |_guard| 42).await {
///         // The work is done, but the lock was lost meanwhile.
///         Err(RunError::Lost { output: Some(rows), .. }) => Ok(rows),
///         outcome => Ok(outcome?),
///     }
/// }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// #     let mutex = DbMutex::new(MemoryStore::new()).unwrap();
/// #     assert_eq!(import(&mutex).await.unwrap(), 42);
/// # });
/// ```
#[derive(ThisError)]
#[non_exhaustive]
pub enum RunError<T> {
    /// The lock could not be acquired; the closure was not run.
    #[error(transparent)]
    Acquire(#[from] Error),

    /// The lock was lost while the closure ran. Its work may have overlapped a successor's.
    #[error("lock `{lock_id}` was lost: {reason}; the work under it {}", what_became_of(output))]
    Lost {
        /// The lock.
        lock_id: LockId,
        /// Why it was lost.
        reason: LostReason,
        /// The output of the closure; `None` if the closure was dropped at an await point, as
        /// [`OnLost::Drop`](crate::OnLost::Drop) asks.
        output: Option<T>,
    },
}

fn what_became_of<T>(output: &Option<T>) -> &'static str {
    match output {
        Some(_) => "was finished, and may have overlapped a successor's",
        None => "was dropped",
    }
}

impl<T> RunError<T> {
    /// Whether another holder has the lock.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Acquire(error) if error.is_held())
    }

    /// Whether the lock was lost while the closure ran.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }

    /// Whether an argument is invalid.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Acquire(error) if error.is_invalid())
    }

    /// Whether the store failed for a reason that may pass, so that trying again may help. The closure was not run.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Acquire(error) if error.is_transient())
    }

    /// What the closure returned, if it was run to its end.
    pub fn into_output(self) -> Option<T> {
        match self {
            Self::Acquire(_) => None,
            Self::Lost { output, .. } => output,
        }
    }
}

impl<T> From<RunError<T>> for Error {
    fn from(error: RunError<T>) -> Self {
        match error {
            RunError::Acquire(error) => error,
            RunError::Lost { lock_id, reason, output } => {
                if output.is_some() {
                    tracing::warn!(%lock_id, %reason, "the lock was lost; the output of the finished work is dropped");
                }
                Error::Lost { lock_id, reason }
            }
        }
    }
}

// By hand: an output need not be `Debug` for the error to be.
impl<T> fmt::Debug for RunError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire(error) => f.debug_tuple("Acquire").field(error).finish(),
            Self::Lost { lock_id, reason, output } => f
                .debug_struct("Lost")
                .field("lock_id", lock_id)
                .field("reason", reason)
                .field("has_output", &output.is_some())
                .finish(),
        }
    }
}
