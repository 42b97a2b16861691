//! The mutex of a program that needs only one. [`#[db_mutex]`](crate::db_mutex) uses it by default.
//!
//! It is set once, when the program starts. It is never dropped: call [`DbMutex::shutdown`] before the process exits. A
//! process has only one. If each test needs its own mutex, use the option `store`.
//!
//! ```
//! use db_mutex::{DbMutex, db_mutex, global, testing::MemoryStore};
//!
//! #[db_mutex("nightly-report")]
//! async fn report() -> Result<u32, db_mutex::Error> {
//!     Ok(42)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), db_mutex::Error> {
//! // let mutex = db_mutex::connect("sqlite:/var/lib/my-app/locks.db").await?;
//! let mutex = DbMutex::new(MemoryStore::new())?;
//! global::set(mutex)?;
//! assert_eq!(report().await?, 42);
//! # Ok(())
//! # }
//! ```

use std::sync::OnceLock;

use crate::{DbMutex, Error, Invalid};

static MUTEX: OnceLock<DbMutex> = OnceLock::new();

/// Sets the global mutex. It may also be a blocking one, because both forms share everything.
///
/// # Errors
/// [`Invalid::GlobalMutex`] if it is already set. It is not changed.
pub fn set(mutex: impl Into<DbMutex>) -> Result<(), Error> {
    MUTEX.set(mutex.into()).map_err(|_| invalid("is set already; it can be set once, when the program starts"))
}

/// Returns the global mutex.
///
/// # Errors
/// [`Invalid::GlobalMutex`] if it is not set.
pub fn get() -> Result<&'static DbMutex, Error> {
    let unset = "is not set; call `db_mutex::global::set` when the program starts, or name a mutex with `store = …`";
    MUTEX.get().ok_or_else(|| invalid(unset))
}

fn invalid(reason: &str) -> Error {
    Invalid::GlobalMutex { reason: reason.into() }.into()
}
