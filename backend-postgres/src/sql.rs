//! Every statement of this backend. Each is a transaction by itself.
//!
//! Inserts, renewals and deletes have a plain form, which is fast and decides nearly all requests, and a careful form, which
//! skips rows that are locked and decides the rest; see [`batch`](crate::batch). The form for many differs from that for one
//! in where its requests come from: `unnest` of arrays, or `VALUES`.

//!
//! # Names
//!
//! Every function, type and collation is written with its schema. Otherwise a role whose search path names another schema before
//! `pg_catalog` would use what it finds there: a `clock_timestamp()` for tests would set the clock. `extract` and `unnest` of
//! several arrays are grammar, which PostgreSQL looks up in `pg_catalog` itself; the latter must not have a schema.
//!
//! Operators are written without: `OPERATOR(pg_catalog.<=)` is hard to read and to review, and an operator `<=` of bigints is
//! nothing that a schema has by accident. Nor does this protect from an attacker who may write to a schema in the search path:
//! that one could put a table of the same name there. Where there are such roles, set the store's schema and the role's search path.

mod change;
mod insert;
mod wake;

use db_mutex_core::TableName;

/// Microseconds since 1970, UTC. Not `now()`: that is the start of the transaction, before any wait.
const NOW: &str = "(extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint";
/// The same for the whole statement, which lets the planner compute it once.
const STATEMENT_NOW: &str = "(extract(epoch FROM pg_catalog.statement_timestamp()) * 1000000)::bigint";
/// The columns of a row as `row::read_row` reads them; the clock follows.
const ROW: &str = "held.lock_id, held.owner IS NOT NULL AS owned, held.fence, held.holder, held.acquired_at, \
                   held.released_at, held.expires_at, held.ttl";
/// A comment that a pooler reads which sends what it takes for reading to replicas: Pgpool-II. Locks, and the table itself,
/// are looked at where they are kept, because a replica is behind.
pub(crate) const ON_THE_PRIMARY: &str = "/*NO LOAD BALANCE*/ ";
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
        let row = format!("{ON_THE_PRIMARY}SELECT {ROW}, {NOW} FROM {table} AS held");
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
                 SELECT pg_catalog.count(*) FROM purged"
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
                     SELECT fence FROM {mine} AND pg_catalog.current_setting('transaction_isolation') = 'read committed' FOR KEY SHARE
                 ),
                 old AS MATERIALIZED (
                     SELECT fence FROM {mine} AND pg_catalog.current_setting('transaction_isolation') <> 'read committed' FOR SHARE
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

/// A grant or a renewal that a crash or a failover undoes has been reported to its owner. So it waits for the disk, and that of
/// the synchronous standbys where there are any, even where the role's default says otherwise. `remote_apply` waits for more
/// and stays.
const DURABLE: &str = "CASE WHEN pg_catalog.current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')
                            THEN pg_catalog.set_config('synchronous_commit', 'on', true) END";

/// That the wait for a standby was cancelled is reported as a warning, which a role's default may suppress. A pooler's sessions
/// have such defaults too, so it is set with each statement.
const WITH_WARNINGS: &str = "CASE WHEN pg_catalog.current_setting('client_min_messages') NOT IN
                                      ('debug5', 'debug4', 'debug3', 'debug2', 'debug1', 'log', 'notice', 'warning')
                                  THEN pg_catalog.set_config('client_min_messages', 'warning', true) END";

/// A release need not wait for the disk: if a crash undoes it, the lock ends with its TTL.
const NOT_DURABLE: &str = "pg_catalog.set_config('synchronous_commit', 'off', true)";

/// How long the plain forms wait for a row. Most locks of rows are held for less: until another's commit has reached the
/// disk. A plain form that gives up has changed nothing, and the careful form decides.
const BRIEFLY: &str = "pg_catalog.set_config('lock_timeout', '5ms', true)";

/// How long an INSERT of a new id waits for another transaction that has inserted the same id and not committed yet, which
/// nothing can see or skip. Not shorter, because it also limits the wait while another session extends the table.
const FOR_AN_INSERT: &str = "pg_catalog.set_config('lock_timeout', '20ms', true)";

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
