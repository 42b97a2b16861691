//! The mutex for code without a runtime: [`DbMutex`], [`Lock`] and [`Guard`] with methods that block.
//!
//! ```
//! # #[cfg(feature = "sqlite-unbundled")]
//! # mod example {
//! use std::time::Duration;
//! use db_mutex::{Error, blocking};
//!
//! pub fn main() -> Result<(), Error> {
//! #   let url = "sqlite::memory:";
//!     // let url = "sqlite:/var/lib/my-app/locks.db";
//!     let mutex = blocking::connect(url)?;
//!
//!     let lock = mutex.lock("import").ttl(Duration::from_secs(30)).keep_alive(true).wait(Duration::from_secs(10));
//!     let rows = lock.run(|_guard| 42)?;
//!     println!("{rows} rows");
//!
//!     let guard = mutex.lock("nightly-report").acquire()?;
//!     // … the work that must not overlap …
//!     guard.release()
//! }
//! # }
//! # #[cfg(feature = "sqlite-unbundled")]
//! # example::main().unwrap();
//! ```
//!
//! Everything else works as in the async form, to which [`DbMutex`] and [`Guard`] dereference. [`connect`] returns a mutex
//! for a program without a runtime. [`DbMutex::blocking`](crate::DbMutex::blocking) returns the blocking form of an
//! existing one.
//!
//! # Where it may be called
//!
//! On any thread, in `spawn_blocking`, and in async code of a multi-thread runtime. In async code of a current-thread
//! runtime, a call that blocks could deadlock: it returns [`Invalid::Blocking`](crate::Invalid::Blocking) at once, and
//! nothing is sent. For details, see [the module in core](db_mutex_core::blocking#where-it-may-be-called).

pub use db_mutex_core::blocking::*;

use crate::{Connector, DbMutexBuilder, Error};

/// Connects to the database that `url` names, and brings its table up to date; see [`connect`](crate::connect()).
///
/// # Errors
/// Same as there, and [`Error::Invalid`] where blocking [is refused](self#where-it-may-be-called).
pub fn connect(url: &str) -> Result<DbMutex, Error> {
    Ok(Connector::new(url)?.blocking_builder()?.build()?.blocking())
}

impl Connector {
    /// Connects like [`builder`](Self::builder), for a program without a runtime. Call
    /// [`DbMutex::blocking`](crate::DbMutex::blocking) on the mutex that the builder returns.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite-unbundled")]
    /// # fn main() -> Result<(), db_mutex::Error> {
    /// # let url = "sqlite::memory:";
    /// let builder = db_mutex::Connector::new(url)?.blocking_builder()?;
    /// let mutex = builder.keep_alive(true).build()?.blocking();
    /// mutex.lock("job").acquire()?.release()
    /// # }
    /// # #[cfg(not(feature = "sqlite-unbundled"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// Same as [`connect`].
    pub fn blocking_builder(&self) -> Result<DbMutexBuilder, Error> {
        let connector = self.clone();
        let store = open(async move { Ok(connector.store().await) })??;
        // Connections that are open already end with the runtime that has opened them.
        let store = store.for_background().unwrap_or(store);
        Ok(crate::DbMutex::builder(store))
    }
}
