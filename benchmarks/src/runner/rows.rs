//! Tables with many rows.

use super::plan::MILLION;
use super::servers::{Cost, Servers};
use crate::spec::Failure;

/// Rows of locks that were released long ago, whose ids are spread like those that are measured.
pub(super) fn fill(servers: &Servers, server: &str, rows: usize) -> Result<(), Failure> {
    servers.create(server, MILLION)?;
    let statements = match server {
        "postgres" => vec![
            format!(
                "INSERT INTO {MILLION} (lock_id, released_by, fence, holder, acquired_at, released_at, expires_at, ttl)
                 SELECT md5(n::text), decode(md5(n::text), 'hex'), n, 'filled', n, n, 0, 60000000
                 FROM generate_series(1, {rows}) AS n"
            ),
            // What the server would do by itself in a while must not happen beside a measurement.
            format!("VACUUM ANALYZE {MILLION}"),
            "CHECKPOINT".into(),
        ],
        "sqlite" => vec![
            format!(
                "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {rows})
                 INSERT INTO {MILLION} (lock_id, released_by, fence, holder, acquired_at, released_at, expires_at, ttl)
                 SELECT lower(hex(randomblob(16))), randomblob(16), n, 'filled', n, n, 0, 60000000 FROM numbers"
            ),
            "PRAGMA wal_checkpoint(TRUNCATE)".into(),
        ],
        _ => {
            let digit = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
                         UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
            // In parts, because a transaction of all would not fit into the redo log at once.
            let part = 100_000.min(rows);
            (0..rows.div_ceil(part))
                .map(|at| {
                    format!(
                        "INSERT INTO {MILLION}
                             (lock_id, released_by, fence, holder, acquired_at, released_at, expires_at, ttl)
                         SELECT LEFT(SHA2(n, 256), 32), UNHEX(LEFT(SHA2(n, 256), 32)), n, 'filled', n, n, 0, 60000000 FROM (
                             SELECT 1 + {first} + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d AS n
                             FROM {digit} a, {digit} b, {digit} c, {digit} d, {digit} e
                         ) AS numbers WHERE n <= {last}",
                        first = at * part,
                        last = rows.min((at + 1) * part),
                    )
                })
                .collect()
        }
    };
    servers.execute(server, MILLION, &statements).map(drop)
}

/// Removes what a measurement has added.
pub(super) fn remove_new(servers: &Servers, server: &str) -> Result<(), Failure> {
    servers.execute(server, MILLION, &[format!("DELETE FROM {MILLION} WHERE holder <> 'filled'")]).map(drop)
}

/// What one plain UPDATE of all rows costs.
pub(super) fn update_all(servers: &Servers, server: &str, table: &str) -> Result<Cost, Failure> {
    const TIMES: usize = 10;
    // One transaction each, as a renewal is.
    let update = format!("UPDATE {table} SET expires_at = expires_at + 1");
    let Cost { cpu, seconds } = servers.execute(server, table, &vec![update; TIMES])?;
    Ok(Cost { cpu: cpu / TIMES as f64, seconds: seconds / TIMES as f64 })
}
