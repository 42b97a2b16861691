//! A mutex in the database you already run. It keeps jobs from overlapping, across processes and machines, without a new
//! server.
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
//! A lock is a lease in a table of your database, under a name of your choice. Three defaults matter:
//!
//! | by default | change it with |
//! |---|---|
//! | `acquire` does not wait for a held lock: [`Error::Held`] says who holds it, and for how much longer | [`wait`](Lock::wait) |
//! | the lease ends after 30 minutes, or `DB_MUTEX_TTL_SECONDS`: others wait that long after a crash | [`ttl`](Lock::ttl) |
//! | the lease is not renewed: work that takes longer loses the lock, see [`Error::Lost`] | [`keep_alive`](Lock::keep_alive) |
//!
//! Set them on a [`Lock`], or for all locks with [`Connector::builder`]. A database failure is never reported as "held" or
//! "lost": it is [`Error::Store`]. [`DbMutex`](DbMutex#what-it-promises) describes what a lease promises, and what it
//! cannot.
//!
//! # Skip a job that another process is running
//!
//! [`run_or_skip`](DbMutex::run_or_skip) acquires, runs a closure, and releases. If the lock is held, it logs the holder
//! and returns `None`. Otherwise the output of the closure, which may be an error, is in the `Some`.
//!
//! ```
//! use db_mutex::{DbMutex, Error};
//!
//! async fn tick(mutex: &DbMutex) -> Result<&'static str, Error> {
//!     let imported: Option<u32> = mutex.run_or_skip("import", async |_guard| import().await).await?;
//!     Ok(if imported.is_some() { "imported" } else { "another process is running it" })
//! }
//! # async fn import() -> u32 { 42 }
//! #
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! # let mutex = DbMutex::new(db_mutex::testing::MemoryStore::new())?;
//! # assert_eq!(tick(&mutex).await?, "imported");
//! # let other = mutex.lock("import").acquire().await?;
//! # assert_eq!(tick(&mutex).await?, "another process is running it");
//! # other.release().await
//! # }
//! ```
//!
//! # A function under a lock
//!
//! With the feature `macros`, [`#[db_mutex]`][attribute] does the same for a whole function. The lock id may contain the
//! function's arguments. Options are checked at compile time.
//!
//! ```
//! # #[cfg(feature = "macros")]
//! # mod example {
//! use db_mutex::{DbMutex, Error, db_mutex};
//!
//! #[db_mutex("import-{shop}", store = mutex, ttl = "30s", keep_alive, on_held = "skip")]
//! async fn import(mutex: &DbMutex, shop: &str) -> Result<Option<u32>, Error> {
//!     Ok(Some(42))
//! }
//! #
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Error> {
//! # let mutex = DbMutex::new(db_mutex::testing::MemoryStore::new())?;
//! # assert_eq!(import(&mutex, "north").await?, Some(42));
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "macros")]
//! # example::main().unwrap();
//! ```
//!
//! # Code without a runtime
//!
//! With the feature `blocking`, the module of the same name has the handle, the guard and `run` for code that blocks, and
//! the attribute accepts `blocking` for a plain `fn`. They work on any thread, including `spawn_blocking` and async code on
//! a multi-thread runtime. A call that could deadlock returns an error that says so.
//!
//! ```
//! # #[cfg(all(feature = "blocking", feature = "sqlite-unbundled"))]
//! # mod example {
//! use db_mutex::{Error, blocking};
//!
//! pub fn main() -> Result<(), Error> {
//! #   let url = "sqlite::memory:";
//!     // let url = "sqlite:/var/lib/my-app/locks.db";
//!     let mutex = blocking::connect(url)?;
//!     let rows = mutex.run("import", |_guard| 42)?;
//! #   assert_eq!(rows, 42);
//!     Ok(())
//! }
//! # }
//! # #[cfg(all(feature = "blocking", feature = "sqlite-unbundled"))]
//! # example::main().unwrap();
//! ```
//!
//! # Elect a leader
//!
//! The lease is short and is renewed: if this process dies, another one leads about ten seconds later. If the lease cannot
//! be renewed, [`lost`](Guard::lost) returns before another process can be granted the lock, and `select!` drops the work
//! at its current `.await`. Code that blocks or has spawned tasks must stop by itself: see [`is_valid`](Guard::is_valid)
//! and [`cancel_token`](Guard::cancel_token). Only a [forced release](DbMutex::force_release) is noticed later, at the next
//! renewal.
//!
//! ```
//! use std::time::Duration;
//! use db_mutex::{DbMutex, Error, WaitLimit};
//!
//! async fn lead_from_time_to_time(mutex: &DbMutex) -> Result<(), Error> {
//!     loop {
//!         let candidate = mutex.lock("leader").ttl(Duration::from_secs(10)).keep_alive(true).wait(WaitLimit::Forever);
//!         let guard = candidate.acquire().await?;
//!         tokio::select! {
//!             () = lead() => return guard.release().await,
//!             reason = guard.lost() => eprintln!("no longer the leader: {reason}"),
//!         }
//!     } // The guard of a lost lock can simply be dropped.
//! }
//! # use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
//! # static TERMS: AtomicU32 = AtomicU32::new(0);
//! # async fn lead() {
//! #     // The first term ends with the loss of the lock.
//! #     if TERMS.fetch_add(1, Relaxed) == 0 {
//! #         std::future::pending::<()>().await;
//! #     }
//! # }
//! #
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! # let mutex = DbMutex::new(db_mutex::testing::MemoryStore::new())?;
//! # let operator = async {
//! #     while TERMS.load(Relaxed) == 0 {
//! #         tokio::time::sleep(Duration::from_millis(10)).await;
//! #     }
//! #     mutex.force_release("leader").await
//! # };
//! # let (led, forced) = tokio::join!(lead_from_time_to_time(&mutex), operator);
//! # assert!(forced?);
//! # assert_eq!(TERMS.load(Relaxed), 2);
//! # led
//! # }
//! ```
//!
//! # Protect a commit
//!
//! A lease alone cannot stop a transaction that commits too late. If your data is in the same database, [`verify_in`] can:
//! no one else is granted the lock between that call and the commit. It is a method of the store, so open the store
//! yourself instead of calling [`connect`]. Each backend re-exports its driver. For transactions of sqlx, diesel and other
//! drivers, use `verify_with`.
//!
//! ```
//! # #[cfg(feature = "sqlite-unbundled")]
//! # mod example {
//! use db_mutex::sqlite::SqliteStore;
//! use db_mutex::sqlite::rusqlite::{Connection, TransactionBehavior};
//! use db_mutex::{DbMutex, Guard};
//!
//! fn pay_interest(store: &SqliteStore, guard: &Guard, mine: &mut Connection) -> Result<(), Box<dyn std::error::Error>> {
//!     let transaction = mine.transaction_with_behavior(TransactionBehavior::Immediate)?;
//!     store.verify_in(&transaction, guard)?;
//!     transaction.execute("UPDATE accounts SET balance = balance + 1", ())?;
//!     Ok(transaction.commit()?) // An error before this line rolls back.
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = std::env::temp_dir().join(format!("db-mutex-page-{}", std::process::id()));
//! # std::fs::create_dir(&folder)?;
//! # let file = folder.join("app.db");
//! let store = SqliteStore::open(&file).await?;
//! let mutex = DbMutex::new(store.clone())?;
//! let mut mine = Connection::open(&file)?;
//! # mine.execute_batch("CREATE TABLE accounts (balance INTEGER)")?;
//!
//! let guard = mutex.lock("interest").acquire().await?;
//! pay_interest(&store, &guard, &mut mine)?;
//! # mutex.force_release("interest").await?;
//! # let error = pay_interest(&store, &guard, &mut mine).unwrap_err();
//! # assert!(error.downcast_ref().is_some_and(db_mutex::Error::is_lost), "{error}");
//! # drop((guard, mine, store, mutex));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "sqlite-unbundled")]
//! # example::main().unwrap();
//! ```
//!
//! # Process exit
//!
//! Dropping a guard releases its lock in the background. Call [`DbMutex::shutdown`] before the process exits: it waits for
//! these releases. If a release is cut off, the lock stays taken until its lease ends.
//!
//! # Errors
//!
//! Every call returns [`Error`], except those that run a closure. They return [`RunError`], which contains the output of
//! the closure and converts into [`Error`].
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
//! // A lock id can be any string type:
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
//! | `tls-aws-lc-rs` | the same with aws-lc, which is then used instead of ring |
//! | `macros` | [`#[db_mutex]`][attribute], and `global`: a mutex that is set once |
//! | `blocking` | `blocking`: the mutex for code without a runtime, and `#[db_mutex(…, blocking)]` |
//! | `tower` | [`LockLayer`][layer]: runs a tower service under a lock, for apalis, axum and others |
//! | `metrics` | the metrics below |
//! | `all-backends` | all backends |
//!
//! All features can be combined. If the application has installed a default crypto provider for rustls, TLS connections use
//! it.
//!
//! # Platforms
//!
//! Unix only: Linux, macOS and others; the tests run on Linux. The crate does not compile on Windows.
//!
//! # Tracing and metrics
//!
//! The crate records the `tracing` spans `acquire` and `run`. Its events are acquired, refused, waiting, renewed, renewal
//! failed, lost, released and drained; their fields are the lock id, the fence and durations. With the feature `metrics`,
//! it records these metrics through the crate `metrics`:
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `db_mutex_acquire_total` | counter | `outcome`: `granted`, `held`, `failed` |
//! | `db_mutex_wait_seconds` | histogram: from the first attempt to the grant | |
//! | `db_mutex_hold_seconds` | histogram: from the grant until the guard is gone | |
//! | `db_mutex_held` | gauge: number of live guards | |
//! | `db_mutex_renew_total` | counter | `outcome`: `renewed`, `failed` |
//! | `db_mutex_lost_total` | counter | `reason`: `expired`, `store_unreachable`, `taken_over`, `missing`, `released_by_force`, `held_too_long` |
//!
//! Lock ids are not used as labels because there may be arbitrarily many. Owner tokens and passwords never appear.
//!
//! # Other databases
//!
//! To support another database, write a store: implement four operations with the kit [`store::cas`], or the trait
//! [`LockStore`](store::LockStore) itself. Verify it with the crate `db-mutex-conformance`, and give it a URL scheme with
//! [`Connector::register`]. [Writing a store](https://github.com/db-mutex/db-mutex/blob/main/docs/writing-a-store.md) is a
//! step-by-step tutorial.
//!
//! # More
//! - [Guarantees](https://github.com/db-mutex/db-mutex/blob/main/docs/guarantees.md), under which failures, and the tests
//! - [Choosing a TTL](https://github.com/db-mutex/db-mutex/blob/main/docs/ttl.md)
//! - [Operating](https://github.com/db-mutex/db-mutex/blob/main/docs/operating.md): rights, TLS, failover, backups, monitoring
//! - [Servers, engines and poolers](https://github.com/db-mutex/db-mutex/blob/main/docs/engines.md)
//! - [Troubleshooting](https://github.com/db-mutex/db-mutex/blob/main/docs/troubleshooting.md) by error message
//! - [The command](https://github.com/db-mutex/db-mutex/blob/main/docs/command.md)
//! - [Comparison](https://github.com/db-mutex/db-mutex/blob/main/docs/comparison.md) with advisory locks, Redis and others, and
//!   [migrating](https://github.com/db-mutex/db-mutex/blob/main/docs/migrating.md) from them
//!

