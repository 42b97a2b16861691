use db_mutex_core::{StoreError, StoreErrorKind as Kind, TableName};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Row};

use crate::error::{explain_right, store_error};
use crate::sql::{ON_THE_PRIMARY, quoted};

/// Numbered, append-only: a released file is never changed.
const MIGRATIONS: &[(i64, &str)] = &[(1, include_str!("../migrations/0001_locks.sql"))];
const LATEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// What the latest version of the table looks like: name, type, NOT NULL. A type by its number, because another schema may have
/// types of the same names.
const COLUMNS: &[(&str, Type, bool)] = &[
    ("lock_id", Type::TEXT, true),
    ("owner", Type::BYTEA, false),
    ("released_by", Type::BYTEA, false),
    ("fence", Type::INT8, true),
    ("holder", Type::TEXT, true),
    ("acquired_at", Type::INT8, true),
    ("released_at", Type::INT8, false),
    ("expires_at", Type::INT8, true),
    ("ttl", Type::INT8, true),
    ("wanted_until", Type::INT8, false),
];

/// Which table, and what its statements call it.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    name: String,
    versions: String,
}

impl Table {
    pub(crate) fn new(schema: Option<&TableName>, table: &TableName) -> Self {
        let name = quoted(schema, table);
        let versions = format!("{}_versions\"", &name[..name.len() - 1]);
        Self { name, versions }
    }

    /// The schema as SQL text, for people whose administrator creates tables.
    pub(crate) fn schema_sql(&self) -> String {
        let mut sql = self.versions_sql();
        for (version, migration) in MIGRATIONS {
            sql +=
                &format!("{};\n{};\n", migration.trim_end().replace("{table}", &self.name), self.record_sql(*version));
        }
        sql
    }

    fn versions_sql(&self) -> String {
        format!("CREATE TABLE IF NOT EXISTS {} (version bigint NOT NULL PRIMARY KEY);\n", self.versions)
    }

    /// It may be there: from a table that was dropped alone.
    fn record_sql(&self, version: i64) -> String {
        format!("INSERT INTO {} (version) VALUES ({version}) ON CONFLICT DO NOTHING", self.versions)
    }

    /// Creates or updates the table. Any number of processes may do so at once, even of different versions: an advisory
    /// lock serialises them.
    pub(crate) async fn migrate(&self, client: &mut Client) -> Result<(), StoreError> {
        self.migrate_in_turn(client).await.map_err(|error| {
            explain_right(error, || {
                format!(
                    "the role may not create or change the table {}; grant CREATE on its schema, or let an administrator \
                     run what `db-mutex migrate --print` prints",
                    self.name
                )
            })
        })
    }

    async fn migrate_in_turn(&self, client: &mut Client) -> Result<(), StoreError> {
        // Not the role's default: after the wait for the others, their work has to be seen.
        let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
        let transaction = transaction.await.map_err(store_error)?;
        // Any number would do that no other program has a reason to lock.
        transaction
            .batch_execute("SELECT pg_catalog.pg_advisory_xact_lock(6409102938471)")
            .await
            .map_err(store_error)?;
        match self.version(&transaction).await? {
            // Nothing that would need a right.
            Some(LATEST) => return Ok(()),
            Some(version) if version > LATEST => return Err(self.is_newer(version)),
            None if self.exists(&transaction, &self.name).await? => {
                // The table was made by hand. If it is ours, its version is the one that its columns show.
                self.check_shape(&transaction).await?;
                let sql = format!("{}{}", self.versions_sql(), self.record_sql(LATEST));
                transaction.batch_execute(&sql).await.map_err(store_error)?;
            }
            found => {
                transaction.batch_execute(&self.versions_sql()).await.map_err(store_error)?;
                for (version, migration) in MIGRATIONS.iter().filter(|(version, _)| *version > found.unwrap_or(0)) {
                    let migration = migration.trim_end().replace("{table}", &self.name);
                    let sql = format!("{migration};\n{}", self.record_sql(*version));
                    transaction.batch_execute(&sql).await.map_err(store_error)?;
                }
            }
        }
        transaction.commit().await.map_err(store_error)
    }

    /// Refuses a table that cannot keep locks: one that a crash empties, or that was not made by db-mutex. Returns whether
    /// the table exists and is up to date.
    pub(crate) async fn check(&self, client: &impl Queries) -> Result<bool, StoreError> {
        match self.version(client).await? {
            Some(version) if version > LATEST => Err(self.is_newer(version)),
            Some(LATEST) => self.check_shape(client).await.map(|()| true),
            _ => Ok(false),
        }
    }

    fn is_newer(&self, version: i64) -> StoreError {
        let known = format!("newer than the {LATEST} known here; update db-mutex");
        StoreError::new(Kind::Schema, format!("the table {} has version {version}, {known}", self.name))
    }

