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
//! If another holder has the lock, that is [`Error::Held`], which says who and for how much longer. A lease that ended
//! before the work did is [`Error::Lost`]. A database that fails is neither.
//!
//! # Errors
//!
//! Every call returns [`Error`], except those that run a closure: they return [`RunError`], which contains what the closure
//! returned, and converts into [`Error`].
//!
//! ```
//! use std::borrow::Cow;
//! use db_mutex::{DbMutex, Error, LockId, testing::MemoryStore};
//!
//! async fn with_the_error_of_this_crate(mutex: &DbMutex) -> Result<i32, Error> {
//!     let guard = mutex.lock("job").acquire().await?;
//!     guard.extend(std::time::Duration::from_secs(60)).await?;
//!     guard.release().await?;
//!     mutex.find("job").await?;
//!     mutex.list(&db_mutex::admin::ListFilter::all()).await?;
//!     mutex.purge_expired(std::time::Duration::from_secs(3600)).await?;
//!     mutex.run_or_skip("job", async |_| ()).await?;
//!     Ok(mutex.run("job", async |_| 42).await?)
//! }
//!
//! async fn with_any_error(mutex: &DbMutex) -> Result<i32, Box<dyn std::error::Error + Send + Sync>> {
//!     mutex.lock("job").acquire().await?.release().await?;
//!     Ok(mutex.run("job", async |_| 42).await?)
//! }
//!
//! async fn with_anyhow(mutex: &DbMutex) -> anyhow::Result<i32> {
//!     mutex.lock("job").acquire().await?.release().await?;
//!     Ok(mutex.run("job", async |_| 42).await?)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let mutex = DbMutex::new(MemoryStore::new())?;
//! with_the_error_of_this_crate(&mutex).await?;
//! with_any_error(&mutex).await.map_err(anyhow::Error::from_boxed)?;
//! with_anyhow(&mutex).await?;
//!
//! // In a task:
//! let task = tokio::spawn({
//!     let mutex = mutex.clone();
//!     async move { mutex.run("job", async |guard| guard.fence()).await }
//! });
//! task.await??;
//!
//! // An id is any kind of string:
//! let (string, id) = (String::from("job"), LockId::new("job")?);
//! let _ = (mutex.lock("job"), mutex.lock(&string), mutex.lock(string.clone()), mutex.lock(&"job"));
//! let _ = (mutex.lock(Cow::Borrowed("job")), mutex.lock(&id), mutex.lock(id.clone()));
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `sqlite` (default) | `sqlite::SqliteStore`, with SQLite compiled in |
//! | `sqlite-unbundled` | the same, with the system's SQLite (3.37 or newer) |
//! | `mysql` | `mysql::MySqlStore`, for MySQL and MariaDB, with TLS |
//! | `postgres` | `postgres::PostgresStore`, with TLS |
//! | `tls-ring` | TLS through rustls with the cryptography of ring; part of `mysql` and `postgres` |
//! | `tls-aws-lc-rs` | the same with aws-lc, which is then used in place of ring |
//! | `metrics` | the metrics below |
//! | `all-backends` | all backends |
//!
//! No feature excludes another. An application that has installed a default provider for rustls keeps it: TLS to both servers
//! uses it then.
//!
//! # Platforms
//!
//! Unix only: Linux, macOS and others; tests run on Linux. Windows is not supported: the crate does not compile there.
//!
//! # Tracing and metrics
//!
//! Spans of `tracing`: `acquire` and `run`. Events: acquired, refused, waiting, renewed, renewal failed, lost, released, drained, with lock id, fence,
//! and how long. With the feature `metrics`, through the crate of that name:
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `db_mutex_acquire_total` | counter | `outcome`: `granted`, `held`, `failed` |
//! | `db_mutex_wait_seconds` | histogram: from the first attempt to the grant | |
//! | `db_mutex_hold_seconds` | histogram: from the grant until the guard is gone | |
//! | `db_mutex_held` | gauge: number of live guards | |
//! | `db_mutex_renew_total` | counter | `outcome`: `renewed`, `failed` |
//! | `db_mutex_lost_total` | counter | `reason`: `expired`, `store_unreachable`, `taken_over`, `released_by_force`, `held_too_long` |
//!
//! Lock ids are not used as labels because there may be arbitrarily many. Owner tokens and passwords never appear.
//!
//! # Other databases
//!
//! To support another database, implement [`LockStore`](store::LockStore) and verify it with the crate
//! `db-mutex-conformance`.

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
