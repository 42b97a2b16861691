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
    pub(crate) end_excess: String,
    pub(crate) renew: String,
    pub(crate) delete_by_owner: String,
    pub(crate) was_released_by: String,
    pub(crate) delete_by_fence: String,
    pub(crate) has_released_fence: String,
    pub(crate) purge: String,
    pub(crate) find: String,
    pub(crate) list_taken: String,
    pub(crate) list_all: String,
    pub(crate) verify: String,
}

impl Sql {
    /// The statements for `table`, which becomes part of them.
    pub(crate) fn for_table(table: &TableName) -> Self {
        let columns =
            format!("lock_id, owner IS NOT NULL, fence, holder, acquired_at, released_at, expires_at, ttl, {NOW}");
        let row = format!("SELECT {columns} FROM \"{table}\"");
        // A sum that overflows would turn into a REAL, so never is not added to.
        let expiry = |ttl: &str| format!("CASE WHEN {ttl} = {NEVER} THEN {NEVER} ELSE {NOW} + {ttl} END");
        Self {
            // A plain read: a refused attempt takes no write lock and writes nothing.
            find_blocker: format!(
                "SELECT {columns}, released_by IS ?2 FROM \"{table}\"
                 WHERE lock_id = ?1 AND owner IS NOT ?2 AND (expires_at > {NOW} OR released_by IS ?2)"
            ),

            // The WHERE is judged again under the write lock, so a read that was overtaken grants nothing. A row of the
            // same owner keeps fence and acquisition time: its request is a repeat, and never shortens the lease.
            insert_or_take_over: format!(
                "INSERT INTO \"{table}\" AS held
                     (lock_id, owner, fence, holder, acquired_at, released_at, expires_at, ttl)
                 VALUES (?1, ?2, {NOW}, ?3, {NOW}, NULL, {expiry}, ?4)
                 ON CONFLICT (lock_id) DO UPDATE SET
                     fence       = CASE WHEN held.owner IS excluded.owner THEN held.fence
                                        ELSE max(held.fence + 1, excluded.fence) END,
                     acquired_at = CASE WHEN held.owner IS excluded.owner THEN held.acquired_at
                                        ELSE excluded.acquired_at END,
                     owner       = excluded.owner,
                     holder      = excluded.holder,
                     released_at = NULL,
                     expires_at  = CASE WHEN held.owner IS excluded.owner THEN max(held.expires_at, excluded.expires_at)
                                        ELSE excluded.expires_at END,
                     ttl         = CASE WHEN held.owner IS excluded.owner THEN max(held.ttl, excluded.ttl)
                                        ELSE excluded.ttl END
                 WHERE held.owner IS excluded.owner
                    OR held.expires_at <= excluded.acquired_at AND held.released_by IS NOT excluded.owner
                 RETURNING fence, acquired_at, expires_at",
                expiry = expiry("?4"),
            ),

            // Judged under the write lock, with the clock as it is by then: an older one could cut a lease short that was
            // renewed in between.
            end_excess: format!(
                "UPDATE \"{table}\" SET expires_at = {NOW} + ttl
                 WHERE lock_id = ?1 AND ttl <> {NEVER} AND expires_at - {NOW} > ttl + max(10000000, ttl / 10)"
            ),

            renew: format!(
                "UPDATE \"{table}\" SET expires_at = max(expires_at, {expiry}), ttl = max(ttl, ?3)
                 WHERE lock_id = ?1 AND owner = ?2 AND expires_at > {NOW}
                 RETURNING fence, acquired_at, expires_at",
                expiry = expiry("?3"),
            ),

            // The rest counts from the acquisition, or from now where the clock has stepped back behind it: otherwise a
            // step of an hour would let every lock rest for an hour. Without a rest nothing is left in the future, so a
            // clock that was ahead does not matter.
            delete_by_owner: format!(
                "UPDATE \"{table}\" SET released_by = owner, owner = NULL, released_at = {NOW},
                     expires_at = CASE WHEN {rest_ends} > {NOW} THEN {rest_ends} ELSE 0 END,
                     ttl        = CASE WHEN {rest_ends} > {NOW} THEN {rest_ends} - {NOW} ELSE ttl END
                 WHERE lock_id = ?1 AND owner = ?2 AND expires_at > {NOW}",
                rest_ends = format_args!("(min(acquired_at, {NOW}) + ?3)"),
            ),
            was_released_by: format!("SELECT 1 FROM \"{table}\" WHERE lock_id = ?1 AND released_by = ?2"),

            // The acquisition that was seen, or its rest; never a successor's.
            delete_by_fence: format!(
                "UPDATE \"{table}\" SET released_by = ifnull(owner, released_by), owner = NULL,
                     released_at = ifnull(released_at, {NOW}), expires_at = 0
                 WHERE lock_id = ?1 AND fence = ?2 AND expires_at > {NOW}"
            ),
            has_released_fence: format!(
                "SELECT 1 FROM \"{table}\" WHERE lock_id = ?1 AND fence = ?2 AND owner IS NULL"
            ),

            // Without its row an id starts again at the clock: only a fence that is as far behind the clock may go.
            purge: format!(
                "DELETE FROM \"{table}\"
                 WHERE max(expires_at, ifnull(released_at, 0)) <= {NOW} - ?1 AND fence < {NOW} - ?1"
            ),

            find: format!("{row} WHERE lock_id = ?1"),
            list_taken: format!("{row} WHERE expires_at > {NOW} ORDER BY lock_id"),
            list_all: format!("{row} ORDER BY lock_id"),

            // A write that changes nothing: from here to the commit the transaction has the write lock, and a takeover
            // needs it.
            verify: format!(
                "UPDATE \"{table}\" SET owner = owner WHERE lock_id = ?1 AND owner = ?2 AND expires_at > {NOW}
                 RETURNING fence AS verified"
            ),
        }
    }
}
