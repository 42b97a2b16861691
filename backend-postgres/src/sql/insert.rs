//! Granting locks.

use super::{BRIEFLY, DURABLE, FOR_AN_INSERT, Forms, NOW, ROW, WITH_WARNINGS, after, is_row_of, moment};

/// Each returns a verdict (`granted`, `held`, `excessive`, `spent`), the columns of the row, and the clock, for each request
/// that it has decided.
pub(super) fn forms(table: &str) -> Forms {
    let one = "(VALUES ($1::pg_catalog.text, $2::pg_catalog.bytea, $3::pg_catalog.text, $4::bigint))
               AS request (lock_id, owner, holder, ttl)";
    let many = "unnest($1::pg_catalog.text[], $2::pg_catalog.bytea[], $3::pg_catalog.text[], $4::bigint[])
                AS request (lock_id, owner, holder, ttl)";
    Forms { one: plain(table, one), many: plain(table, many), careful: careful(table, many) }
}

/// - `asked`: the requests, and what a plain read says of their rows. One that is refused locks nothing and writes nothing:
///   no WAL, no fsync.
/// - `granted`: an upsert of the others. It sees the latest version of a row, and judges again by that.
fn plain(table: &str, requests: &str) -> String {
    format!(
        "WITH {moment}, {asked},
         granted AS (
             INSERT INTO {table} AS held (lock_id, owner, fence, holder, acquired_at, expires_at, ttl)
             SELECT lock_id, owner, fence, holder, acquired_at, expires_at, ttl FROM asked WHERE refused IS NULL
             {IN_ORDER}
             ON CONFLICT (lock_id) DO UPDATE SET lock_id = excluded.lock_id, {grant} WHERE {free}
             RETURNING {GRANTED}
         )
         {REFUSED} UNION ALL SELECT * FROM granted",
        moment = moment(&[DURABLE, WITH_WARNINGS, BRIEFLY]),
        asked = asked(table, requests),
        // Setting the key, though to the same value, makes the upsert lock the row with FOR UPDATE: only that conflicts with
        // the FOR KEY SHARE of a transaction that has verified the lock.
        grant = grant("excluded"),
        free = free("excluded"),
    )
}

/// - `asked`: as above.
/// - `free`: the rows to take over, or of an owner that repeats its request. SKIP LOCKED never waits: a row that another
///   transaction has locked is being taken, or protected because its lock was verified. The lock is on the latest version
///   of the row, by which it is judged again.
/// - `fresh`: ids that had no row.
fn careful(table: &str, requests: &str) -> String {
    format!(
        "WITH {moment}, {asked},
         free AS MATERIALIZED (
             SELECT asked.* FROM asked JOIN {table} AS held ON {is_row}
             WHERE asked.refused IS NULL AND ({free})
             FOR UPDATE OF held SKIP LOCKED
         ),
         granted AS (
             UPDATE {table} AS held SET {grant} FROM free WHERE {is_free_row}
             RETURNING {GRANTED}
         ),
         fresh AS (
             INSERT INTO {table} AS held (lock_id, owner, fence, holder, acquired_at, expires_at, ttl)
             SELECT lock_id, owner, fence, holder, acquired_at, expires_at, ttl FROM asked WHERE NOT known
             {IN_ORDER}
             ON CONFLICT (lock_id) DO NOTHING
             RETURNING {GRANTED}
         )
         {REFUSED} UNION ALL SELECT * FROM granted UNION ALL SELECT * FROM fresh",
        moment = moment(&[DURABLE, WITH_WARNINGS, FOR_AN_INSERT]),
        asked = asked(table, requests),
        is_row = is_row_of("asked"),
        is_free_row = is_row_of("free"),
        grant = grant("free"),
        free = free("asked"),
    )
}