    /// Refuses a table that a crash empties, and one that is not ours.
    async fn check_shape(&self, client: &impl Queries) -> Result<(), StoreError> {
        let kind = "SELECT relpersistence::pg_catalog.text, relkind::pg_catalog.text FROM pg_catalog.pg_class
                    WHERE oid = pg_catalog.to_regclass($1)";
        let kind = client.one(kind, &[&self.name]).await?;
        let flaw = match (kind.get(0), kind.get(1)) {
            ("p", "r") => return self.check_columns(client).await,
            ("u", "r") => "is UNLOGGED and empty after a crash, with locks held; ALTER TABLE … SET LOGGED",
            ("t", "r") => "is temporary; use another name",
            _ => "is not an ordinary table; use another name",
        };
        Err(StoreError::new(Kind::Schema, format!("the table {} {flaw}", self.name)))
    }

    /// The version of the table; `None` where there is no record of it.
    async fn version(&self, client: &impl Queries) -> Result<Option<i64>, StoreError> {
        self.read_version(client).await.map_err(|error| {
            explain_right(error, || {
                format!(
                    "the role may not read the version of the table; grant SELECT on {}, and USAGE on its schema",
                    self.versions
                )
            })
        })
    }

    async fn read_version(&self, client: &impl Queries) -> Result<Option<i64>, StoreError> {
        if !self.exists(client, &self.versions).await? || !self.exists(client, &self.name).await? {
            return Ok(None);
        }
        let version = client.one(&format!("SELECT pg_catalog.max(version) FROM {}", self.versions), &[]).await?;
        Ok(version.get(0))
    }

    async fn exists(&self, client: &impl Queries, name: &str) -> Result<bool, StoreError> {
        // A session remembers that a name meant nothing. To lock a relation, here `pg_class`, makes it hear of what
        // others created meanwhile; a bare to_regclass would not, within a transaction.
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1))";
        Ok(client.one(sql, &[name]).await?.get(0))
    }

    async fn check_columns(&self, client: &impl Queries) -> Result<(), StoreError> {
        let columns = "SELECT attname::pg_catalog.text, atttypid, attnotnull FROM pg_catalog.pg_attribute
                       WHERE attrelid = pg_catalog.to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let rows = client.all(columns, &[&self.name]).await?;
        let found: Vec<(String, u32, bool)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        let found_columns = found.iter().map(|(name, kind, not_null)| (name.as_str(), *kind, *not_null));
        if found_columns.eq(COLUMNS.iter().map(|(name, kind, not_null)| (*name, kind.oid(), *not_null))) {
            return self.check_key(client).await;
        }
        let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
        let what = format!(
            "there is a table {} that is not db-mutex's (its columns are {}); choose another table name",
            self.name,
            names.join(", ")
        );
        Err(StoreError::new(Kind::Schema, what))
    }

    /// Without the key an id could have two rows, and with another collation two ids could be one.
    async fn check_key(&self, client: &impl Queries) -> Result<(), StoreError> {
        let key = "SELECT EXISTS (
                       SELECT FROM pg_catalog.pg_index
                       JOIN pg_catalog.pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
                       JOIN pg_catalog.pg_collation AS of_index ON of_index.oid = indcollation[0]
                       WHERE indrelid = pg_catalog.to_regclass($1) AND indisprimary AND indisvalid AND indimmediate
                       AND indnkeyatts = 1 AND attname = 'lock_id' AND attcollation = of_index.oid AND collname = 'C')";
        if client.one(key, &[&self.name]).await?.get(0) {
            return Ok(());
        }
        let what = format!("the table {} has lost its primary key, lock_id with COLLATE \"C\"; add it", self.name);
        Err(StoreError::new(Kind::Schema, what))
    }
}

/// Queries with text parameters, in one round trip and without a prepared statement: any pooler understands them, and none
/// sends them to a replica.
pub(crate) trait Queries {
    /// All rows.
    async fn all(&self, sql: &str, parameters: &[&str]) -> Result<Vec<Row>, StoreError>;

    /// The one row.
    async fn one(&self, sql: &str, parameters: &[&str]) -> Result<Row, StoreError> {
        let missing = || StoreError::new(Kind::Other, "a PostgreSQL catalog query returned no row");
        self.all(sql, parameters).await?.into_iter().next().ok_or_else(missing)
    }
}

impl<C: tokio_postgres::GenericClient> Queries for C {
    async fn all(&self, sql: &str, parameters: &[&str]) -> Result<Vec<Row>, StoreError> {
        let typed: Vec<_> = parameters
            .iter()
            .map(|parameter| {
                (parameter as &(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type::TEXT)
            })
            .collect();
        self.query_typed(&format!("{ON_THE_PRIMARY}{sql}"), &typed).await.map_err(store_error)
    }
}
