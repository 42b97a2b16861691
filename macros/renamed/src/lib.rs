//! The attribute in a crate that has renamed db-mutex, and has items with all the names that generated code could mean.

#![allow(
    non_camel_case_types,
    dead_code,
    unused_macros,
    missing_debug_implementations,
    reason = "they only occupy the names"
)]

pub mod locks_of_ours {
    //! A path of our own.
    pub use locks::*;
}

mod db_mutex {}
mod core {}
mod std {}
mod alloc {}
struct Result;
struct Option;
struct Some;
struct None;
struct Ok;
struct Err;
struct Guard;
struct Lock;
struct Duration;
struct String;
trait Future {}
trait Send {}
type u64 = ();
type u32 = ();
type bool = ();
macro_rules! format {
    () => {};
}

/// Has every option, and a path to a renamed crate.
///
/// # Errors
/// Those of the lock.
#[locks::db_mutex(
    "job-{id}",
    crate = locks,
    store = mutex,
    ttl = "30s",
    wait = "5s",
    keep_alive,
    hold_at_least = "5s",
    hold_at_most = "1h",
    on_held = "error",
    on_lost = "drop"
)]
pub async fn by_name(mutex: &locks::DbMutex, id: u8) -> ::std::result::Result<u8, locks::Error> {
    ::std::result::Result::Ok(id)
}

/// Is skipped; with a path inside of this crate.
#[locks::db_mutex("job-{id}", crate = crate::locks_of_ours, store = mutex, on_held = "skip")]
pub async fn by_path(mutex: &locks::DbMutex, id: u8) -> ::std::option::Option<u8> {
    ::std::option::Option::Some(id)
}

/// Blocks.
///
/// # Errors
/// Those of the lock.
#[locks::db_mutex("job-{id}", crate = crate::locks_of_ours, store = mutex, blocking, guard)]
pub fn blocks(mutex: &locks::blocking::DbMutex, id: u8) -> ::std::result::Result<u8, locks::Error> {
    guard.ensure(::std::time::Duration::from_secs(1))?;
    ::std::result::Result::Ok(id)
}

/// Uses the global mutex.
///
/// # Errors
/// Those of the lock.
#[locks::db_mutex("job", crate = ::locks, wait = "forever", ttl = "none")]
pub async fn global() -> ::std::result::Result<(), locks::Error> {
    ::std::result::Result::Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_functions_run() {
        let mutex = locks::testing::mutex().0;
        assert_eq!(super::by_name(&mutex, 1).await.ok(), Some(1));
        assert_eq!(super::by_path(&mutex, 2).await, Some(2));
        assert!(super::global().await.is_err());
    }

    #[test]
    fn the_function_that_blocks_runs() {
        assert_eq!(super::blocks(&locks::testing::mutex().0.blocking(), 3).ok(), Some(3));
    }
}
