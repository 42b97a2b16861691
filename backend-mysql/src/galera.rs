//! What is different on Galera.
//!
//! A transaction that has verified a lock cannot hold up a takeover on another node: row locks are the node's own. So both write
//! one row, and the second of them in the order of the cluster fails when it commits. It is not the row of the lock: that
//! would make renewals fail, too.

use db_mutex_core::TableName;
use db_mutex_core::store::InsertRequest;

use crate::sql::{NOW, owners};
use crate::statement::Statement;

/// Purges leave rows that are younger: without its row an id starts again at a node's clock, and those differ.
pub(crate) const YOUNGEST_PURGED_US: i64 = 60_000_000;

/// Creates the table of the rows that grants and verifying transactions write.
pub(crate) fn table_sql(table: &TableName) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS `{table}_verified` (
    lock_id     VARBINARY(1024) NOT NULL PRIMARY KEY,
    changes     BIGINT          NOT NULL   -- written by each grant, and by transactions that verify the lock
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"
    )
}

/// `` `t` `` to `` `t_verified` ``.
fn verified(table: &str) -> String {
    format!("{}_verified`", table.trim_end_matches('`'))
}

/// An insert, in one transaction with a change of the row that verifying changes. Nothing is written if nothing was granted.
///
/// That the `COMMIT` has succeeded does not say that anything was committed, so the rows have to be read back: when another
/// node's transaction undoes this one between two statements of one round trip, MariaDB 10.11 may report no error at all (1
/// of 480 such commits; `START TRANSACTION; UPDATE …; DO SLEEP(1); COMMIT` shows it each time). Statements that commit
/// themselves are not affected.
pub(crate) fn granting(table: &str, insert: Statement, requests: &[&InsertRequest]) -> Vec<Statement> {
    let v = verified(table);
    let change = format!(
        "INSERT INTO {v} (lock_id, changes)
         SELECT STRAIGHT_JOIN h.lock_id, 1 FROM ({asked}) AS r
         STRAIGHT_JOIN {table} AS h FORCE INDEX (PRIMARY) ON h.lock_id = r.id
         WHERE h.owner = r.own
         ON DUPLICATE KEY UPDATE changes = {v}.changes + 1",
        asked = owners(requests),
    );
    vec!["START TRANSACTION".into(), insert, change.into(), "COMMIT".into()]
}

/// The node's clock, if the owner still owns the lock there. The commit fails if another owner has been granted it by then on any
/// node.
pub(crate) fn verify(table: &str, id: &str, owner: &str) -> String {
    let v = verified(table);
    format!(
        "INSERT INTO {v} (lock_id, changes)
         SELECT h.lock_id, 1 FROM {table} AS h FORCE INDEX (by_owner)
         WHERE h.lock_id = {id} AND h.owner = {owner} LOCK IN SHARE MODE
         ON DUPLICATE KEY UPDATE changes = {v}.changes + 1
         RETURNING {NOW} AS verified"
    )
}

/// Removes the rows of locks that have been purged.
pub(crate) fn purge(table: &str, ids: &str) -> Statement {
    let v = verified(table);
    format!(
        "DELETE {v} FROM {v} LEFT JOIN {table} ON {table}.lock_id = {v}.lock_id
         WHERE {v}.lock_id IN ({ids}) AND {table}.lock_id IS NULL"
    )
    .into()
}
