//! What locks cannot be kept in is refused at the start, each with its own words, and left as it was.

use db_mutex_core::{StoreError, StoreErrorKind as Kind, TableName};
use db_mutex_postgres::PostgresStore;
use db_mutex_postgres::deadpool_postgres::{Manager, Pool};
use db_mutex_postgres::tokio_postgres::NoTls;

use crate::{fresh, fresh_table, server, texts};

async fn connect(table: &TableName) -> Result<PostgresStore, StoreError> {
    PostgresStore::builder().table(table.clone()).connect(&server::url("postgres")).await
}

#[track_caller]
fn assert_says(outcome: Result<PostgresStore, StoreError>, kind: Kind, words: &[&str]) {
    let error = outcome.expect_err("it cannot keep locks");
    assert_eq!(error.kind(), kind, "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "{word} is missing: {error}");
    }
}

/// What there is under names that begin so.
async fn relations(table: &TableName) -> Vec<String> {
    let sql = format!(
        "SELECT concat_ws(' ', relname, relkind, relpersistence) FROM pg_class
         WHERE relname ~ '^{table}' AND relkind IN ('r', 'v', 'p') ORDER BY 1"
    );
    texts(&server::administrator().await, &sql).await
}

#[tokio::test]
async fn an_unlogged_table_is_refused() {
    let table = fresh_table("unlogged");
    connect(&table).await.unwrap();
    server::administrator().await.batch_execute(&format!("ALTER TABLE {table} SET UNLOGGED")).await.unwrap();
    assert_says(connect(&table).await, Kind::Schema, &["UNLOGGED", "SET LOGGED"]);
    server::administrator().await.batch_execute(&format!("ALTER TABLE {table} SET LOGGED")).await.unwrap();
    connect(&table).await.unwrap();
}

#[tokio::test]
async fn an_unlogged_table_made_by_hand_is_refused_and_left_alone() {
    let table = fresh_table("unlogged_by_hand");
    let sql = PostgresStore::schema_sql(&table)
        .replace(&format!("CREATE TABLE \"{table}\""), &format!("CREATE UNLOGGED TABLE \"{table}\""));
    server::administrator().await.batch_execute(&format!("{sql} DROP TABLE {table}_versions")).await.unwrap();
    assert_says(connect(&table).await, Kind::Schema, &["UNLOGGED"]);
    assert_eq!(relations(&table).await, [format!("{table} r u")]);
}

#[tokio::test]
async fn a_temporary_table_in_front_of_ours_is_refused() {
    let table = fresh_table("temporary");
    connect(&table).await.unwrap();
    let config = server::url("postgres").parse().unwrap();
    let pool = Pool::builder(Manager::new(config, NoTls)).max_size(1).build().unwrap();
    let sql = format!("CREATE TEMPORARY TABLE {table} (LIKE {table} INCLUDING ALL)");
    pool.get().await.unwrap().batch_execute(&sql).await.unwrap();
    let store = PostgresStore::builder().table(table).from_pool(pool).await;
    assert_says(store, Kind::Schema, &["temporary"]);
}

#[tokio::test]
async fn a_view_is_refused_and_left_alone() {
    let (table, under) = (fresh_table("view"), fresh_table("under"));
    connect(&under).await.unwrap();
    let sql = format!("CREATE VIEW {table} AS SELECT * FROM {under}");
    server::administrator().await.batch_execute(&sql).await.unwrap();
    assert_says(connect(&table).await, Kind::Schema, &["not an ordinary table"]);
    assert_eq!(relations(&table).await, [format!("{table} v p")]);
}

#[tokio::test]
async fn a_partitioned_table_is_refused() {
    let table = fresh_table("partitioned");
    let sql = format!(
        "CREATE TABLE {table} (lock_id text COLLATE \"C\" NOT NULL PRIMARY KEY, owner bytea, fence bigint NOT NULL,
             holder text NOT NULL, acquired_at bigint NOT NULL, released_at bigint, expires_at bigint NOT NULL)
         PARTITION BY HASH (lock_id)"
    );
    server::administrator().await.batch_execute(&sql).await.unwrap();
    assert_says(connect(&table).await, Kind::Schema, &["not an ordinary table"]);
}

