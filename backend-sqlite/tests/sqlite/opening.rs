use std::fs;
use std::time::{Duration, SystemTime};

use db_mutex_core::store::LockStore;
use db_mutex_core::{StoreErrorKind, TableName};
use db_mutex_sqlite::SqliteStore;
use db_mutex_sqlite::rusqlite::Connection;

use crate::database::{Database, ask, id};

#[tokio::test]
async fn a_folder_is_refused() {
    let database = Database::new();
    fs::create_dir(database.file()).unwrap();
    let error = SqliteStore::open(database.file()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Config);
    assert!(error.to_string().contains("is a folder"), "{error}");
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let database = Database::new();
    let error = SqliteStore::open(database.file().join("x.db")).await.unwrap_err();
    assert!(error.to_string().contains("there is no folder"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let database = Database::new();
    let text = "not a database, but some other text\n".repeat(100);
    fs::write(database.file(), &text).unwrap();
    let error = SqliteStore::open(database.file()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("not an SQLite database"), "{error}");
    assert_eq!(fs::read_to_string(database.file()).unwrap(), text);
}

#[tokio::test]
async fn a_table_that_was_dropped_without_its_versions_is_made_again() {
    let database = Database::new();
    drop(database.store().await);
    database.connection().execute_batch("DROP TABLE db_mutex_locks").unwrap();
    ask(&database.store().await, "job", Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn a_foreign_table_is_refused_and_left_alone() {
    let database = Database::new();
    database.connection().execute_batch("CREATE TABLE db_mutex_locks (id INTEGER, name TEXT)").unwrap();
    let error = SqliteStore::open(database.file()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("id, name"), "{error}");

    let tables = "SELECT group_concat(name) FROM sqlite_master";
    let tables: String = database
        .connection()
        .prepare(tables)
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(tables, "db_mutex_locks");
}

#[tokio::test]
async fn a_newer_version_of_the_table_is_refused() {
    let database = Database::new();
    drop(database.store().await);
    database.connection().execute_batch("INSERT INTO db_mutex_locks_versions VALUES (99)").unwrap();
    let error = SqliteStore::open(database.file()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Schema);
    assert!(error.to_string().contains("update db-mutex"), "{error}");
}

#[tokio::test]
async fn a_missing_file_is_not_created_when_it_is_only_looked_at() {
    let database = Database::new();
    let error = SqliteStore::builder().create_if_missing(false).open(database.file()).await.unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    assert!(!database.file().exists());
}

#[tokio::test]
async fn the_printed_schema_is_the_one_that_is_migrated() {
    let (printed, migrated) = (Database::new(), Database::new());
    printed.connection().execute_batch(&SqliteStore::schema_sql(&TableName::default())).unwrap();
    drop((printed.store().await, migrated.store().await));
    let schema = |connection: Connection| -> Vec<String> {
        let mut read = connection.prepare("SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name").unwrap();
        read.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(schema(printed.connection()), schema(migrated.connection()));
}

#[tokio::test]
async fn two_tables_of_one_file_share_no_locks() {
    let database = Database::new();
    let one = database.store().await;
    let two = SqliteStore::builder().table(TableName::new("other").unwrap()).open(database.file()).await.unwrap();
    ask(&one, "job", Duration::from_secs(60)).await.unwrap();
    assert!(two.find(&id("job")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_may_open_a_new_file_at_once() {
    let database = Database::new();
    let opening: Vec<_> = (0..20).map(|_| tokio::spawn(SqliteStore::open(database.file()))).collect();
    for opened in opening {
        opened.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_clock_of_the_statements_is_the_machines() {
    let now_us = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let store = Database::new();
    let store = store.store().await;
    for _ in 0..100 {
        let before = now_us();
        ask(&store, "clock", Duration::from_millis(100)).await.unwrap();
        let read = store.find(&id("clock")).await.unwrap().unwrap().now;
        let read = u128::try_from(read.as_micros()).unwrap();
        // To the millisecond, rounded to the nearest.
        assert!(read + 1_000 >= before && read <= now_us() + 1_000, "{before} {read}");
    }
}
