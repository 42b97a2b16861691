//! Waking those who wait for a lock when it is released.

use super::NOW;

/// What those who wait for a row listen to: one channel for each lock, as a hash, because every role can see the channels and
/// an id may be long. By the table's number, because its name may be written with its schema or without.
const CHANNEL: &str = "'db_mutex_' || pg_catalog.md5(held.tableoid || ':' || held.lock_id)";

/// Returns the ids with their channels.
pub(super) fn channels(table: &str) -> String {
    format!(
        "SELECT held.lock_id, {CHANNEL}
         FROM (SELECT lock_id, '{table}'::pg_catalog.regclass::pg_catalog.oid AS tableoid
               FROM pg_catalog.unnest($1::pg_catalog.text[]) AS asked (lock_id)) AS held"
    )
}

/// Notifies those who wait that a row is free now, unless it rests; if no one waits it does nothing at all, because NOTIFY
/// makes commits wait for each other. If other applications let the server's queue fill up, it fails the commit: the release
/// matters more, so it sends nothing, and the waiters poll. A column of the RETURNING clause of a release.
pub(super) fn wake() -> String {
    format!(
        "CASE WHEN held.wanted_until > moment.now AND held.expires_at <= moment.now
                   AND pg_catalog.pg_notification_queue_usage() < 0.5
              THEN pg_catalog.pg_notify({CHANNEL}, '')::pg_catalog.text END"
    )
}

/// Marks rows that are waited for, so that their release notifies, and returns for each whether it is `marked`, `free`, or
/// `busy`: locked by another transaction, to be marked a little later.
///
/// It never waits for a row, and does not conflict with the row lock of a transaction that has verified. A row that is marked
/// for long enough is only read: of a hundred processes that wait for a lock one writes.
pub(super) fn mark(table: &str) -> String {
    format!(
        "WITH moment AS MATERIALIZED (SELECT {NOW} AS now),
         seen AS MATERIALIZED (
             SELECT held.lock_id, held.fence, held.expires_at > moment.now AS taken,
                    held.wanted_until > moment.now + $2::bigint / 2 IS TRUE AS known
             FROM pg_catalog.unnest($1::pg_catalog.text[]) AS asked (lock_id) JOIN {table} AS held USING (lock_id), moment
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
