//! A kit for stores on databases that can compare and swap: implement four operations on opaque bytes, and
//! [`CasStore`] makes a complete [`LockStore`](super::LockStore) of them.
//!
//! It is for key-value databases, object stores, directories of files, and other storage that can replace a value on the
//! condition that no one else has replaced it. The kit keeps one value per lock id, decides by the rules of the contract
//! ([`rules`](super::rules)), and writes the decision back with [`swap`](CompareAndSwap::swap).
//!
//! # Example
//!
//! A map in memory. One more line, [`suite!`](https://docs.rs/db-mutex-conformance), runs the conformance suite on it.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//! use db_mutex_core::store::cas::{CasStore, CompareAndSwap, Entry, Loaded, Page, Swapped, machine_clock};
//! use db_mutex_core::store::{LockId, async_trait};
//! use db_mutex_core::{DbMutex, StoreError};
//!
//! #[derive(Debug, Default)]
//! struct Memory(Mutex<BTreeMap<LockId, Entry<u64>>>);
//!
//! #[async_trait]
//! impl CompareAndSwap for Memory {
//!     type Version = u64;
//!
//!     async fn load(&self, id: &LockId) -> Result<Loaded<u64>, StoreError> {
//!         let value = self.0.lock().unwrap().get(id).cloned();
//!         Ok(Loaded::new(value, machine_clock())) // The clock is read after the value.
//!     }
//!
//!     async fn swap(&self, id: &LockId, expected: Option<&u64>, value: &[u8]) -> Result<Swapped, StoreError> {
//!         let mut values = self.0.lock().unwrap();
//!         if values.get(id).map(|entry| &entry.version) != expected {
//!             return Ok(Swapped::Changed);
//!         }
//!         // Never reused, also after a removal: here it is the time.
//!         let version = expected.map_or(0, |version| version + 1).max(machine_clock().as_micros() as u64);
//!         values.insert(id.clone(), Entry::new(value, version));
//!         Ok(Swapped::Done)
//!     }
//!
//!     async fn remove(&self, id: &LockId, expected: &u64) -> Result<Swapped, StoreError> {
//!         let mut values = self.0.lock().unwrap();
//!         if values.get(id).map(|entry| &entry.version) != Some(expected) {
//!             return Ok(Swapped::Changed);
//!         }
//!         values.remove(id);
//!         Ok(Swapped::Done)
//!     }
//!
//!     async fn scan(&self, _from: Option<&str>) -> Result<Page<u64>, StoreError> {
//!         let entries = self.0.lock().unwrap().values().cloned().collect();
//!         Ok(Page::last(entries, machine_clock()))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), db_mutex_core::Error> {
//! let mutex = DbMutex::new(CasStore::new(Memory::default()))?;
//! let guard = mutex.lock("report").acquire().await?;
//! assert!(mutex.lock("report").try_acquire().await.unwrap_err().is_held());
//! guard.release().await
//! # }
//! ```
//!
//! The repository's [examples/stores](https://github.com/db-mutex/db-mutex/tree/main/examples/stores) has a directory of
//! files, Redis, object stores and etcd. [Writing a
//! store](https://github.com/db-mutex/db-mutex/blob/main/docs/writing-a-store.md) explains what to check in a database.
//!
//! # What it costs
//!
//! | request | operations |
//! |---|---|
//! | a lock that is granted; a renewal; a release | a load and a swap: one round trip more than a statement of SQL |
//! | a lock that is held | a load |
//! | a race or a reply that was lost, a load that failed | a load and a swap again, five times in all; then an error: [`Busy`](super::StoreErrorKind::Busy), which the mutex repeats, or the database's |
//! | a list | a scan |
//! | a purge | a scan, and a removal for each row that goes |
//!
//! There are no batches: the mutex sends up to [`limits().concurrency`](super::Limits) requests at a time, each alone.
//!
//! # What it promises
//!
//! All of the [contract](super::LockStore#contract), as long as the operations keep theirs; the conformance suite shows
//! both. This includes swaps whose reply was lost: the kit loads the value again, and the owner token in it shows what
//! happened. If others have overwritten the value, and a release left no trace in it, the kit returns an error of unknown
//! outcome.
//!
//! # What it cannot promise
//!
//! - **A clock that the database does not have.** If each client judges by its own ([`machine_clock`]), exclusion depends on
//!   the clocks of the clients: they must not differ by more than the safety margin of a lease, which is 100 ms or 5 % of its
//!   TTL, whichever is more. Synchronise them (NTP, PTP), use long TTLs, and pass the fencing token to what the lock protects.
//!   A clock that is further ahead lets its client take over locks too early.
//! - **Rising fencing tokens across a purge, for inserts from before it.** An absent value has no version: an insert that has
//!   found none, and takes effect after another acquisition was granted, released and purged, gets a smaller token. Purge with
//!   an `older_than` that is longer than a call may take ([`Limits::call`](super::Limits::call)) and than clocks differ.
//! - **Verifying a lock inside a transaction** (`verify_in` of the SQL backends): there is no transaction to do it in.
//! - **Order.** Of concurrent requests, the one whose swap arrives first is granted the lock.
//!
//! # The value
//!
//! A JSON object, which other programs may read; see [`Stored`].

mod adapter;
mod attempt;
mod json;
mod requests;
mod value;

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{Limits, LockId, StoreError, StoreTime};

