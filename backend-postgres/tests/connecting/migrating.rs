//! The table comes into being: once, the same way however it is made, and where it was asked for.

use std::time::Instant;

use db_mutex_core::store::{Inserted, LockStore};
use db_mutex_core::{StoreError, StoreErrorKind as Kind, TableName};
use db_mutex_postgres::deadpool_postgres::{Manager, Pool};
use db_mutex_postgres::tokio_postgres::{Client, NoTls};
use db_mutex_postgres::{PostgresStore, PostgresStoreBuilder};
use tokio::task::JoinSet;

use crate::{fresh, fresh_table, request, server, texts};

const AT_ONCE: usize = 20;

fn builder(table: &TableName) -> PostgresStoreBuilder {
    PostgresStore::builder().table(table.clone()).pool_size(1)
}

async fn assert_one_table(table: &TableName) {
    let administrator = server::administrator().await;
    let tables = format!("SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname ~ '^{table}' ORDER BY 1");
    assert_eq!(texts(&administrator, &tables).await, [table.to_string(), format!("{table}_versions")]);
    let versions = format!("SELECT version::text FROM {table}_versions");
    assert_eq!(texts(&administrator, &versions).await, ["1"]);
}

/// All of them, or the first error.
async fn all(mut tasks: JoinSet<Result<(), StoreError>>) {
    let begun = Instant::now();
    let mut done = 0;
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap().unwrap();
        done += 1;
    }
    assert_eq!(done, AT_ONCE);
    println!("{done} at once: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_first_connections_at_once_make_one_table() {
    let table = fresh_table("first");
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let table = table.clone();
        tasks.spawn(async move { builder(&table).connect(&server::url("postgres")).await.map(drop) });
    }
    all(tasks).await;
    assert_one_table(&table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_first_connections_through_pgbouncer_make_one_table() {
    let table = fresh_table("pooled");
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let builder = builder(&table);
        tasks.spawn(async move { builder.connect(&server::url("pgbouncer")).await.map(drop) });
    }
    all(tasks).await;
    assert_one_table(&table).await;
}

/// A snapshot that is taken before the wait for the others would not show what they made.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_first_pools_of_an_application_that_is_repeatable_read_make_one_table() {
    let (table, role) = (fresh_table("snapshot"), fresh("snapshot_role"));
    server::role(&role, &[("default_transaction_isolation", "repeatable read")]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (table, url) = (table.clone(), server::as_user(&server::url("postgres"), &role));
        tasks.spawn(async move {
            let pool = Pool::builder(Manager::new(url.parse().unwrap(), NoTls)).max_size(1).build().unwrap();
            builder(&table).from_pool(pool).await.map(drop)
        });
    }
    all(tasks).await;
    assert_one_table(&table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_migrations_at_once_change_nothing_that_is_there() {
    let table = fresh_table("again");
    let store = builder(&table).pool_size(AT_ONCE).connect(&server::url("postgres")).await.unwrap();
    let held = request("held");
    store.insert_if_absent(&held).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let store = store.clone();
        tasks.spawn(async move { store.migrate().await });
    }
    all(tasks).await;
    assert_one_table(&table).await;
    assert!(store.find(&held.lock_id).await.unwrap().unwrap().owned);
}

/// All that the catalogue knows of a table and its versions, without the name of the schema.
async fn described(client: &Client, schema: &str, table: &TableName) -> Vec<String> {
    let mut found = Vec::new();
    for name in [format!("{schema}.{table}"), format!("{schema}.{table}_versions")] {
        let sql = format!(
            "SELECT concat_ws(' ', 'table', relpersistence, relkind, reloptions, relrowsecurity, relhastriggers)
             FROM pg_class WHERE oid = '{name}'::regclass
             UNION ALL (
                 SELECT concat_ws(' ', 'column', attnum, attname, format_type(atttypid, atttypmod), attnotnull,
                                  attcollation::regcollation, attidentity, attgenerated, atthasdef)
                 FROM pg_attribute WHERE attrelid = '{name}'::regclass AND attnum > 0 ORDER BY attnum)
             UNION ALL (
                 SELECT concat_ws(' ', 'constraint', conname, pg_get_constraintdef(oid))
                 FROM pg_constraint WHERE conrelid = '{name}'::regclass ORDER BY conname)
             UNION ALL (
                 SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid))
                 FROM pg_index WHERE indrelid = '{name}'::regclass ORDER BY indexrelid)"
        );
        found.extend(texts(client, &sql).await.iter().map(|line| line.replace(schema, "schema")));
    }
    found.extend(texts(client, &format!("SELECT 'version ' || version FROM {schema}.{table}_versions")).await);
    found
}

