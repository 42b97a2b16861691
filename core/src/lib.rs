//! The contract, the semantics and the errors of [db-mutex](https://docs.rs/db-mutex), without a database driver.
//!
//! From the user inwards, one file each:
//!
//! | file | the one idea |
//! |---|---|
//! | `mutex` | [`DbMutex`]: a store and the defaults that its locks share |
//! | `lock` | [`Lock`]: one lock id with its options; acquiring, and running a closure under it |
//! | `busy` | repeating a request while another transaction has the row locked |
//! | `attempts` | the attempts of one acquisition, and the guard that comes of them |
//! | `guard` | [`Guard`]: the lock while it is held, and when it stops being held |
//! | `holding` | what guard and renewal share of a lock that is held, and [`LostReason`] |
//! | `renewal` | renewing leases together, and saying in time when one is lost |
//! | `queue` | the waiters of a process stand in line, and only the first asks |
//! | `waiting` | [`WaitLimit`], and when a waiter asks again |
//! | `releaser` | what becomes of a lock whose guard or whose acquiring future is dropped |
//! | `store` | [`LockStore`]: **the contract** that a database has to keep |
//! | `forward` | a store behind an `Arc` or a `Box` is a store |
//! | `limits` | [`Limits`]: how much a store takes at once |
//! | `request`, `row` | requests to a store, and its responses |
//! | [`rules`] | the semantics of the contract as pure functions |
//! | `in_flight` | [`InFlight`]: a delete does not overtake the insert of its owner |
//! | `id`, `owner`, `ttl`, `holder`, `table` | the validated words of a request |
//! | `clock` | the client's clock, and the deadline counted on it |
//! | `error`, `store_error` | what can go wrong, for users and for stores |
//! | `telemetry` | what `tracing` and the crate `metrics` are told |
//! | `memory` | [`MemoryStore`]: the reference, and the store of your own tests |
//!
//! Users need [`DbMutex`]; who writes a store for another database needs [`LockStore`] and proves it with the
//! crate `db-mutex-conformance`.

mod attempts;
mod busy;
mod clock;
mod deadline;
mod error;
mod forward;
mod guard;
mod holder;
mod holding;
mod id;
mod in_flight;
mod limits;
mod lock;
mod memory;
mod mutex;
mod owner;
mod queue;
mod releaser;
mod renewal;
mod request;
mod row;
pub mod rules;
mod store;
mod store_error;
mod table;
mod telemetry;
mod ttl;
mod waiting;

pub use async_trait::async_trait;
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, Invalid};
pub use guard::Guard;
pub use holder::HolderText;
pub use holding::LostReason;
pub use id::LockId;
pub use in_flight::{InFlight, InFlightInserts};
pub use limits::Limits;
pub use lock::{Lock, OnLost};
pub use memory::{MemoryStore, RowLock};
pub use mutex::{DbMutex, DbMutexBuilder, TTL_VARIABLE};
pub use owner::OwnerToken;
pub use releaser::PendingDelete;
pub use request::{DeleteBy, DeleteRequest, InsertRequest, ListFilter, RenewRequest};
pub use row::{Deleted, Fence, Holder, Inserted, Lease, LockRow, LockState, NEVER_US, Renewed};
pub use store::LockStore;
pub use store_error::{StoreError, StoreErrorKind};
pub use table::TableName;
pub use ttl::Ttl;
pub use waiting::WaitLimit;
#[doc(hidden)]
pub use waiting::repeat_jitter;
