//! The end of a run: releases the lock, even if the database is unreachable for a while.

use std::time::Duration;

use db_mutex::{DbMutex, Guard};
use tokio::time::{Instant, timeout, timeout_at};

use crate::exit::Failure;
use crate::print;
use crate::signals::Signals;

/// How long a store may take to settle unfinished requests before the process exits anyway.
pub(crate) const SETTLE: Duration = Duration::from_secs(5);

/// How long a release may take before a signal ends it.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// How a release went.
pub(crate) enum Released {
    Yes,
    /// The lease had ended before.
    Lost,
    /// And why.
    NotYet(String),
}

/// Releases the lock; tries again until that is done, the lease is over, `limit` has passed or a signal comes.
pub(crate) async fn release(mutex: &DbMutex, guard: Guard, limit: Duration, signals: &mut Signals) -> Released {
    let (lock_id, until) = (guard.lock_id().clone(), guard.lease().expires_at);
    let give_up = Instant::now() + limit;
    let done = async {
        let failed = match timeout_at(give_up, guard.release()).await {
            Ok(Ok(())) => return Released::Yes,
            Ok(Err(error)) if error.is_lost() => return Released::Lost,
            Ok(Err(error)) => Failure::from(error).message,
            Err(_) => format!("the lock `{lock_id}` could not be released within {}", print::span(limit)),
        };
        let left = give_up.saturating_duration_since(Instant::now());
        if mutex.shutdown(left).await.is_empty() { Released::Yes } else { Released::NotYet(failed) }
    };
    tokio::pin!(done);
    // The signal of which the command died may only arrive here now.
    let released = match timeout(AT_ONCE, &mut done).await {
        Ok(released) => released,
        Err(_) => {
            signals.forget();
            tokio::select! {
                released = done => released,
                _ = signals.next_that_ends() => {
                    Released::NotYet(format!("the release of the lock `{lock_id}` was interrupted"))
                }
            }
        }
    };
    match released {
        Released::NotYet(why) if until.is_never() => {
            Released::NotYet(format!("{why}; it stays held until `db-mutex release {lock_id} --force`"))
        }
        Released::NotYet(why) => {
            Released::NotYet(format!("{why}; it stays held until {} at the latest", print::timestamp(until)))
        }
        released => released,
    }
}

/// Waits until abandoned acquisitions are released in the store, because the process must not end before.
pub(crate) async fn settle(mutex: &DbMutex) {
    for lock_id in mutex.shutdown(SETTLE).await {
        print::note(&format!("lock `{lock_id}` could not be released in time; it stays until its ttl"));
    }
}
