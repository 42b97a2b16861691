//! The conformance suite on the table that Django's migration makes, with no process of Django beside it.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use db_mutex_core::LockId;
use rusqlite::Connection;
use shared_with_django::DjangoStore;
use tempfile::TempDir;

/// As `manage.py sqlmigrate db_mutex 0001` prints it; that a real Django makes the same is for `with_django`.
const MIGRATION: &str = r#"CREATE TABLE IF NOT EXISTS "db_mutex_dbmutex" (
    "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    "lock_id" varchar(256) NOT NULL UNIQUE,
    "creation_time" datetime NOT NULL)"#;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::with_prefix("shared-with-django-").expect("a folder"));

fn file(namespace: &str) -> PathBuf {
    FOLDER.path().join(format!("{namespace}.sqlite3"))
}

async fn open(namespace: String, django_ttl: Option<Duration>) -> DjangoStore {
    let file = file(&namespace);
    let connection = connect(&file);
    connection.execute_batch(MIGRATION).expect("a new table");
    DjangoStore::open(file, django_ttl).await.expect("a database of Django")
}

fn connect(file: &PathBuf) -> Connection {
    let connection = Connection::open(file).expect("an SQLite file");
    connection.busy_timeout(Duration::from_secs(30)).expect("a timeout");
    connection
}

/// Moves the times of an id in both tables, as if the clock had been ahead when they were written.
fn shift(namespace: &str, lock_id: &LockId, by: Duration) {
    let connection = connect(&file(namespace));
    let micros = i64::try_from(by.as_micros()).expect("some years");
    let ours =
        "UPDATE db_mutex_rust SET acquired_at = acquired_at + ?2, expires_at = expires_at + ?2 WHERE lock_id = ?1";
    connection.execute(ours, (lock_id.as_str(), micros)).expect("the row can be changed");
    let django = "UPDATE db_mutex_dbmutex
        SET creation_time = strftime('%Y-%m-%d %H:%M:%S', creation_time, ?2) || substr(creation_time, 20) WHERE lock_id = ?1";
    connection
        .execute(django, (lock_id.as_str(), format!("+{} seconds", by.as_secs())))
        .expect("the row can be changed");
}

mod with_a_ttl_in_django {
    use super::*;

    db_mutex_conformance::suite!(
        |namespace| async move { open(namespace, Some(Duration::from_secs(30 * 60))).await },
        shift_row = |namespace, lock_id, by| async move { shift(&namespace, &lock_id, by) },
        ignore = {
            a_locked_row_is_busy_at_once: "SQLite locks the database for a moment, not rows for as long as a transaction",
            a_locked_row_leaves_its_batch_alone: "SQLite locks the database for a moment, not rows for as long as a transaction",
            a_locked_row_from_the_future_is_refused: "SQLite locks the database for a moment, not rows for as long as a transaction",
        }
    );
}
