//! The mutex for code without a runtime: [`DbMutex`], [`Lock`] and [`Guard`] with methods that block.
//!
//! [`DbMutex::blocking`](crate::DbMutex::blocking) makes the blocking form of any mutex. Both forms share everything, so a job
//! that blocks excludes one that is async.
//!
//! ```
//! use std::time::Duration;
//! use db_mutex_core::{DbMutex, Error, testing::MemoryStore};
//!
//! fn main() -> Result<(), Error> {
//!     let mutex = DbMutex::new(MemoryStore::new())?.blocking();
//!     let guard = mutex.lock("nightly-report").wait(Duration::from_secs(10)).acquire()?;
//!     // … the work that must not overlap …
//!     guard.release()
//! }
//! ```
//!
//! # Where it may be called
//!
//! | called from | |
//! |---|---|
//! | a thread without a runtime | blocks this thread |
//! | [`spawn_blocking`](https://docs.rs/tokio/latest/tokio/task/fn.spawn_blocking.html) of any runtime | blocks this thread |
//! | async code of a multi-thread runtime | blocks this task; the others go on, as with [`block_in_place`](https://docs.rs/tokio/latest/tokio/task/fn.block_in_place.html) |
//! | async code of a current-thread runtime | returns [`Invalid::Blocking`](crate::Invalid::Blocking) at once; nothing is sent |
//!
//! The last would stop the runtime, and with it perhaps the holder that it waits for, or the connections of its own store.
//! Call the async form there, or `spawn_blocking`. The rule is the same for every method that blocks, also for
//! [`Guard::release`] and for calls in a `Drop`. Dropping a guard never blocks, and is allowed everywhere.
//!
//! Requests are sent by the thread of the mutex, over connections of its own, whatever has become of the runtime that the
//! database was connected in. (A store on a pool of your application sends everything through that pool: the runtime of the
//! pool has to go on.)
//!
//! What no rule can find is a second `block_on` of one current-thread runtime, which must not block while the first may end; a runtime
//! whose blocking threads all wait, and whose task holds the lock; and a call that waits for its own task: for a lock that the same thread or task holds, or another branch
//! of its `join!`, or another task of its `LocalSet`. It ends with the [wait limit](Lock::wait), so give it one. Runtimes other
//! than tokio's are not recognized; their threads are blocked, as by a mutex of the standard library.

mod guard;
mod lock;
mod mutex;
mod wait;

pub use guard::Guard;
pub use lock::Lock;
pub use mutex::DbMutex;
pub use wait::open;
