//! Every statement of this backend. Each is a transaction by itself.
//!
//! Inserts, renewals and deletes have a plain form, which is fast and decides nearly all requests, and a careful form, which
//! skips rows that are locked and decides the rest; see [`batch`](crate::batch). The form for many differs from that for one
//! in where its requests come from: `unnest` of arrays, or `VALUES`.

mod change;
mod insert;
mod wake;

use db_mutex_core::TableName;

/// Microseconds since 1970, UTC. Not `now()`: that is the start of the transaction, before any wait.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
/// The same for the whole statement, which lets the planner compute it once.
const STATEMENT_NOW: &str = "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint";
/// The columns of a row as `row::read_row` reads them; the clock follows.
const ROW: &str = "held.lock_id, held.owner IS NOT NULL AS owned, held.fence, held.holder, held.acquired_at, \
                   held.released_at, held.expires_at, held.ttl";
const NEVER: &str = "9223372036854775807";

/// The statements of one operation.
#[derive(Debug)]
pub(crate) struct Forms {
    /// For one request, whose values are the parameters.
    pub(crate) one: String,
    /// For many, whose values are arrays.
    pub(crate) many: String,
    /// The careful form, for many.
    pub(crate) careful: String,
}

/// The statements for one table.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) insert: Forms,
    pub(crate) end_excess: String,
    pub(crate) renew: Forms,
    pub(crate) delete: Forms,
    pub(crate) delete_by_fence: String,
    pub(crate) purge: String,
    pub(crate) find: String,
    pub(crate) list_taken: String,
    pub(crate) list_all: String,
    pub(crate) verify: String,
    pub(crate) channels: String,
    pub(crate) mark: String,
}

impl Sql {
    /// The statements for `table`, of `schema` or else of the search path.
    pub(crate) fn for_table(schema: Option<&TableName>, table: &TableName) -> Self {
        let table = quoted(schema, table);
        let row = format!("SELECT {ROW}, {NOW} FROM {table} AS held");
        Self {
            insert: insert::forms(&table),
            end_excess: insert::end_excess(&table),
            renew: change::renew(&table),
            delete: change::delete(&table),
            delete_by_fence: change::delete_by_fence(&table),

            // Without its row an id starts again at the clock: only a fence behind the clock may go. A row that is locked
            // stays for the next purge, so a verified transaction does not make this one wait.
            purge: format!(
                "WITH ended AS MATERIALIZED (
                     SELECT lock_id FROM {table}
                     WHERE greatest(expires_at, released_at) <= {STATEMENT_NOW} - $1 AND fence < {STATEMENT_NOW} - $1
                     FOR UPDATE SKIP LOCKED
                 ),
                 purged AS (DELETE FROM {table} AS held USING ended WHERE held.lock_id = ended.lock_id RETURNING 1)
                 SELECT count(*) FROM purged"
            ),

            find: format!("{row} WHERE lock_id = $1"),
            list_taken: format!("{row} WHERE expires_at > {STATEMENT_NOW} ORDER BY lock_id"),
            list_all: format!("{row} ORDER BY lock_id"),

            // FOR KEY SHARE lets renewals go on, which change no key, and blocks a takeover, which locks the row with FOR
            // UPDATE. For the same reason it does not notice that the row has changed since the snapshot: it locks the
            // latest version and returns the old one. Where each statement has its own snapshot, a second run sees what
            // the lock is on. Elsewhere the snapshot is as old as the transaction, and FOR SHARE fails if the row has
            // changed since.
            verify: format!(
                "WITH fresh AS MATERIALIZED (
                     SELECT fence FROM {mine} AND current_setting('transaction_isolation') = 'read committed' FOR KEY SHARE
                 ),
                 old AS MATERIALIZED (
                     SELECT fence FROM {mine} AND current_setting('transaction_isolation') <> 'read committed' FOR SHARE
                 )
                 SELECT fence AS verified FROM fresh UNION ALL SELECT fence FROM old",
                mine = format_args!("{table} WHERE lock_id = $1 AND owner = $2 AND expires_at > {NOW}"),
            ),

            channels: wake::channels(&table),
            mark: wake::mark(&table),
        }
    }
}

pub(crate) fn quoted(schema: Option<&TableName>, table: &TableName) -> String {
    schema.map_or_else(|| format!("\"{table}\""), |schema| format!("\"{schema}\".\"{table}\""))
}

/// The clock, read once for the whole statement, and before it the settings of its transaction. They hold for this
/// transaction alone, so they work through a pooler too.
fn moment(settings: &[&str]) -> String {
    format!("moment AS MATERIALIZED (SELECT {}, {NOW} AS now)", settings.join(", "))
}

/// A grant or a renewal that a crash undoes has been reported to its owner, so it waits for the disk even where the role's
/// default says otherwise.
const DURABLE: &str = "CASE WHEN current_setting('synchronous_commit') = 'off'
                            THEN set_config('synchronous_commit', 'on', true) END";

/// A release need not wait for the disk: if a crash undoes it, the lock ends with its TTL.
const NOT_DURABLE: &str = "set_config('synchronous_commit', 'off', true)";

/// How long the plain forms wait for a row. Most locks of rows are held for less: until another's commit has reached the
/// disk. A plain form that gives up has changed nothing, and the careful form decides.
const BRIEFLY: &str = "set_config('lock_timeout', '5ms', true)";

/// How long an INSERT of a new id waits for another transaction that has inserted the same id and not committed yet, which
/// nothing can see or skip. Not shorter, because it also limits the wait while another session extends the table.
const FOR_AN_INSERT: &str = "set_config('lock_timeout', '20ms', true)";

/// Whether a row is that of a request: the ids are equal. Not written as an equality, for which the planner could join the
/// whole table with the requests. It would do so when the table has a few rows, and the plan is kept until it has a million.
/// This can only be looked up in the index, for one request after the other.
fn is_row_of(request: &str) -> String {
    format!("held.lock_id = ANY (ARRAY[{request}.lock_id])")
}

/// `ttl` after now; never stays never, and nothing overflows.
fn after(now: &str, ttl: &str) -> String {
    format!("least({now}, {NEVER} - {ttl}) + {ttl}")
}
