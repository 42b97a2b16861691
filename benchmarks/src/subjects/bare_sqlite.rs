//! The statements of db-mutex's SQLite store through rusqlite, in the calling thread: nothing is faster, and nothing else can run
//! in that thread meanwhile. For one task.

use std::sync::Mutex;

use rusqlite::Connection;

use super::{HOLDER, Subject, TTL_MICROS, owner};
use crate::spec::{Failure, Spec};

// The store's own file of statements, so that they cannot differ.
#[path = "../../../backend-sqlite/src/sql.rs"]
#[allow(dead_code, reason = "two of the statements are used")]
mod sql;

pub(crate) struct Bare {
    connection: Mutex<Connection>,
    sql: sql::Sql,
}

impl Bare {
    pub(crate) async fn new(spec: &Spec) -> Result<Self, Failure> {
        super::db_mutex::connect(spec).await?.shutdown(std::time::Duration::ZERO).await; // which creates the table
        let connection = Connection::open(spec.url.trim_start_matches("sqlite:"))?;
        // As the store does it; the file is in WAL mode already.
        connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 1000")?;
        if super::is_uncommitted(spec) {
            connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        let sql = sql::Sql::for_table(&db_mutex::TableName::new(&spec.table)?);
        Ok(Self { connection: Mutex::new(connection), sql })
    }
}

impl Subject for Bare {
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        _task: usize,
        id: &str,
        _wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        let owner = owner();
        {
            let connection = self.connection.lock().map_err(|_| "poisoned")?;
            let mut blocker = connection.prepare_cached(&self.sql.find_blocker)?;
            if blocker.exists((id, &owner[..]))? {
                return Err(format!("{id} is held").into());
            }
            let mut insert = connection.prepare_cached(&self.sql.insert_or_take_over)?;
            let mut rows = insert.query((id, &owner[..], HOLDER, TTL_MICROS))?;
            while rows.next()?.is_some() {}
        }
        held().await;
        let connection = self.connection.lock().map_err(|_| "poisoned")?;
        if connection.prepare_cached(&self.sql.delete_by_owner)?.execute((id, &owner[..], 0_i64))? != 1 {
            return Err(format!("{id} was not released").into());
        }
        Ok(())
    }
}
