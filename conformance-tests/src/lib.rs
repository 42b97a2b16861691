//! The contract of a [`LockStore`] as tests: one line in your crate, and every promise is a test of its own.
//!
//! You wrote a store for a database that [db-mutex](https://docs.rs/db-mutex) does not come with. Its contract is the
//! documentation of [`LockStore`]; this suite shows whether your store keeps it. Behind each MUST of the contract the
//! names of the cases stand that show it, and each name is a `#[test]` in your crate.
//!
//! # How to use it
//!
//! Add this crate to your `[dev-dependencies]`, and write `tests/conformance.rs`:
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::{LazyLock, Mutex};
//! use db_mutex_core::testing::MemoryStore;
//!
//! // Stands for your database: what is opened twice under one name is one.
//! static DATABASES: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);
//!
//! fn open(namespace: String) -> MemoryStore {
//!     DATABASES.lock().unwrap().entry(namespace).or_default().clone()
//! }
//!
//! db_mutex_conformance::suite!(|namespace| async move { open(namespace) });
//! # fn main() {}
//! ```
//!
//! `cargo test` then runs each case by itself, so that one fault does not hide the next, and
//! `cargo test fence_rises` runs those you work on. You need no async runtime of your own: a case brings a tokio
//! runtime with two workers, and fails by name when it has not ended after 60 seconds.
//!
//! # The factory's contract
//!
//! What you pass is an `async` closure from a namespace to a store; its future is [`Send`].
//!
//! - Each call opens a **new handle**, as another process would: a new connection or pool.
//! - Two calls with one namespace are two handles of **one database**. Several cases depend on it.
//! - Different namespaces **share nothing**: a namespace starts empty, and nothing else writes to it.
//! - Create the table if it is not there; a case may open its second handle while the first is in use.
//!
//! A namespace is new for each case and each run, has at most 40 characters of `[a-z0-9_]`, and starts with a letter, so
//! that it can name a table, a schema or a file. What remains of it afterwards is yours to remove.
//!
//! The closure is called for every case, and cases run in parallel: if your server allows few connections, open few.
//!
//! # Rows of other transactions
//!
//! Some rules are about what happens to a row from outside, for which the contract has no request. Two more closures,
//! `lock_row` and `shift_row`, let the cases do it. Without them the cases in the groups `locked_rows` and `wrong_clock` fail,
//! and say so.
//!
//! ```
//! # use std::time::Duration;
//! # use std::collections::HashMap;
//! # use std::sync::{LazyLock, Mutex};
//! # use db_mutex_core::{LockId, testing::MemoryStore};
//! # static DATABASES: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);
//! # fn open(namespace: String) -> MemoryStore {
//! #     DATABASES.lock().unwrap().entry(namespace).or_default().clone()
//! # }
//! db_mutex_conformance::suite!(
//!     |namespace| async move { open(namespace) },
//!     lock_row = |namespace, lock_id: LockId| async move { open(namespace).lock_row(&lock_id) },
//!     shift_row = |namespace, lock_id: LockId, by: Duration| async move {
//!         open(namespace).change_row(&lock_id, |row| {
//!             row.acquired_at = row.acquired_at + by;
//!             row.expires_at = row.expires_at + by;
//!         });
//!     },
//! );
//! # fn main() {}
//! ```
//!
//! - `lock_row` locks the row of an id as another transaction would, for example with `SELECT … FOR UPDATE` on its own
//!   connection, until what it returns is dropped.
//! - `shift_row` adds a duration to `acquired_at` and `expires_at` of the row of an id: this is how it would look if the
//!   database's clock had been ahead by that much when it was written.
//!
//! # A case that you cannot keep yet
//!
//! Nothing is skipped in silence. Say which case and why; it then shows as ignored, with your reason, in the output:
//!
//! ```
//! # use db_mutex_core::testing::MemoryStore;
//! # fn open(_: String) -> MemoryStore { MemoryStore::new() }
//! db_mutex_conformance::suite!(
//!     |namespace| async move { open(namespace) },
//!     ignore = { a_rest_counts_from_the_acquisition: "rows have no acquired_at until schema 3" }
//! );
//! # fn main() {}
//! ```
//!
//! A name that is no case fails the test `every_ignored_case_exists`. A store with an ignored case does not keep the
//! contract, and its users should read so in its documentation.
//!
//! # What the suite cannot show
//!
//! Whose clock decides, what happens when a reply is lost, and that no error shows a password: the contract says it, and
//! your own tests have to.
//!
//! Several stores in one file need a module each, because the cases have the same names:
//!
//! ```
//! # use db_mutex_core::testing::MemoryStore;
//! # fn open(_: String) -> MemoryStore { MemoryStore::new() }
//! mod with_a_pool {
//!     use super::*;
//!     db_mutex_conformance::suite!(|namespace| async move { open(namespace) });
//! }
//! # fn main() {}
//! ```
//!
//! [`LockStore`]: db_mutex_core::store::LockStore

mod answer;
mod case;
mod cases;
mod list;
mod repeating;
mod subject;
mod suite;

pub use case::{Case, check_ignored};
pub use list::CASES;
pub use suite::Suite;
