//! Every statement of this backend. Each operation is one statement, which is a transaction by itself.
//!
//! The form for many is the same as that for one, with arrays: `unnest` is put where the parameters stand.

use db_mutex_core::TableName;

/// Microseconds since 1970, UTC. Not `now()`: that is the beginning of the transaction, before any wait.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
/// The same, the same throughout a statement: only so can the planner compare it once.
const STATEMENT_NOW: &str = "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint";
/// The columns of a row as it is read; the clock follows them.
const ROW: &str = "held.lock_id, held.owner IS NOT NULL AS owned, held.fence, held.holder, held.acquired_at, \
                   held.released_at, held.expires_at";
const NEVER: &str = "9223372036854775807";

/// The statements for one table.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) insert: String,
    pub(crate) insert_many: String,
    pub(crate) renew: String,
    pub(crate) renew_many: String,
    pub(crate) delete_by_owner: String,
    pub(crate) delete_by_force: String,
    pub(crate) delete_many: String,
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
        let wake = wake();
        let row = format!("SELECT {ROW}, {NOW} FROM {table} AS held");
        let one = "(VALUES ($1::text, $2::bytea, $3::text, $4::bigint)) AS request (lock_id, owner, holder, ttl)";
        let many = "unnest($1::text[], $2::bytea[], $3::text[], $4::bigint[]) AS request (lock_id, owner, holder, ttl)";
        Self {
            insert: insert(&table, one),
            insert_many: insert(&table, many),

            renew: format!(
                "WITH {DURABLE} UPDATE {table} SET expires_at = coalesce({NOW} + $3::bigint, {NEVER}) FROM commit
                 WHERE commit.mode <> 'off' AND lock_id = $1 AND owner = $2 AND expires_at > {NOW}
                 RETURNING fence, acquired_at, expires_at"
            ),
            // Locked in the order of the ids, so that no two batches wait for each other. The clock is read again for
            // each row, after the wait for it: a lease that ended meanwhile stays ended.
            renew_many: format!(
                "WITH {DURABLE},
                 request AS MATERIALIZED (
                     SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS request (lock_id, owner, ttl)
                 ),
                 locked AS MATERIALIZED (
                     SELECT held.lock_id, request.ttl FROM {table} AS held JOIN request USING (lock_id, owner)
                     ORDER BY held.lock_id FOR NO KEY UPDATE OF held
                 )
                 UPDATE {table} AS held SET expires_at = coalesce({NOW} + locked.ttl, {NEVER})
                 FROM locked, commit
                 WHERE commit.mode <> 'off' AND held.lock_id = locked.lock_id AND held.expires_at > {NOW}
                 RETURNING held.lock_id, held.fence, held.acquired_at, held.expires_at"
            ),

            delete_by_owner: format!(
                "WITH {NOT_DURABLE} UPDATE {table} AS held SET {released} FROM commit
                 WHERE commit.mode = 'off' AND lock_id = $1 AND owner = $2 AND expires_at > {NOW}
                 RETURNING lock_id, {wake}",
                released = released("$3::bigint"),
            ),
            delete_many: format!(
                "WITH {NOT_DURABLE},
                 request AS MATERIALIZED (
                     SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS request (lock_id, owner, rest)
                 ),
                 locked AS MATERIALIZED (
                     SELECT held.lock_id, request.rest FROM {table} AS held JOIN request USING (lock_id, owner)
                     ORDER BY held.lock_id FOR NO KEY UPDATE OF held
                 )
                 UPDATE {table} AS held SET {released} FROM locked, commit
                 WHERE commit.mode = 'off' AND held.lock_id = locked.lock_id AND held.expires_at > {NOW}
                 RETURNING held.lock_id, {wake}",
                released = released("locked.rest"),
            ),
            delete_by_force: format!(
                "UPDATE {table} AS held SET
                     owner = NULL, released_at = coalesce(released_at, {NOW}), expires_at = {NOW}
                 WHERE lock_id = $1 AND expires_at > {NOW} RETURNING lock_id, {wake}"
            ),

            // Without its row an id starts again at the clock: only a fence behind the clock may go.
            purge: format!(
                "WITH purged AS (
                     DELETE FROM {table} WHERE expires_at <= {STATEMENT_NOW} - $1 AND fence < {STATEMENT_NOW} RETURNING 1
                 )
                 SELECT count(*) FROM purged"
            ),

            find: format!("{row} WHERE lock_id = $1"),
            list_taken: format!("{row} WHERE expires_at > {STATEMENT_NOW} ORDER BY lock_id"),
            list_all: format!("{row} ORDER BY lock_id"),

            // FOR KEY SHARE lets renewals go on, which change no key, and keeps a takeover away, which asks for the row
            // with FOR UPDATE. But for the same reason it does not notice that the row has changed since the snapshot:
            // it locks what follows and answers what was. Where each statement has a snapshot of its own, a second look
            // sees what the lock is on. Elsewhere the snapshot is as old as the transaction, and FOR SHARE fails if the
            // row has changed since.
            verify: format!(
                "WITH fresh AS MATERIALIZED (
                     SELECT fence FROM {mine} AND current_setting('transaction_isolation') = 'read committed' FOR KEY SHARE
                 ),
                 old AS MATERIALIZED (
                     SELECT fence FROM {mine} AND current_setting('transaction_isolation') <> 'read committed' FOR SHARE
                 )
                 SELECT fence FROM fresh UNION ALL SELECT fence FROM old",
                mine = format_args!("{table} WHERE lock_id = $1 AND owner = $2 AND expires_at > {NOW}"),
            ),

            channels: format!(
                "SELECT held.lock_id, {CHANNEL}
                 FROM (SELECT lock_id, '{table}'::regclass::oid AS tableoid FROM unnest($1::text[]) AS asked (lock_id))
                     AS held"
            ),
            mark: mark(&table),
        }
    }
}

