use db_mutex_core::{StoreError, StoreErrorKind as Kind, TableName};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Row, Value};

use crate::cluster::Cluster;
use crate::error::store_error;
use crate::galera;
use crate::row::{first, number, text};
use crate::send::{Answer, query};
use crate::sql::Sql;

/// Numbered, append-only: a released file is never changed.
const MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("../migrations/0001_locks.sql"))];
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// What the latest version of the table looks like: name, type, bytes, nullable.
const COLUMNS: &[(&str, &str, Option<i64>, bool)] = &[
    ("lock_id", "varbinary", Some(1024), false),
    ("owner", "binary", Some(16), true),
    ("released_by", "binary", Some(16), true),
    ("fence", "bigint", None, false),
    ("holder", "varchar", Some(1024), false),
    ("acquired_at", "bigint", None, false),
    ("released_at", "bigint", None, true),
    ("expires_at", "bigint", None, false),
    ("ttl", "bigint", None, false),
];
/// Its keys, column by column.
const KEYS: &[(&str, &str)] = &[("PRIMARY", "lock_id"), ("by_owner", "lock_id"), ("by_owner", "owner")];

/// The schema as SQL text, for people whose administrator creates tables.
pub(crate) fn schema_sql(table: &TableName) -> String {
    let mut sql = versions_sql(table) + ";\n";
    for (version, migration) in MIGRATIONS {
        sql += &format!("{};\n{};\n", migration_sql(table, migration), record_sql(table, *version));
    }
    sql + "-- Only where the server is a node of a Galera cluster:\n" + &galera::table_sql(table) + ";\n"
}

fn versions_sql(table: &TableName) -> String {
    format!("CREATE TABLE IF NOT EXISTS `{table}_versions` (version BIGINT NOT NULL PRIMARY KEY) ENGINE=InnoDB")
}

fn migration_sql(table: &TableName, migration: &str) -> String {
    migration.trim_end().replace("{table}", table.as_str())
}

fn record_sql(table: &TableName, version: i64) -> String {
    format!("INSERT INTO `{table}_versions` (version) VALUES ({version}) ON DUPLICATE KEY UPDATE version = {version}")
}

/// Creates or updates the table, unless it is as it should be: then nothing is written, and no right to write is needed.
///
/// DDL commits by itself, so there is no transaction to do it in: any number of processes may come at once, and take turns
/// by a lock of the server. Galera has none; each step may be done twice.
pub(crate) async fn migrate(connection: &mut Conn, table: &TableName, cluster: Cluster) -> Result<(), StoreError> {
    if is_migrated(connection, table, cluster).await? {
        return Ok(());
    }
    if cluster.is_galera() {
        // It has no locks of that kind.
        return migrate_alone(connection, table, cluster).await;
    }
    let name = format!("db_mutex {table}");
    let lock = format!("SELECT GET_LOCK('{name}', 30)");
    let locked = query(connection, &[&lock]).await.map_err(store_error)?;
    if number(first(rows_of(locked))) != Some(1) {
        return Err(StoreError::new(Kind::Busy, "another process has been migrating the table for 30 s; try again"));
    }
    let migrated = migrate_alone(connection, table, cluster).await;
    let unlocked = connection.query_drop(format!("DO RELEASE_LOCK('{name}')")).await.map_err(store_error);
    migrated.and(unlocked)
}

/// Whether the table exists and is up to date (or newer, which `check` reports).
pub(crate) async fn is_migrated(
    connection: &mut Conn,
    table: &TableName,
    cluster: Cluster,
) -> Result<bool, StoreError> {
    let has_second = !cluster.is_galera() || engine(connection, &format!("{table}_verified")).await?.is_some();
    Ok(has_second && version(connection, table).await? >= Some(LATEST))
}

async fn migrate_alone(connection: &mut Conn, table: &TableName, cluster: Cluster) -> Result<(), StoreError> {
    let mut found = version(connection, table).await?;
    if found.is_none() && engine(connection, table.as_str()).await?.is_some() {
        // The table was made by hand. If it is ours, its version is the one that its columns show.
        check_table(connection, table).await?;
        found = Some(LATEST);
    }
    if let Some(newer) = found.filter(|version| *version > LATEST) {
        return Err(newer_version(table, newer));
    }
    let mut steps = vec![versions_sql(table)];
    for (version, migration) in MIGRATIONS.iter().filter(|(version, _)| *version > found.unwrap_or(0)) {
        steps.push(migration_sql(table, migration));
        steps.push(record_sql(table, *version));
    }
    if found == Some(LATEST) {
        steps.push(record_sql(table, LATEST));
    }
    if cluster.is_galera() {
        steps.push(galera::table_sql(table));
    }
    for step in steps {
        connection.query_drop(step).await.map_err(|error| match &error {
            Error::Server(server) if matches!(server.code, 1142 | 1044) => StoreError::new(
                Kind::Schema,
                format!(
                    "table `{table}` is missing or old, and the user may not create it; let an administrator run what \
                     `schema_sql` (or `db-mutex migrate --print`) prints"
                ),
            )
            .with_source(error),
            _ => store_error(error),
        })?;
    }
    Ok(())
}

