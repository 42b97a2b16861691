//! The contract of a [`LockStore`] as tests: one line in your crate adds a separate test for every promise.
//!
//! Use it if you wrote a store for a database that [db-mutex](https://docs.rs/db-mutex) does not support. The documentation
//! of [`LockStore`] is the contract; this suite shows whether your store keeps it. For each MUST, the contract lists the
//! cases that test it. Each case is a `#[test]` in your crate. If you have not written the store yet, begin with [Writing a
//! store](https://github.com/db-mutex/db-mutex/blob/main/docs/writing-a-store.md).
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
//! // Stands for your database: opening the same name twice opens the same database.
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
//! `cargo test` then runs each case separately, so that one fault does not hide the next. `cargo test fence_rises` runs
//! only the cases with that name. You do not need an async runtime: each case creates a tokio runtime with two workers. A
//! case fails if it has not ended after 60 seconds.
//!
//! # The factory's contract
//!
//! Pass an `async` closure from a namespace to a store; its future must be [`Send`].
//!
//! - Each call opens a **new handle**, as another process would: a new connection or pool.
//! - Two calls with one namespace are two handles of **one database**. Several cases depend on it.
//! - Different namespaces **share nothing**: a namespace starts empty, and nothing else writes to it.
//! - Create the table if it does not exist; a case may open its second handle while the first is in use.
//! - **Other processes** open the same database by the same namespace. The cases in the group `processes` start the program
//!   of your tests again, up to three times, with the same environment, for the same test.
//!
//! The cases in the group `factory` check these rules. Tests run in the order of their names, so these cases are not the
//! first. But if another case fails, they run at once, and their findings are reported before the failure.
//!
//! A namespace is new for each case and each run. It has at most 40 characters of `[a-z0-9_]`, and starts with a letter, so
//! that it can name a table, a schema or a file. To remove it afterwards, pass `cleanup = |namespace| async move { … }`,
//! which is called after each case, even if the case has failed.
//!
//! The closure is called for every case, and cases run in parallel. If your server allows few connections, open only a few.
//!
//! # Failure messages
//!
//! A failure says what was expected and what was returned instead. If the factory is correct, it also quotes the rules of
//! the contract that the case tests.
//!
//! # Rows of other transactions
//!
//! Some rules are about changes to a row for which the contract has no request. The cases make these changes with three
//! more closures: `lock_row`, `shift_row` and `plant_fence`. Without them, the cases in the groups `locked_rows` and
//! `wrong_clock` fail, and say so.
//!
//! ```
//! # use std::time::Duration;
//! # use std::collections::HashMap;
//! # use std::sync::{LazyLock, Mutex};
//! # use db_mutex_core::{Fence, LockId, testing::MemoryStore};
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
//!     plant_fence = |namespace, lock_id: LockId, fence: Fence| async move {
//!         open(namespace).change_row(&lock_id, |row| row.fence = fence);
//!     },
//! );
//! # fn main() {}
//! ```
//!
//! - `lock_row` locks the row of an id as another transaction would, for example with `SELECT … FOR UPDATE` on its own
//!   connection, until what it returns is dropped.
//! - `shift_row` adds a duration to `acquired_at` and `expires_at` of the row of an id: the row then looks as if the
//!   database's clock had been ahead by that much when it was written.
//! - `plant_fence` sets only the fencing token of the row of an id. A clock that was ahead, or a table that was copied from
//!   another database, leaves such rows. The values go up to 2⁶², which a double cannot represent.
//!
//! # A case that you cannot keep yet
//!
//! Nothing is skipped silently. Name the case and the reason; the output then shows it as ignored, with your reason:
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
//! The name of a group stands for all its cases. For example, a store in memory has `ignore = { processes: "a database in
//! memory is a process's own" }`.
//!
//! If a name is neither a case nor a group, the test `every_ignored_case_exists` fails. A store with an ignored case does
//! not keep the contract, and its documentation should say so.
//!
//! # What the suite cannot show
//!
//! The suite cannot test whose clock decides, what happens when a reply is lost, or that no error shows a password. Cover
//! these rules of the contract with your own tests.
//!
//! Several stores in one file need separate modules, because the cases have the same names:
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

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod case;
mod cases;
#[doc(hidden)]
pub mod contract;
mod list;
mod process;
mod repeating;
mod report;
mod subject;
mod suite;

pub use case::{Case, check_ignored};
pub use list::CASES;
pub use suite::Suite;