pub(crate) fn quoted(schema: Option<&TableName>, table: &TableName) -> String {
    schema.map_or_else(|| format!("\"{table}\""), |schema| format!("\"{schema}\".\"{table}\""))
}

/// A grant or a renewal that a crash undoes has been told to somebody, so it waits for the disk even where the role's
/// default says otherwise. The setting holds for this transaction alone, so it works through a pooler too; the statement
/// reads it, so it is made first.
const DURABLE: &str = "commit AS MATERIALIZED (
    SELECT CASE WHEN current_setting('synchronous_commit') = 'off'
                THEN set_config('synchronous_commit', 'on', true) ELSE 'as it is' END AS mode
)";

/// A release need not wait for the disk: if a crash undoes it, the lock ends with its TTL.
const NOT_DURABLE: &str = "commit AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS mode)";

/// The rest counts from the acquisition, or from now where the clock has stepped back behind it: else a step of an hour
/// would let every lock rest for an hour.
fn released(rest: &str) -> String {
    format!("owner = NULL, released_at = {NOW}, expires_at = greatest({NOW}, least(acquired_at, {NOW}) + {rest})")
}

/// What those who wait for a row listen to: one channel for each lock, as a hash, for every role can see the channels and an
/// id may be long. By the table's number, because its name may be written with its schema or without.
const CHANNEL: &str = "'db_mutex_' || md5(held.tableoid || ':' || held.lock_id)";

/// Tells those who wait that a row is free now, unless it rests; where nobody waits it does nothing at all, for NOTIFY
/// makes commits wait for each other. If other applications let the server's queue fill up, it fails the commit: the release
/// is worth more, so it says nothing, and the waiters poll.
fn wake() -> String {
    format!(
        "CASE WHEN held.wanted_until > held.expires_at AND held.expires_at <= {NOW} AND pg_notification_queue_usage() < 0.5
              THEN pg_notify({CHANNEL}, '') END"
    )
}

