//! Renewing and releasing what an owner holds.

use super::wake::wake;
use super::{BRIEFLY, DURABLE, Forms, NOT_DURABLE, WITH_WARNINGS, after, is_row_of, moment};

/// Whether the lease is the request's owner's, and lasts.
const HELD: &str = "held.owner = request.owner AND held.expires_at > moment.now";

/// Each returns `renewed`, the lock id and the lease, or `busy` and the lock id. An id without an answer is not held.
pub(super) fn renew(table: &str) -> Forms {
    let change = Change {
        table,
        settings: DURABLE,
        // A renewal never shortens a lease, so renewals may arrive late, twice and in any order.
        set: format!(
            "expires_at = greatest(held.expires_at, {ends}), ttl = greatest(held.ttl, request.ttl)",
            ends = after("moment.now", "request.ttl")
        ),
        condition: HELD,
        returning: "'renewed' AS verdict, held.lock_id, held.fence, held.acquired_at, held.expires_at".into(),
        confirmed: "false",
    };
    let request = "request (lock_id, owner, ttl)";
    change.forms(request, "NULL, NULL, NULL", "false")
}

/// Each returns `released`, `already` or `busy`, and the lock id. An id without an answer is not held.
pub(super) fn delete(table: &str) -> Forms {
    let change = Change {
        table,
        settings: NOT_DURABLE,
        set: released(&format!("CASE WHEN {RESTS} THEN {REST_ENDS} ELSE 0 END + {DURABLE_IF_ENDLESS}"))
            + &format!(", ttl = CASE WHEN {RESTS} THEN {REST_ENDS} - moment.now ELSE held.ttl END"),
        condition: HELD,
        returning: format!("'released' AS verdict, held.lock_id, {}", wake()),
        // Others end with their TTL. Of a lock that rests, the row does not say whether its lease was endless.
        confirmed: "held.ttl = 9223372036854775807 OR held.expires_at > 0",
    };
    change.forms("request (lock_id, owner, rest)", "NULL", "held.released_by = request.owner")
}

/// The careful form only: it is an operator's request, and seldom. It ends a rest too.
pub(super) fn delete_by_fence(table: &str) -> String {
    let change = Change {
        table,
        settings: DURABLE,
        set: released("0"),
        condition: "held.fence = request.fence AND held.expires_at > moment.now",
        returning: format!("'released' AS verdict, held.lock_id, {}", wake()),
        confirmed: "true",
    };
    let already = "held.fence = request.fence AND held.owner IS NULL AND held.expires_at <= moment.now";
    change.careful("unnest($1::pg_catalog.text[], $2::bigint[]) AS request (lock_id, fence)", "NULL", already)
}

/// The rest counts from the acquisition, or from now where the clock has stepped back: otherwise a step of an hour would let
/// every lock rest for an hour.
const REST_ENDS: &str = "least(held.acquired_at, moment.now) + request.rest";
const RESTS: &str = "request.rest > 0 AND least(held.acquired_at, moment.now) + request.rest > moment.now";

/// Zero. The release of a lease that never ends waits for the disk: if a crash undid it, nothing would end the lock.
const DURABLE_IF_ENDLESS: &str = "CASE WHEN held.expires_at < 9223372036854775807 THEN 0
                                       WHEN pg_catalog.set_config('synchronous_commit', 'on', true) <> '' THEN 0 END";

/// `already`, confirmed first if the condition holds. The standbys may not have the release yet, because the wait for them was
/// cancelled or ended by a crash, and a promotion would bring the lock back. A transaction that writes nothing waits for no one, so
/// this one writes a message to the log, which has no effect: its commit is confirmed after all before it.
fn already_verdict(is_to_be_confirmed: &str) -> String {
    format!(
        "CASE WHEN NOT ({is_to_be_confirmed}) OR pg_catalog.current_setting('synchronous_standby_names') = '' THEN 'already'
              WHEN pg_catalog.set_config('synchronous_commit', 'on', true) <> ''
                   AND pg_catalog.pg_logical_emit_message(true, 'db-mutex', ''::pg_catalog.text) IS NOT NULL
              THEN 'already' END"
    )
}

/// What a release writes. Without a rest it leaves no time in the future, so a clock that was ahead does not matter.
fn released(expires_at: &str) -> String {
    format!(
        "owner = NULL, released_by = coalesce(held.owner, held.released_by),
         released_at = coalesce(held.released_at, moment.now), expires_at = {expires_at}"
    )
}

/// A change of rows that are there.
struct Change<'a> {
    table: &'a str,
    settings: &'a str,
    set: String,
    condition: &'a str,
    returning: String,
    /// Whether what was done before has to be confirmed once more.
    confirmed: &'a str,
}

impl Change<'_> {
    fn forms(&self, request: &str, nothing: &str, already: &str) -> Forms {
        let one = format!("(VALUES ($1::pg_catalog.text, $2::pg_catalog.bytea, $3::bigint)) AS {request}");
        let many = format!("unnest($1::pg_catalog.text[], $2::pg_catalog.bytea[], $3::bigint[]) AS {request}");
        Forms { one: self.plain(&one), many: self.plain(&many), careful: self.careful(&many, nothing, already) }
    }

    /// Changes what fulfils the condition in its latest version.
    fn plain(&self, requests: &str) -> String {
        let Self { table, settings, set, condition, returning, .. } = self;
        format!(
            "WITH {moment}
             UPDATE {table} AS held SET {set} FROM moment, {requests}
             WHERE {is_row} AND {condition}
             RETURNING {returning}",
            is_row = is_row_of("request"),
            moment = moment(&[settings, WITH_WARNINGS, BRIEFLY]),
        )
    }

    /// The same for rows that no other transaction has locked. A row that seems to fulfil the condition and was not locked
    /// is busy: another transaction has it locked, or has just changed it.
    fn careful(&self, requests: &str, nothing: &str, already: &str) -> String {
        let Self { table, settings, set, condition, returning, confirmed } = self;
        format!(
            "WITH {moment},
             request AS MATERIALIZED (SELECT * FROM {requests}),
             locked AS MATERIALIZED (
                 SELECT request.* FROM moment, request JOIN {table} AS held ON {is_row}
                 WHERE {condition} FOR NO KEY UPDATE OF held SKIP LOCKED
             ),
             changed AS (
                 UPDATE {table} AS held SET {set} FROM moment, locked AS request
                 WHERE {is_row}
                 RETURNING {returning}
             )
             SELECT * FROM changed
             UNION ALL
             SELECT CASE WHEN {already} THEN {verdict} ELSE 'busy' END, held.lock_id, {nothing}
             FROM moment, request JOIN {table} AS held ON {is_row}
             WHERE ({already}) OR {condition} AND held.lock_id NOT IN (SELECT lock_id FROM locked)",
            verdict = already_verdict(confirmed),
            moment = moment(&[settings, WITH_WARNINGS]),
            is_row = is_row_of("request"),
        )
    }
}
