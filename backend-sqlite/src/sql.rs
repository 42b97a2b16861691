//! Every statement of this backend. One autocommit statement an operation, so that each is atomic by itself and reads the
//! clock after it has the write lock.

use db_mutex_core::TableName;

/// Microseconds since 1970, UTC, at the millisecond in which the statement began to run. SQLite evaluates `now` once a
/// statement; a julian day in a double is exact to 40 µs, so rounding gives the very millisecond. (`unixepoch('subsec')`
/// needs SQLite 3.42.)
const NOW: &str = "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)";
const NEVER: &str = "9223372036854775807";

/// The statements for one table.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) find_blocker: String,
    pub(crate) insert_or_take_over: String,
    pub(crate) renew: String,
    pub(crate) delete_by_owner: String,
    pub(crate) delete_by_force: String,
    pub(crate) purge: String,
    pub(crate) find: String,
    pub(crate) list_taken: String,
    pub(crate) list_all: String,
    pub(crate) verify: String,
}

impl Sql {
    /// The statements for `table`, which becomes part of them.
    pub(crate) fn for_table(table: &TableName) -> Self {
        let row = format!(
            "SELECT lock_id, owner IS NOT NULL, fence, holder, acquired_at, released_at, expires_at, {NOW} FROM \"{table}\""
        );
        let expiry = |ttl: &str| format!("CASE WHEN {ttl} IS NULL THEN {NEVER} ELSE {NOW} + {ttl} END");
        Self {
            // A plain read: a refused attempt takes no write lock and writes nothing.
            find_blocker: format!("{row} WHERE lock_id = ?1 AND expires_at > {NOW} AND owner IS NOT ?2"),

            // The WHERE is judged again under the write lock, so a read that was overtaken grants nothing. A row of the
            // same owner keeps fence and acquisition time: its request is a repeat.
            insert_or_take_over: format!(
                "INSERT INTO \"{table}\" AS held (lock_id, owner, fence, holder, acquired_at, released_at, expires_at)
                 VALUES (?1, ?2, {NOW}, ?3, {NOW}, NULL, {expiry})
                 ON CONFLICT (lock_id) DO UPDATE SET
                     fence       = CASE WHEN held.owner IS excluded.owner THEN held.fence
                                        ELSE max(held.fence + 1, excluded.fence) END,
                     acquired_at = CASE WHEN held.owner IS excluded.owner THEN held.acquired_at
                                        ELSE excluded.acquired_at END,
                     owner       = excluded.owner,
                     holder      = excluded.holder,
                     released_at = NULL,
                     expires_at  = excluded.expires_at
                 WHERE held.expires_at <= excluded.acquired_at OR held.owner IS excluded.owner
                 RETURNING fence, acquired_at, expires_at",
                expiry = expiry("?4"),
            ),

            renew: format!(
                "UPDATE \"{table}\" SET expires_at = {expiry}
                 WHERE lock_id = ?1 AND owner = ?2 AND expires_at > {NOW}
                 RETURNING fence, acquired_at, expires_at",
                expiry = expiry("?3"),
            ),

            // The rest counts from the acquisition, or from now where the clock has stepped back behind it: else a step
            // of an hour would let every lock rest for an hour.
            delete_by_owner: format!(
                "UPDATE \"{table}\" SET owner = NULL, released_at = {NOW},
                     expires_at = max({NOW}, min(acquired_at, {NOW}) + ?3)
                 WHERE lock_id = ?1 AND owner = ?2 AND expires_at > {NOW}"
            ),
            delete_by_force: format!(
                "UPDATE \"{table}\" SET owner = NULL, released_at = ifnull(released_at, {NOW}), expires_at = {NOW}
                 WHERE lock_id = ?1 AND expires_at > {NOW}"
            ),

            // Without its row an id starts again at the clock: only a fence behind the clock may go.
            purge: format!("DELETE FROM \"{table}\" WHERE expires_at <= {NOW} - ?1 AND fence < {NOW}"),

            find: format!("{row} WHERE lock_id = ?1"),
            list_taken: format!("{row} WHERE expires_at > {NOW} ORDER BY lock_id"),
            list_all: format!("{row} ORDER BY lock_id"),

            // A write that changes nothing: from here to the commit the transaction has the write lock, and a takeover
            // needs it.
            verify: format!(
                "UPDATE \"{table}\" SET owner = owner WHERE lock_id = ?1 AND owner = ?2 AND expires_at > {NOW} RETURNING fence"
            ),
        }
    }
}