#[tokio::test]
async fn a_foreign_table_is_refused_and_left_alone() {
    let table = fresh_table("customers");
    let sql = format!("CREATE TABLE {table} (id int PRIMARY KEY, name text); INSERT INTO {table} VALUES (1, 'Ada')");
    server::administrator().await.batch_execute(&sql).await.unwrap();
    assert_says(connect(&table).await, Kind::Schema, &["id, name", "another table name"]);
    assert_eq!(relations(&table).await, [format!("{table} r p")]);
    assert_eq!(texts(&server::administrator().await, &format!("SELECT name FROM {table}")).await, ["Ada"]);
}

#[tokio::test]
async fn a_table_that_was_changed_is_refused() {
    for change in ["DROP COLUMN holder", "ADD COLUMN more int", "ALTER fence TYPE int", "ALTER holder DROP NOT NULL"] {
        let table = fresh_table("changed");
        connect(&table).await.unwrap();
        server::administrator().await.batch_execute(&format!("ALTER TABLE {table} {change}")).await.unwrap();
        assert_says(connect(&table).await, Kind::Schema, &[table.as_str()]);
    }
}

/// Without the key two owners could each have a row; with another collation two ids could be one.
#[tokio::test]
async fn a_table_whose_key_was_changed_is_refused() {
    for change in ["DROP CONSTRAINT {table}_pkey", "ALTER lock_id TYPE text COLLATE \"en-x-icu\""] {
        let table = fresh_table("key");
        connect(&table).await.unwrap();
        let sql = format!("ALTER TABLE {table} {}", change.replace("{table}", table.as_str()));
        server::administrator().await.batch_execute(&sql).await.unwrap();
        assert_says(connect(&table).await, Kind::Schema, &["lock_id"]);
    }
}

#[tokio::test]
async fn a_newer_version_is_refused() {
    let table = fresh_table("newer");
    let store = connect(&table).await.unwrap();
    let sql = format!("INSERT INTO {table}_versions VALUES (1000)");
    server::administrator().await.batch_execute(&sql).await.unwrap();
    assert_says(connect(&table).await, Kind::Schema, &["version 1000", "update db-mutex"]);
    let _ = store.migrate().await;
    let versions = format!("SELECT version::text FROM {table}_versions ORDER BY version");
    assert_eq!(texts(&server::administrator().await, &versions).await, ["1", "1000"]);
}

#[tokio::test]
async fn a_role_whose_sessions_are_read_only_is_refused() {
    let role = fresh("read_only");
    server::role(&role, &[("default_transaction_read_only", "on")]).await;
    let url = server::as_user(&server::url("postgres"), &role);
    let store = PostgresStore::builder().table(fresh_table("read_only")).connect(&url).await;
    assert_says(store, Kind::ReadOnly, &["default_transaction_read_only"]);
}

#[tokio::test]
async fn a_database_that_cannot_keep_every_id_is_refused() {
    let database = fresh("latin1");
    let administrator = server::administrator().await;
    let sql = format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    administrator.batch_execute(&sql).await.unwrap();
    let url = server::url("postgres").replace("/dbmutex?", &format!("/{database}?"));
    let outcome = PostgresStore::connect(&url).await;
    administrator.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).await.unwrap();
    assert_says(outcome, Kind::Config, &["encoding", "UTF8"]);
}

/// Drivers panic there.
#[test]
fn connecting_outside_of_a_runtime_is_an_error() {
    let mut connecting = Box::pin(PostgresStore::connect("postgres://someone@127.0.0.1:1/nowhere"));
    let polled = connecting.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    match polled {
        std::task::Poll::Ready(Err(error)) => assert!(error.to_string().contains("runtime"), "{error}"),
        other => panic!("{other:?}"),
    }
}
