use std::path::Path;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use rusqlite::{Connection, TransactionBehavior};

use crate::error::{place_error, store_error};
use crate::row::one_row;

/// Numbered, append-only: a released file is never changed.
const MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("../migrations/0001_locks.sql"))];
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// What the latest version of the table looks like: name, type, NOT NULL, part of the key.
const COLUMNS: &[(&str, &str, bool, bool)] = &[
    ("lock_id", "TEXT", true, true),
    ("owner", "BLOB", false, false),
    ("released_by", "BLOB", false, false),
    ("fence", "INTEGER", true, false),
    ("holder", "TEXT", true, false),
    ("acquired_at", "INTEGER", true, false),
    ("released_at", "INTEGER", false, false),
    ("expires_at", "INTEGER", true, false),
    ("ttl", "INTEGER", true, false),
];

/// The schema as SQL text, for people whose administrator creates tables.
pub(crate) fn schema_sql(table: &str) -> String {
    let mut sql = versions_sql(table);
    for (version, migration) in MIGRATIONS {
        sql += &format!("{}{};\n", migration.replace("{table}", table), record_sql(table, *version));
    }
    sql
}

fn versions_sql(table: &str) -> String {
    format!("CREATE TABLE IF NOT EXISTS \"{table}_versions\" (version INTEGER NOT NULL PRIMARY KEY) STRICT;\n")
}

/// It may be there: from a table that was dropped alone.
fn record_sql(table: &str, version: i64) -> String {
    format!("INSERT INTO \"{table}_versions\" (version) VALUES ({version}) ON CONFLICT DO NOTHING")
}

/// Creates or updates the table, or finds it as it should be and writes nothing.
///
/// Any number of processes may do so at once: the one with the write lock migrates, the others find it done.
pub(crate) fn migrate(connection: &mut Connection, place: &Path, table: &str) -> Result<(), StoreError> {
    let failed = |error| store_error(place, error);
    if version(connection, table).map_err(failed)? == Some(LATEST) {
        return check_columns(connection, place, table);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let mut found = version(&transaction, table).map_err(failed)?;
    if found.is_none() && exists(&transaction, table).map_err(failed)? {
        // The table was made by hand. If it is ours, its version is the one that its columns show.
        check_columns(&transaction, place, table)?;
        transaction.execute_batch(&versions_sql(table)).map_err(failed)?;
        transaction.execute(&record_sql(table, LATEST), ()).map_err(failed)?;
        found = Some(LATEST);
    }
    if let Some(newer) = found.filter(|version| *version > LATEST) {
        return Err(newer_version(place, table, newer));
    }
    transaction.execute_batch(&versions_sql(table)).map_err(failed)?;
    for (version, migration) in MIGRATIONS.iter().filter(|(version, _)| *version > found.unwrap_or(0)) {
        transaction.execute_batch(&migration.replace("{table}", table)).map_err(failed)?;
        transaction.execute(&record_sql(table, *version), ()).map_err(failed)?;
    }
    check_columns(&transaction, place, table)?;
    transaction.commit().map_err(failed)
}

/// Checks that the table is there and as it should be; writes nothing.
pub(crate) fn check(connection: &Connection, place: &Path, table: &str) -> Result<(), StoreError> {
    match version(connection, table).map_err(|error| store_error(place, error))? {
        Some(LATEST) => check_columns(connection, place, table),
        Some(newer) if newer > LATEST => Err(newer_version(place, table, newer)),
        _ => {
            let what = format!("has no table {table:?}, or an old one; run `db-mutex migrate`, or check the path");
            Err(place_error(place, Kind::Schema, what))
        }
    }
}

fn newer_version(place: &Path, table: &str, newer: i64) -> StoreError {
    let what = format!("has table {table:?} of version {newer}, newer than the {LATEST} known here; update db-mutex");
    place_error(place, Kind::Schema, what)
}

/// The version of the table; `None` where there is no record of it.
fn version(connection: &Connection, table: &str) -> rusqlite::Result<Option<i64>> {
    if !exists(connection, &format!("{table}_versions"))? || !exists(connection, table)? {
        return Ok(None);
    }
    let latest = format!("SELECT max(version) FROM \"{table}_versions\"");
    Ok(one_row(&mut connection.prepare(&latest)?, (), |row| row.get(0))?.flatten())
}

fn exists(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let mut find = connection.prepare("SELECT 1 FROM sqlite_master WHERE name = ?1 COLLATE NOCASE")?;
    find.exists([table])
}

fn check_columns(connection: &Connection, place: &Path, table: &str) -> Result<(), StoreError> {
    let read = || -> rusqlite::Result<Vec<(String, String, bool, bool)>> {
        let mut info = connection.prepare("SELECT name, type, \"notnull\", pk > 0 FROM pragma_table_info(?1)")?;
        info.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?.collect()
    };
    let found = read().map_err(|error| store_error(place, error))?;
    let ours = found.iter().map(|(name, kind, not_null, key)| (name.as_str(), kind.as_str(), *not_null, *key));
    if ours.eq(COLUMNS.iter().copied()) {
        return Ok(());
    }
    let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
    let what = format!(
        "has a table {table:?} that is not db-mutex's (its columns are {}); choose another table name",
        names.join(", ")
    );
    Err(place_error(place, Kind::Schema, what))
}