pub use adapter::CasStore;
pub use value::Stored;

/// Four operations on a database with a value per lock id. [`CasStore`] turns them into a store.
///
/// Values are opaque bytes, less than 8 KiB. Choose a key for each [`LockId`]: two ids must have two keys. An id has up to
/// 1024 bytes and any printable characters, and ids may differ only by case, spaces or accents. If keys cannot, encode the
/// id, or use a hash of it. The value contains its id, so a key scheme that mixes up two ids causes an error, not a wrong
/// answer.
///
/// # Contract
/// - **Atomicity.** A swap or a removal happens as a whole or not at all, if its condition holds at that moment, and is as
///   durable as the database can make it. No other writer changes the values.
/// - **Fresh reads.** A load that begins after a swap was acknowledged returns what it wrote, through every handle: no cache, no
///   replica that lags behind.
/// - **Versions** distinguish the writes of a key. No two values that the kit writes are equal, so a hash of the value is a
///   version, as is the value itself.
/// - **The clock** is one for all clients, if there is one, and is read *after* the value or together with it. If it is
///   read before, the written end of a lease could be earlier than the one returned to its owner.
/// - **Errors** follow [`StoreError`]: an error of a swap whose kind is [`Unavailable`](super::StoreErrorKind::Unavailable) or
///   [`Other`](super::StoreErrorKind::Other) may have taken effect, or still take effect, unless it is
///   [`undone`](StoreError::undone). Mark it where nothing was sent. No error shows a password.
/// - **Time.** Each operation ends by itself; [`CasStore`] drops its future when the [limit](Limits::call) of a call is over.
///   A future that is dropped leaves the operation done or not done.
#[async_trait]
pub trait CompareAndSwap: Debug + Send + Sync + 'static {
    /// What distinguishes two values of a key: a revision, an `ETag`, a counter, a hash, or the value itself.
    type Version: Clone + PartialEq + Send + Sync + 'static;

    /// Reads the value of a lock id, and the clock.
    async fn load(&self, id: &LockId) -> Result<Loaded<Self::Version>, StoreError>;

    /// Writes `value` if the value of the id is still the one with the version `expected`, or, with `None`, if there is none.
    async fn swap(&self, id: &LockId, expected: Option<&Self::Version>, value: &[u8]) -> Result<Swapped, StoreError>;

    /// Removes the value of the id if it is still the one with the version `expected`.
    async fn remove(&self, id: &LockId, expected: &Self::Version) -> Result<Swapped, StoreError>;

    /// Reads a page of the values of all ids, in any order, and the clock. `from` is `None` for the first page, and then
    /// what [`Page::next`] was. An id that exists all the time must be on a page; if it is on several, the last one counts.
    async fn scan(&self, from: Option<&str>) -> Result<Page<Self::Version>, StoreError>;

    /// Same as [`LockStore::limits`](super::LockStore::limits). There are no batches, even if `batch` is greater than one.
    fn limits(&self) -> Limits {
        Limits::new()
    }

    /// Same as [`LockStore::wait_for_release`](super::LockStore::wait_for_release).
    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        let _ = id;
        tokio::time::sleep(at_most).await;
        Ok(())
    }

    /// Same as [`LockStore::for_background`](super::LockStore::for_background): a second handle, with its own connections, for
    /// a client whose connections are tied to a runtime.
    fn for_background(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
}

/// The value of a lock id, and the clock: what [`CompareAndSwap::load`] returns.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Loaded<V> {
    /// The value, if there is one.
    pub entry: Option<Entry<V>>,
    /// The clock, read after the value.
    pub now: StoreTime,
}

impl<V> Loaded<V> {
    /// A value, or none, and the clock after it was read.
    pub fn new(entry: Option<Entry<V>>, now: StoreTime) -> Self {
        Self { entry, now }
    }
}

/// A value with its version.
#[derive(Clone)]
#[non_exhaustive]
pub struct Entry<V> {
    /// The bytes that were swapped in.
    pub value: Vec<u8>,
    /// The version of exactly these bytes.
    pub version: V,
}

impl<V> Entry<V> {
    /// A value with its version.
    pub fn new(value: impl Into<Vec<u8>>, version: V) -> Self {
        Self { value: value.into(), version }
    }
}

/// Does not show the value, which contains the owner token.
impl<V> Debug for Entry<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("bytes", &self.value.len()).finish_non_exhaustive()
    }
}

/// Some of the values: what [`CompareAndSwap::scan`] returns.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Page<V> {
    /// The values, in any order.
    pub entries: Vec<Entry<V>>,
    /// The clock, read after them.
    pub now: StoreTime,
    /// Where the next page begins, in the database's own terms; `None` if there is none.
    pub next: Option<String>,
}

impl<V> Page<V> {
    /// The last page, or the only one.
    pub fn last(entries: Vec<Entry<V>>, now: StoreTime) -> Self {
        Self { entries, now, next: None }
    }

    /// Adds that there is another page, which begins at `next`.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// Whether a swap or a removal took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Swapped {
    /// It was done.
    Done,
    /// The value had another version; nothing was changed, and nothing will be.
    Changed,
}

/// The clock of this machine, for a database that has none; see [what that means](self#what-it-cannot-promise).
pub fn machine_clock() -> StoreTime {
    StoreTime::ZERO + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
