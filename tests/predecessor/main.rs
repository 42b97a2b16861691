//! The tests that django-db-mutex has for its context manager and its decorator, by their names, on an SQLite file. A guard is
//! the twin of the context manager; a closure is that of the decorator, as is the attribute, whose tests are in its crate.

#![cfg(feature = "sqlite-unbundled")]

mod closure;
mod guard;

use std::time::Duration;

use db_mutex::admin::LockState;
use db_mutex::sqlite::rusqlite::Connection;
use db_mutex::{DbMutex, Ttl};
use tempfile::TempDir;

/// A lock file, and the mutex of one process that uses it.
struct Database {
    folder: TempDir,
    mutex: DbMutex,
}

impl Database {
    async fn new() -> Self {
        let folder = TempDir::with_prefix("db-mutex-predecessor-").expect("a folder");
        let mutex = connect(&folder).await;
        Self { folder, mutex }
    }

    /// The mutex as another process has it.
    async fn another(&self) -> DbMutex {
        connect(&self.folder).await
    }

    /// Another process acquires the lock, and crashes.
    async fn crash_with_a_lock(&self, ttl: Option<Ttl>) {
        let mutex = self.another().await;
        let lock = match ttl {
            Some(ttl) => mutex.lock("lock_id").ttl(ttl),
            None => mutex.lock("lock_id"),
        };
        std::mem::forget(lock.acquire().await.expect("the lock is free"));
    }

    /// Moves the times of all rows back, which is how they look after that time.
    fn pass(&self, time: Duration) {
        let connection = Connection::open(self.folder.path().join("locks.db")).expect("the mutex has made the file");
        connection.busy_timeout(secs(30)).expect("a timeout");
        let shift = "UPDATE db_mutex_locks SET acquired_at = acquired_at - ?1,
            expires_at = CASE WHEN expires_at = 9223372036854775807 THEN expires_at ELSE expires_at - ?1 END";
        let micros = i64::try_from(time.as_micros()).expect("some years");
        connection.execute(shift, [micros]).expect("the rows can be changed");
    }

    async fn is_held(&self, lock_id: &str) -> bool {
        let row = self.mutex.find(lock_id).await.expect("the file can be read");
        row.is_some_and(|row| row.state() == LockState::Held)
    }
}

async fn connect(folder: &TempDir) -> DbMutex {
    db_mutex::connect(&format!("sqlite:{}/locks.db", folder.path().display())).await.expect("a new file")
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn three_minutes() -> Ttl {
    Ttl::new(secs(180)).expect("a valid TTL")
}