/// Refuses a table, or a server, on which locks would not hold.
pub(crate) async fn check(
    connection: &mut Conn,
    table: &TableName,
    read_only: bool,
    cluster: Cluster,
) -> Result<(), StoreError> {
    if let Some(newer) = version(connection, table).await?.filter(|version| *version > LATEST) {
        return Err(newer_version(table, newer));
    }
    check_table(connection, table).await?;
    check_triggers(connection, table).await?;
    if read_only {
        return Ok(());
    }
    connection.query_drop(Sql::for_table(table, cluster).probe()).await.map_err(store_error)
}

fn newer_version(table: &TableName, newer: i64) -> StoreError {
    let message = format!("table `{table}` has version {newer}, newer than the {LATEST} known here; update db-mutex");
    StoreError::new(Kind::Schema, message)
}

async fn check_table(connection: &mut Conn, table: &TableName) -> Result<(), StoreError> {
    let Some(engine) = engine(connection, table.as_str()).await? else {
        return Err(StoreError::new(Kind::Schema, format!("there is no table `{table}`; migrate first")));
    };
    if !engine.eq_ignore_ascii_case("InnoDB") {
        let message = format!(
            "table `{table}` is kept by the engine {engine}, where locks do not hold; ALTER TABLE `{table}` ENGINE=InnoDB"
        );
        return Err(StoreError::new(Kind::Schema, message));
    }
    let columns = format!(
        "SELECT column_name, data_type, character_octet_length, is_nullable, column_type LIKE '%unsigned%'
         FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{table}' ORDER BY ordinal_position"
    );
    let keys = format!(
        "SELECT index_name, column_name, sub_part FROM information_schema.statistics
         WHERE table_schema = DATABASE() AND table_name = '{table}' AND index_name IN ('PRIMARY', 'by_owner')
         ORDER BY index_name = 'by_owner', seq_in_index"
    );
    let mut answers = query(connection, &[&columns, &keys]).await.map_err(store_error)?;
    let keys = answers.pop().map(|answer| answer.rows).unwrap_or_default();
    let columns = rows_of(answers);
    let found: Vec<_> = columns.into_iter().map(Column::read).collect();
    let ours = found.len() == COLUMNS.len() && found.iter().zip(COLUMNS).all(|(found, ours)| found.is(*ours));
    if !ours {
        let message = format!(
            "table `{table}` is not db-mutex's (its columns are {}); choose another table name",
            found.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
        );
        return Err(StoreError::new(Kind::Schema, message));
    }
    let keys = keys.into_iter().map(|row| {
        let mut values = row.unwrap().into_iter();
        let mut next = || values.next().and_then(text);
        (next().unwrap_or_default(), next().unwrap_or_default(), next())
    });
    if !keys.eq(KEYS.iter().map(|(key, column)| ((*key).to_owned(), (*column).to_owned(), None))) {
        let message = format!(
            "table `{table}` lacks a key; it needs PRIMARY KEY (lock_id), UNIQUE KEY by_owner (lock_id, owner)"
        );
        return Err(StoreError::new(Kind::Schema, message));
    }
    Ok(())
}

/// A column as the server describes it.
struct Column {
    name: String,
    kind: String,
    bytes: Option<i64>,
    nullable: bool,
    unsigned: bool,
}

impl Column {
    fn read(row: Row) -> Self {
        let mut values = row.unwrap().into_iter();
        let mut next = || values.next().unwrap_or(Value::NULL);
        Self {
            name: text(next()).unwrap_or_default(),
            kind: text(next()).unwrap_or_default(),
            bytes: number(next()),
            nullable: text(next()).as_deref() == Some("YES"),
            unsigned: number(next()) != Some(0),
        }
    }

    fn is(&self, (name, kind, bytes, nullable): (&str, &str, Option<i64>, bool)) -> bool {
        self.name == name
            && self.kind == kind
            && (bytes.is_none() || self.bytes == bytes)
            && self.nullable == nullable
            && !self.unsigned
    }
}

/// A trigger can change what is inserted. The server shows it only to users that have the right TRIGGER.
async fn check_triggers(connection: &mut Conn, table: &TableName) -> Result<(), StoreError> {
    let triggers = format!(
        "SELECT trigger_name FROM information_schema.triggers
         WHERE event_object_schema = DATABASE() AND event_object_table = '{table}' AND action_timing = 'BEFORE'"
    );
    match text(first(rows_of(query(connection, &[&triggers]).await.map_err(store_error)?))) {
        None => Ok(()),
        Some(name) => {
            let message = format!("table `{table}` has the trigger `{name}`, which may change what locks say; drop it");
            Err(StoreError::new(Kind::Schema, message))
        }
    }
}

/// The version of the table; `None` where there is no record of it.
async fn version(connection: &mut Conn, table: &TableName) -> Result<Option<i64>, StoreError> {
    if engine(connection, table.as_str()).await?.is_none() {
        return Ok(None);
    }
    let select = format!("SELECT MAX(version) FROM `{table}_versions`");
    match query(connection, &[&select]).await {
        Ok(answers) => Ok(number(first(rows_of(answers)))),
        Err(Error::Server(server)) if server.code == 1146 => Ok(None),
        Err(error) => Err(store_error(error)),
    }
}

async fn engine(connection: &mut Conn, table: &str) -> Result<Option<String>, StoreError> {
    let select = format!(
        "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '{table}'"
    );
    Ok(text(first(rows_of(query(connection, &[&select]).await.map_err(store_error)?))))
}

fn rows_of(mut answers: Vec<Answer>) -> Vec<Row> {
    answers.pop().map(|answer| answer.rows).unwrap_or_default()
}
