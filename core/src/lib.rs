//! The contract, the semantics and the errors of [db-mutex](https://docs.rs/db-mutex), without a database driver.
//!
//! From the user inwards, one file per idea:
//!
//! | file | idea |
//! |---|---|
//! | `mutex` | [`DbMutex`]: a store and the defaults that its locks share |
//! | `lock` | [`Lock`]: one lock id with its options; acquiring, and running a closure under it |
//! | `acquire` | one acquisition: its attempts, and the resulting guard |
//! | `guard` | [`Guard`]: the lock while it is held |
//! | `error` | what can go wrong, for users |
//! | `engine/` | renewal, release, waiting, and the deadlines of leases |
//! | `blocking/` | the same for code without a runtime, with the feature `blocking` |
//! | [`store`] | [`LockStore`]: **the contract** between the mutex and a database, and [`MemoryStore`](store::MemoryStore), the reference |
//! | [`testing`] | a mutex and a store in memory, and clocks, for tests |
//! | `values/` | the validated value types of requests and answers |
//!
//! Users need [`DbMutex`]. Implementors of a new backend need [`LockStore`]; for a database that can compare and swap,
//! [`store::cas`] is less work. They verify it with the crate `db-mutex-conformance`.
//!
//! Architecture invariants: dependencies only point down the table, and this crate knows no driver.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(unix))]
compile_error!("db-mutex supports Unix only (Linux, macOS and others); Windows is not supported");

mod acquire;
#[cfg(feature = "blocking")]
pub mod blocking;
mod builder;
mod engine;
mod error;
mod guard;
mod lock;
mod mutex;
mod options;
mod run_error;
pub mod store;
pub mod testing;
mod values;

pub use tokio_util::sync::CancellationToken;

pub use crate::builder::DbMutexBuilder;
pub use crate::error::{Action, Error};
pub use crate::guard::Guard;
pub use crate::lock::Lock;
pub use crate::mutex::DbMutex;
pub use crate::options::OnLost;
pub use crate::run_error::RunError;
pub use crate::store::{Holder, StoreError, StoreErrorKind};
pub use crate::values::{Fence, HolderName, Invalid, LockId, LostReason, OwnerToken, TableName, Ttl, WaitLimit};

/// The rows of locks, for operators.
pub mod admin {
    pub use crate::store::{Lease, ListFilter, LockRow, LockState, StoreTime};
}

// For the modules of this crate.
use crate::store::{DeleteRequest, Deleted, InsertRequest, Inserted, Lease, LockStore, RenewRequest, Renewed};
use crate::values::{Clock, SystemClock};
