//! The contract, the semantics and the errors of [db-mutex](https://docs.rs/db-mutex), without a database driver.
//!
//! From the user inwards, one file for one idea:
//!
//! | file | idea |
//! |---|---|
//! | `mutex` | [`DbMutex`]: a store and the defaults that its locks share |
//! | `lock` | [`Lock`]: one lock id with its options; acquiring, and running a closure under it |
//! | `acquire` | one acquisition: its attempts, and the guard that comes of them |
//! | `guard` | [`Guard`]: the lock while it is held |
//! | `error` | what can go wrong, for users |
//! | `engine/` | renewal, release, waiting, and the deadlines of leases |
//! | [`store`] | [`LockStore`]: **the contract** between the mutex and a database, and [`MemoryStore`], the reference |
//! | `values/` | the validated values that requests and answers consist of |
//!
//! Users need [`DbMutex`]. Implementors of a new backend need [`LockStore`], and verify it with the crate
//! `db-mutex-conformance`.
//!
//! Architecture invariants: dependencies point down the table only, and no driver is known here.

mod acquire;
mod engine;
mod error;
mod guard;
mod lock;
mod mutex;
pub mod store;
mod values;

#[doc(hidden)]
pub use engine::jitter::repeat_jitter;
pub use error::Error;
pub use guard::Guard;
pub use lock::{Lock, OnLost};
pub use mutex::{DbMutex, DbMutexBuilder, TTL_VARIABLE};
pub use store::{
    DeleteBy, DeleteRequest, Deleted, Holder, InFlight, InFlightInserts, InsertRequest, Inserted, Lease, Limits,
    ListFilter, LockRow, LockState, LockStore, MemoryStore, PendingDelete, RenewRequest, Renewed, RowLock, StoreError,
    StoreErrorKind, async_trait, rules,
};
pub use values::{
    Clock, Fence, HolderText, Invalid, LockId, LostReason, ManualClock, NEVER_US, OwnerToken, SystemClock, TableName,
    Ttl, WaitLimit,
};