#![cfg_attr(docsrs, feature(doc_cfg))]
// Without the features, the links lead to the list of features.
#![cfg_attr(feature = "sqlite-unbundled", doc = "[`verify_in`]: sqlite::SqliteStore::verify_in")]
#![cfg_attr(not(feature = "sqlite-unbundled"), doc = "[`verify_in`]: #features")]
#![cfg_attr(feature = "macros", doc = "[attribute]: macro@db_mutex")]
#![cfg_attr(not(feature = "macros"), doc = "[attribute]: #features")]
#![cfg_attr(feature = "tower", doc = "[layer]: tower::LockLayer")]
#![cfg_attr(not(feature = "tower"), doc = "[layer]: #features")]

#[cfg(feature = "macros")]
mod attribute;
#[cfg(feature = "blocking")]
pub mod blocking;
mod connect;
#[cfg(doctest)]
mod documentation;
#[cfg(feature = "macros")]
pub mod global;
mod registered;
#[cfg(feature = "tower")]
pub mod tower;

pub use connect::{Connector, connect};
pub use db_mutex_core::*;
#[cfg(feature = "macros")]
pub use db_mutex_macros::db_mutex;
pub use db_mutex_sql_support::ServerAddress;
pub use registered::ConnectRequest;

/// For the code that `#[db_mutex]` generates.
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod __private {
    pub use crate::attribute::*;
}

/// The MySQL and MariaDB backend.
#[cfg(feature = "mysql")]
pub use db_mutex_mysql as mysql;
/// The PostgreSQL backend.
#[cfg(feature = "postgres")]
pub use db_mutex_postgres as postgres;
/// The SQLite backend.
#[cfg(feature = "sqlite-unbundled")]
pub use db_mutex_sqlite as sqlite;
