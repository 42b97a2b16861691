//! For tests: a mutex and a store in memory, and clocks that a test moves.

use crate::DbMutex;
pub use crate::store::{MemoryStore, RowLock};
pub use crate::values::{ClientTime, Clock, ManualClock, SystemClock};

/// Returns a mutex in memory, and the clock of its leases, which stands still until the test moves it.
///
/// Its background work runs in the runtime that uses it, and follows tokio's time. So a test that pauses tokio's time does
/// not have to wait.
///
/// Its blocking form works on a thread without a runtime if no runtime has used the mutex before. Otherwise it works in
/// `spawn_blocking` of that runtime. Elsewhere it returns an error, because nothing may drive that runtime meanwhile.
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), db_mutex_core::Error> {
/// let (mutex, clock) = db_mutex_core::testing::mutex();
/// let guard = mutex.lock("report").ttl(Duration::from_secs(60)).acquire().await?;
/// // The holder crashes.
/// let _ = guard.into_owner_token();
/// assert!(mutex.lock("report").wait(Duration::from_secs(10)).acquire().await.unwrap_err().is_held());
/// clock.advance(Duration::from_secs(61));
/// mutex.lock("report").acquire().await?.release().await
/// # }
/// ```
///
/// # Panics
/// If `DB_MUTEX_TTL_SECONDS` is set and is not a valid TTL.
pub fn mutex() -> (DbMutex, ManualClock) {
    let clock = ManualClock::new();
    let built = DbMutex::builder(MemoryStore::with_clock(clock.clone())).clock(clock.clone()).build();
    match built {
        Ok(mutex) => (mutex, clock),
        Err(error) => panic!("{error}"),
    }
}