/// The requests as rows to insert, with what their rows say now. All take the clock's reading as their fence.
fn asked(table: &str, requests: &str) -> String {
    format!(
        "asked AS MATERIALIZED (
             SELECT request.lock_id, request.owner, request.holder, request.ttl, moment.now AS fence,
                    moment.now AS acquired_at, {ends} AS expires_at,
                    held.lock_id IS NOT NULL AS known,
                    CASE WHEN held.owner = request.owner THEN NULL
                         WHEN held.released_by = request.owner THEN 'spent'
                         WHEN {excessive} THEN 'excessive'
                         WHEN held.expires_at > moment.now THEN 'held' END AS refused,
                    held.owner IS NOT NULL AS held_owned, held.fence AS held_fence, held.holder AS held_holder,
                    held.acquired_at AS held_acquired_at, held.released_at AS held_released_at,
                    held.expires_at AS held_expires_at, held.ttl AS held_ttl
             FROM moment, {requests} LEFT JOIN {table} AS held ON {is_row}
         )",
        is_row = is_row_of("request"),
        ends = after("moment.now", "request.ttl"),
        excessive = excessive("moment.now"),
    )
}

const REFUSED: &str =
    "SELECT refused, lock_id, held_owned, held_fence, held_holder, held_acquired_at, held_released_at,
                              held_expires_at, held_ttl, acquired_at
                       FROM asked WHERE refused IS NOT NULL";

const GRANTED: &str = "'granted', held.lock_id, true, held.fence, '', held.acquired_at, NULL::bigint, held.expires_at,
                       held.ttl, held.acquired_at";

/// Two statements that insert the same ids in the same order do not wait for each other.
const IN_ORDER: &str = r#"ORDER BY lock_id COLLATE pg_catalog."C""#;

/// What a grant writes over a row. The same owner again gets its own lease back, which is never shortened.
fn grant(asked: &str) -> String {
    format!(
        "owner = {asked}.owner, holder = {asked}.holder, released_at = NULL,
         fence = CASE WHEN held.owner = {asked}.owner THEN held.fence ELSE greatest(held.fence + 1, {asked}.fence) END,
         acquired_at = CASE WHEN held.owner = {asked}.owner THEN held.acquired_at ELSE {asked}.acquired_at END,
         expires_at = CASE WHEN held.owner = {asked}.owner THEN greatest(held.expires_at, {asked}.expires_at)
                           ELSE {asked}.expires_at END,
         ttl = CASE WHEN held.owner = {asked}.owner THEN greatest(held.ttl, {asked}.ttl) ELSE {asked}.ttl END,
         wanted_until = CASE WHEN held.owner = {asked}.owner THEN held.wanted_until END"
    )
}

/// Whether a row can be granted. An owner that was released is not granted the lock again, by a request that arrives late.
fn free(asked: &str) -> String {
    format!(
        "held.owner = {asked}.owner
         OR held.expires_at <= {asked}.acquired_at AND held.released_by IS DISTINCT FROM {asked}.owner"
    )
}

/// Whether a row stays taken for so long that the clock must have been ahead when it was written. Written so that neither a
/// TTL nor an end of never overflows.
fn excessive(now: &str) -> String {
    format!("held.expires_at - {now} - greatest(10000000, held.ttl / 10) > held.ttl")
}

/// Lets excessive rows end within their TTL; returns them as they are then.
///
/// The clock is read when the rows are locked: with an earlier reading, a lease that was renewed in between would be cut
/// short, and the lock would have two holders.
pub(super) fn end_excess(table: &str) -> String {
    format!(
        "WITH locked AS MATERIALIZED (
             SELECT held.lock_id
             FROM pg_catalog.unnest($1::pg_catalog.text[]) AS asked (lock_id) JOIN {table} AS held ON {is_row}
             FOR NO KEY UPDATE OF held SKIP LOCKED
         ),
         moment AS MATERIALIZED (SELECT lock_id, {NOW} AS now FROM locked)
         UPDATE {table} AS held SET expires_at = moment.now + held.ttl
         FROM moment WHERE {is_locked_row} AND {excessive}
         RETURNING {ROW}, moment.now",
        is_row = is_row_of("asked"),
        is_locked_row = is_row_of("moment"),
        excessive = excessive("moment.now"),
    )
}
