//! A mutex in the database you already run: long jobs that must not overlap, across processes and machines, without a
//! new server.
//!
//! ```
//! # #[cfg(feature = "sqlite-unbundled")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), db_mutex::Error> {
//! # let url = "sqlite::memory:";
//! // let url = "sqlite:/var/lib/my-app/locks.db";
//! let mutex = db_mutex::connect(url).await?;
//!
//! let guard = mutex.lock("nightly-report").acquire().await?;
//! // … the work that must not overlap …
//! guard.release().await?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite-unbundled"))]
//! # fn main() {}
//! ```
//!
//! A lock that is held by somebody else is [`Error::Held`], which says by whom and for how long. A lease that ended
//! before the work did is [`Error::TimedOut`]. A database that fails is neither.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `sqlite` (default) | `sqlite::SqliteStore`, with SQLite compiled in |
//! | `sqlite-unbundled` | the same, with the system's SQLite (3.37 or newer) |
//! | `mysql` | `mysql::MySqlStore`, for MySQL and MariaDB, with TLS |
//! | `postgres` | `postgres::PostgresStore` |
//! | `tls` | TLS to PostgreSQL, through rustls with ring |
//! | `tls-aws-lc-rs` | the same with aws-lc |
//! | `metrics` | the metrics below |
//! | `all-backends` | every backend there is, with TLS |
//!
//! # What it tells
//!
//! Spans of `tracing`: `acquire` and `run`. Events: acquired, refused, waiting, renewed, renewal failed, lost, released, drained, with lock id, fence,
//! and how long. With the feature `metrics`, through the crate of that name:
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `db_mutex_acquire_total` | counter | `outcome`: `granted`, `held`, `failed` |
//! | `db_mutex_wait_seconds` | histogram: from the first question to the grant | |
//! | `db_mutex_hold_seconds` | histogram: from the grant until the guard is gone | |
//! | `db_mutex_held` | gauge: guards that live | |
//! | `db_mutex_renew_total` | counter | `outcome`: `renewed`, `failed` |
//! | `db_mutex_lost_total` | counter | `reason`: `expired`, `store_unreachable`, `taken_over`, `released_by_force`, `held_too_long` |
//!
//! No lock id is a label, for there may be any number; no owner token or password is in any of them.
//!
//! Whose storage is another one writes a [`LockStore`], and proves it with the crate `db-mutex-conformance`.

mod connect;

/// The README's example compiles.
#[cfg(all(doctest, feature = "sqlite-unbundled"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub use connect::{Connector, connect};
pub use db_mutex_core::*;

/// The MySQL and MariaDB backend.
#[cfg(feature = "mysql")]
pub use db_mutex_mysql as mysql;
/// The PostgreSQL backend.
#[cfg(feature = "postgres")]
pub use db_mutex_postgres as postgres;
/// The SQLite backend.
#[cfg(feature = "sqlite-unbundled")]
pub use db_mutex_sqlite as sqlite;
