//! Free functions.

use std::fmt::{Debug, Display};

use db_mutex::{db_mutex, DbMutex, Error};

/// Uses the global mutex.
///
/// # Errors
/// Those of the lock.
#[db_mutex("nightly")]
pub async fn global() -> Result<(), Error> {
    Ok(())
}

/// Has every option.
///
/// # Errors
/// Those of the lock.
#[db_mutex(
    "report-{id}-{name:>8}",
    store = mutex,
    ttl = "30s",
    wait = "5s",
    keep_alive,
    hold_at_least = "5s",
    hold_at_most = "1h",
    on_held = "error",
    on_lost = "drop",
    guard
)]
pub async fn all_options(mutex: &DbMutex, id: u32, name: &str) -> Result<String, Error> {
    guard.ensure(std::time::Duration::from_secs(1)).await?;
    if id == 0 {
        return Ok(String::new());
    }
    Ok(format!("{name} {}", guard.fence()))
}

/// Blocks, with every option that it can have.
///
/// # Errors
/// Those of the lock.
#[db_mutex(
    "report-{id}-{name:>8}",
    store = mutex,
    ttl = "30s",
    wait = "5s",
    keep_alive,
    hold_at_least = "5s",
    hold_at_most = "1h",
    on_held = "error",
    on_lost = "finish",
    guard,
    blocking
)]
pub fn blocks(mutex: &DbMutex, id: u32, name: &str) -> Result<String, Error> {
    guard.ensure(std::time::Duration::from_secs(1))?;
    if id == 0 {
        return Ok(String::new());
    }
    Ok(format!("{name} {}", guard.fence()))
}

/// Blocks, and may be skipped.
#[db_mutex("report", on_held = "skip", blocking)]
pub fn blocks_or_skips<T: Display>(value: T) -> Option<String> {
    Some(value.to_string())
}

/// Has the other words.
#[db_mutex("words", store = &mutex, ttl = "none", wait = "10s", keep_alive = false, on_held = "skip", on_lost = "finish", guard = _lease)]
pub async fn other_words(mutex: DbMutex) {
    drop(mutex);
}

/// Ends early.
#[db_mutex("early", store = mutex, on_held = "skip")]
pub async fn early(mutex: &DbMutex, stop: bool) {
    if stop {
        return;
    }
    drop(mutex.clone());
}

/// Returns a value, or none.
#[db_mutex("option", store = mutex, on_held = "skip")]
pub async fn option(mutex: &DbMutex) -> Option<DbMutex> {
    Some(mutex.clone())
}

/// Never ends.
///
/// # Errors
/// Those of the lock.
#[db_mutex("endless", store = mutex, wait = "forever")]
pub async fn endless(mutex: &DbMutex) -> Result<(), Error> {
    std::future::pending().await
}

/// Loops.
///
/// # Errors
/// Those of the lock.
#[db_mutex("loops", store = mutex)]
pub async fn loops(mutex: &DbMutex) -> Result<u8, Error> {
    loop {
        global().await?;
    }
}

/// Is generic.
///
/// # Errors
/// Those of the lock.
#[db_mutex("generic-{value}", store = mutex)]
pub async fn generic<'a, T, const N: usize>(
    mutex: &DbMutex,
    value: &'a T,
    list: [u8; N],
) -> Result<(&'a T, usize), Error>
where
    T: Display + Sync + ?Sized,
{
    Ok((value, list.len()))
}

/// Takes and returns what has no name.
///
/// # Errors
/// Those of the lock.
#[db_mutex("opaque", store = mutex)]
pub async fn opaque(mutex: &DbMutex, values: impl Iterator<Item = u32> + Send) -> Result<impl Debug + Send, Error> {
    Ok(values.collect::<Vec<_>>())
}

/// Returns what is coerced.
///
/// # Errors
/// Those of the lock.
#[db_mutex("coerced", store = mutex)]
pub async fn coerced(mutex: &DbMutex) -> Result<Box<dyn Debug + Send>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Box::new(1))
}

/// Takes patterns.
///
/// # Errors
/// Those of the lock.
#[db_mutex("patterns-{first}", store = mutex)]
pub async fn patterns(mutex: &DbMutex, (first, mut second): (u8, u8), _: u8, _unused: &str) -> Result<u8, Error> {
    second += first;
    Ok(second)
}

/// Is private, and not used by others.
#[db_mutex("private", store = mutex, on_held = "skip")]
async fn private(mutex: &DbMutex) -> Option<u8> {
    #![allow(clippy::no_effect_underscore_binding)]
    let _nothing = mutex;
    Some(1)
}

/// Uses it.
///
/// # Errors
/// Those of the lock.
#[db_mutex("outer", store = mutex)]
#[db_mutex("inner", store = mutex)]
#[must_use = "it may have failed"]
#[inline]
pub async fn two(mutex: &DbMutex) -> Result<Option<u8>, Error> {
    Ok(private(mutex).await)
}

/// Is instrumented outside of the lock.
///
/// # Errors
/// Those of the lock.
#[tracing::instrument(skip(mutex), err)]
#[db_mutex("above", store = mutex)]
pub async fn instrument_above(mutex: &DbMutex) -> Result<u8, Error> {
    Ok(1)
}

/// Is instrumented inside of the lock.
///
/// # Errors
/// Those of the lock.
#[db_mutex("below", store = mutex)]
#[tracing::instrument(skip(mutex), err)]
pub async fn instrument_below(mutex: &DbMutex) -> Result<u8, Error> {
    Ok(2)
}

async fn open(mutex: &DbMutex) -> Result<std::sync::Arc<DbMutex>, Error> {
    mutex.lock("open").acquire().await?.release().await?;
    Ok(mutex.clone().into())
}

/// Awaits its mutex.
///
/// # Errors
/// Those of the lock.
#[db_mutex("awaited", store = open(mutex).await?)]
pub async fn awaited(mutex: &DbMutex) -> Result<u8, Error> {
    Ok(2)
}

/// Ends with what it has found.
///
/// # Errors
/// Those of the lock.
#[db_mutex("macro", store = mutex)]
pub async fn question_marks(mutex: &DbMutex) -> Result<Option<u8>, Error> {
    let row = mutex.find("macro").await?;
    Ok(row.map(|_| 1))
}