#[tokio::test]
async fn the_printed_schema_is_what_migrating_makes() {
    let (printed, migrated, table) = (fresh("printed"), fresh("migrated"), TableName::new("some_locks").unwrap());
    let administrator = server::administrator().await;
    let in_schema = |schema: &str| builder(&table).schema(TableName::new(schema).unwrap());
    let schema_sql = in_schema(&printed).schema_sql();
    let sql = format!("CREATE SCHEMA {printed}; CREATE SCHEMA {migrated}; {schema_sql}");
    administrator.batch_execute(&sql).await.unwrap();
    in_schema(&migrated).connect(&server::url("postgres")).await.unwrap();

    let by_hand = described(&administrator, &printed, &table).await;
    assert_eq!(by_hand, described(&administrator, &migrated, &table).await);
    assert!(by_hand.iter().any(|line| line.contains("{fillfactor=50}")), "{by_hand:#?}");
    assert!(by_hand.iter().any(|line| line.contains("version 1")), "{by_hand:#?}");
    in_schema(&printed).migrate(false).connect(&server::url("postgres")).await.expect("it is recognised");
}

#[tokio::test]
async fn without_a_schema_the_printed_table_is_in_the_first_of_the_search_path() {
    let (schema, table) = (fresh("first"), TableName::new("some_locks").unwrap());
    let administrator = server::administrator().await;
    let sql = format!("CREATE SCHEMA {schema}; SET search_path = {schema}; {}", PostgresStore::schema_sql(&table));
    administrator.batch_execute(&sql).await.unwrap();
    let store = builder(&table).schema(TableName::new(&schema).unwrap()).migrate(false);
    store.connect(&server::url("postgres")).await.expect("it is recognised");
}

#[tokio::test]
async fn without_migrating_a_missing_table_is_an_error() {
    let table = fresh_table("missing");
    let error = builder(&table).migrate(false).connect(&server::url("postgres")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Schema);
    assert!(error.to_string().contains("db-mutex migrate"), "{error}");
    let tables = format!("SELECT relname::text FROM pg_class WHERE relname ~ '^{table}'");
    assert!(texts(&server::administrator().await, &tables).await.is_empty());
}

#[tokio::test]
async fn a_table_that_was_dropped_without_its_versions_is_made_again() {
    let table = fresh_table("dropped");
    builder(&table).connect(&server::url("postgres")).await.unwrap();
    server::administrator().await.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
    builder(&table).connect(&server::url("postgres")).await.unwrap();
    assert_one_table(&table).await;
}

#[tokio::test]
async fn a_table_is_in_its_schema_and_shares_no_locks_with_its_namesake() {
    let (schema, table) = (fresh("elsewhere"), fresh_table("namesake"));
    let administrator = server::administrator().await;
    administrator.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    let url = server::url("postgres");
    let here = builder(&table).connect(&url).await.unwrap();
    let there = builder(&table).schema(TableName::new(&schema).unwrap()).connect(&url).await.unwrap();
    let third = builder(&fresh_table("third")).connect(&url).await.unwrap();
    for store in [&here, &there, &third] {
        assert!(matches!(store.insert_if_absent(&request("one")).await.unwrap(), Inserted::Granted(_)));
    }
    assert!(matches!(there.insert_if_absent(&request("one")).await.unwrap(), Inserted::Held(_)));
    let places = format!(
        "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE relname = '{table}' ORDER BY 1"
    );
    assert_eq!(texts(&administrator, &places).await, [schema, "public".to_owned()]);
}

#[tokio::test]
async fn a_schema_that_is_not_there_is_named_as_the_fault() {
    let schema = TableName::new(fresh("nowhere")).unwrap();
    let error = PostgresStore::builder().schema(schema).connect(&server::url("postgres")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error:?}");
    assert!(error.to_string().contains("schema"), "{error}");
}
