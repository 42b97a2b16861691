//! The mutex for code without a runtime: [`DbMutex`], [`Lock`] and [`Guard`] with methods that block.
//!
//! [`DbMutex::blocking`](crate::DbMutex::blocking) returns the blocking form of any mutex. Both forms share everything, so
//! blocking and async jobs exclude each other.
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
//! | async code of a multi-thread runtime | blocks this task; the other tasks continue, as with [`block_in_place`](https://docs.rs/tokio/latest/tokio/task/fn.block_in_place.html) |
//! | async code of a current-thread runtime | returns [`Invalid::Blocking`](crate::Invalid::Blocking) at once; nothing is sent |
//! | … which has entered a multi-thread runtime with [`Handle::enter`](https://docs.rs/tokio/latest/tokio/runtime/struct.Handle.html#method.enter) | the same; tokio also prints the message of a panic, which is caught |
//!
//! In the last two cases, blocking would stop the runtime, perhaps together with the holder that the call waits for or the
//! connections of its own store. Use the async form there, or `spawn_blocking`. The rule is the same for every method that
//! blocks, including [`Guard::release`] and calls in a `Drop`. Dropping a guard never blocks, and is allowed everywhere.
//!
//! The background thread of the mutex sends the requests, over its own connections. So they work even after the runtime
//! ended in which the database was connected. (A store on a pool of your application sends everything through that pool,
//! whose runtime has to keep running.)
//!
//! # Deadlocks that are not detected
//!
//! A call that waits for a lock can wait for itself in these cases:
//! - if the same thread or task holds the lock, or another branch of its `join!`, or another task of its `LocalSet`;
//! - if the holder is a task of a runtime whose blocking threads all wait for the lock;
//! - if two threads are in `block_on` of the same current-thread runtime: when the one that drives it returns, the other
//!   has to drive it, and cannot while it blocks.
//!
//! Such a call ends with its [wait limit](Lock::wait), so set one. Runtimes other than tokio's are not recognized; their threads
//! are blocked, as by a mutex of the standard library.

mod guard;
mod lock;
mod mutex;
mod wait;

pub use guard::Guard;
pub use lock::Lock;
pub use mutex::DbMutex;
pub use wait::open;