/// Marks what somebody waits for, so that its release tells, and answers for each row whether it is `marked`, `free`, or
/// `busy`: locked by somebody else, to be marked a little later.
///
/// It never waits for a row, and a verified row's lock is no hindrance to it, nor it to that. What is marked for long enough
/// is only read: of a hundred processes that wait for a lock one writes.
fn mark(table: &str) -> String {
    format!(
        "WITH moment AS MATERIALIZED (SELECT {NOW} AS now),
         seen AS MATERIALIZED (
             SELECT held.lock_id, held.fence, held.expires_at > moment.now AS taken,
                    held.wanted_until > moment.now + $2::bigint / 2 IS TRUE AS known
             FROM unnest($1::text[]) AS asked (lock_id) JOIN {table} AS held USING (lock_id), moment
         ),
         locked AS MATERIALIZED (
             SELECT held.lock_id FROM seen JOIN {table} AS held USING (lock_id), moment
             WHERE seen.taken AND NOT seen.known AND held.expires_at > moment.now
             FOR NO KEY UPDATE OF held SKIP LOCKED
         ),
         marked AS (
             UPDATE {table} AS held SET wanted_until = moment.now + $2 FROM locked, moment
             WHERE held.lock_id = locked.lock_id AND held.expires_at > moment.now
             RETURNING held.lock_id, held.fence
         )
         SELECT seen.lock_id, coalesce(marked.fence, seen.fence),
                CASE WHEN NOT seen.taken THEN 'free'
                     WHEN seen.known OR marked.lock_id IS NOT NULL THEN 'marked'
                     ELSE 'busy' END
         FROM seen LEFT JOIN marked USING (lock_id)"
    )
}

/// Grants what is free; answers a row for each request that it could decide.
///
/// - `moment`: the clock, the same for all.
/// - `taken`: who stands in the way, by a plain read. Such a request locks nothing and writes nothing: no WAL, no fsync.
/// - `free`: the rows to take over, or of an owner who repeats its request. SKIP LOCKED never waits: a row that somebody
///   else has locked is being taken, or protected by a transaction that has verified it. The lock is on the latest
///   version of the row, against which the condition is judged again.
/// - `fresh`: ids that had no row. Of two at once, one gets the conflict and no answer.
/// - `busy`: rows that were skipped.
fn insert(table: &str, requests: &str) -> String {
    format!(
        "WITH {DURABLE},
         moment AS MATERIALIZED (SELECT {NOW} AS now),
         request AS MATERIALIZED (
             SELECT request.*, moment.now, coalesce(moment.now + ttl, {NEVER}) AS expires_at
             FROM {requests}, moment, commit WHERE commit.mode <> 'off'
         ),
         taken AS MATERIALIZED (
             SELECT 'taken' AS verdict, {ROW}, request.now
             FROM request JOIN {table} AS held USING (lock_id)
             WHERE held.expires_at > request.now AND held.owner IS DISTINCT FROM request.owner
         ),
         open AS MATERIALIZED (
             SELECT * FROM request WHERE NOT EXISTS (SELECT FROM taken WHERE taken.lock_id = request.lock_id)
         ),
         free AS MATERIALIZED (
             SELECT held.lock_id FROM open JOIN {table} AS held USING (lock_id)
             WHERE held.expires_at <= open.now OR held.owner = open.owner
             FOR UPDATE OF held SKIP LOCKED
         ),
         granted AS (
             UPDATE {table} AS held SET
                 fence = CASE WHEN held.owner = open.owner THEN held.fence ELSE greatest(held.fence + 1, open.now) END,
                 acquired_at = CASE WHEN held.owner = open.owner THEN held.acquired_at ELSE open.now END,
                 owner = open.owner, holder = open.holder, released_at = NULL, expires_at = open.expires_at,
                 wanted_until = CASE WHEN held.owner = open.owner THEN held.wanted_until END
             FROM free JOIN open USING (lock_id) WHERE held.lock_id = free.lock_id
             RETURNING held.lock_id, held.fence, held.acquired_at, held.expires_at
         ),
         fresh AS (
             INSERT INTO {table} AS held (lock_id, owner, fence, holder, acquired_at, expires_at)
             SELECT lock_id, owner, now, holder, now, expires_at FROM open
             WHERE NOT EXISTS (SELECT FROM {table} AS known WHERE known.lock_id = open.lock_id)
             ORDER BY lock_id
             ON CONFLICT (lock_id) DO NOTHING
             RETURNING lock_id, fence, acquired_at, expires_at
         )
         SELECT * FROM taken
         UNION ALL
         SELECT 'granted', lock_id, true, fence, '', acquired_at, NULL, expires_at, acquired_at FROM granted
         UNION ALL
         SELECT 'granted', lock_id, true, fence, '', acquired_at, NULL, expires_at, acquired_at FROM fresh
         UNION ALL
         SELECT 'busy', {ROW}, open.now FROM open JOIN {table} AS held USING (lock_id)
         WHERE NOT EXISTS (SELECT FROM free WHERE free.lock_id = held.lock_id)"
    )
}
