//! Every statement of this backend.
//!
//! No insert, renewal or delete waits for a row. They are all of one shape, which MySQL and MariaDB both have:
//! `INSERT … SELECT … FOR UPDATE SKIP LOCKED ON DUPLICATE KEY UPDATE`. The select locks the rows that it can lock at once,
//! and the update changes these alone. (A plain `UPDATE` waits for a locked row; MySQL waits a second at least.)
//!
//! What changes `owner` locks through `by_owner`, the key that a transaction has locked which has verified the lock. What
//! leaves `owner` as it is locks through `PRIMARY`, and so goes on beside such a transaction.

use std::sync::Arc;

use db_mutex_core::store::{DeleteRequest, InsertRequest, RenewRequest};
use db_mutex_core::{Fence, LockId, OwnerToken, TableName};

use crate::cluster::Cluster;
use crate::galera;
use crate::statement::{Datum, Statement, hex};

/// Microseconds since 1970, UTC, when the statement began. That is before it locked any row, but it never waits for one, so
/// hardly before. `NOW()` and `UNIX_TIMESTAMP()` depend on the session's time zone.
pub(crate) const NOW: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";

/// Precedes a read whose result is reported. Connections read uncommitted rows otherwise (see `session`), and what is not
/// committed may be lost in a crash.
pub(crate) const COMMITTED: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";

const COLUMNS: &str = "lock_id, owner, released_by, fence, holder, acquired_at, released_at, expires_at, ttl";
const COLUMNS_OF_H: &str =
    "h.lock_id, h.owner, h.released_by, h.fence, h.holder, h.acquired_at, h.released_at, h.expires_at, h.ttl";

/// A time or a TTL that means never.
const NEVER: i64 = i64::MAX;

/// The statements for one table.
pub(crate) struct Sql {
    table: String,
    insert: Arc<str>,
    delete: Arc<str>,
    cluster: Cluster,
    pub(crate) verify: String,
}

impl Sql {
    pub(crate) fn for_table(table: &TableName, cluster: Cluster) -> Self {
        let table = format!("`{table}`");
        let insert = insert(
            &table,
            "SELECT CAST(? AS BINARY) AS id, CAST(? AS BINARY) AS own, CONVERT(CAST(? AS BINARY) USING utf8mb4) AS holder, \
             CAST(? AS SIGNED) AS ttl",
        );
        let delete =
            delete(&table, "SELECT CAST(? AS BINARY) AS id, CAST(? AS BINARY) AS own, CAST(? AS SIGNED) AS rest");
        let verify = verify(&table, cluster, "?", "?");
        Self { table, insert: insert.into(), delete: delete.into(), cluster, verify }
    }

    /// What sends an insert: on Galera a transaction, in which it comes second.
    pub(crate) fn granting(&self, insert: Statement, requests: &[&InsertRequest]) -> Vec<Statement> {
        match self.cluster {
            Cluster::One => vec![insert],
            Cluster::Galera { .. } => galera::granting(&self.table, insert, requests),
        }
    }

    /// Grants the lock if it is free. The last insert id is the time of the grant and the fencing token, or zero if nothing
    /// was granted, or a fencing token that is ahead of the clock. In that case the row has to be read.
    pub(crate) fn insert(&self, request: &InsertRequest) -> Statement {
        let values = vec![
            Datum::Bytes(request.lock_id.as_str().into()),
            Datum::Bytes(request.owner.as_bytes().to_vec()),
            Datum::Bytes(request.holder.as_str().into()),
            Datum::Number(request.ttl.to_micros()),
        ];
        Statement::with_values(&self.insert, values)
    }

    /// Grants those of many locks that are free. If the last insert id is not zero it is the time of these grants.
    pub(crate) fn insert_many(&self, requests: &[&InsertRequest]) -> Statement {
        insert(&self.table, &with_holders(requests)).into()
    }

    /// Prolongs leases. The last insert id is the time of the renewals; it is zero if there was none.
    pub(crate) fn renew_many(&self, requests: &[&RenewRequest]) -> Statement {
        let asked = asked(
            ["id", "own", "ttl"],
            requests
                .iter()
                .map(|request| [id(&request.lock_id), own(&request.owner), request.ttl.to_micros().to_string()]),
        );
        self.prolong(&asked, &format!("AND h.expires_at > {NOW}"), "").into()
    }

    /// Prolongs the leases of owners that ask again for what they have been granted, also if the leases have ended: no one
    /// else was granted the locks.
    pub(crate) fn repeat_many(&self, requests: &[&InsertRequest]) -> Statement {
        let holder = format!(", {}.holder = r.holder", self.table);
        self.prolong(&with_holders(requests), "", &holder).into()
    }

    /// Through `PRIMARY`, because a transaction that has verified the lock keeps `by_owner`. Never shortens a lease, so that
    /// a renewal may arrive late or twice.
    fn prolong(&self, asked: &str, condition: &str, and: &str) -> String {
        format!(
            "INSERT INTO {t} ({COLUMNS})
             SELECT STRAIGHT_JOIN {COLUMNS_OF_H} FROM ({asked}) AS r
             STRAIGHT_JOIN {t} AS h FORCE INDEX (PRIMARY) ON h.lock_id = r.id
             WHERE h.owner = r.own {condition} FOR UPDATE SKIP LOCKED
             ON DUPLICATE KEY UPDATE
                 expires_at = GREATEST({t}.expires_at, LAST_INSERT_ID({NOW}) + {ttl}),
                 ttl        = GREATEST({t}.ttl, r.ttl){and}",
            t = self.table,
            ttl = bounded("r.ttl"),
        )
    }

    /// Releases a lock. The last insert id is not zero if it did.
    pub(crate) fn delete(&self, request: &DeleteRequest, owner: &OwnerToken) -> Statement {
        let values = vec![
            Datum::Bytes(request.lock_id.as_str().into()),
            Datum::Bytes(owner.as_bytes().to_vec()),
            Datum::Number(request.hold_at_least_us()),
        ];
        Statement::with_values(&self.delete, values)
    }

    /// Releases many locks. Two rows are affected for each that it releases; the last insert id is when it did.
    pub(crate) fn delete_many(&self, requests: &[(&DeleteRequest, OwnerToken)]) -> Statement {
        let asked = asked(
            ["id", "own", "rest"],
            requests
                .iter()
                .map(|(request, owner)| [id(&request.lock_id), own(owner), request.hold_at_least_us().to_string()]),
        );
        delete(&self.table, &asked).into()
    }

    /// Ends one acquisition by force. The last insert id is not zero if it did.
    ///
    /// The first read finds the owner, whose `by_owner` entry the second locks.
    pub(crate) fn delete_by_fence(&self, lock_id: &LockId, fence: Fence) -> Statement {
        let id = id(lock_id);
        format!(
            "INSERT INTO {t} ({COLUMNS})
             SELECT STRAIGHT_JOIN h.lock_id, h.owner, h.released_by, LAST_INSERT_ID(h.fence), h.holder, h.acquired_at,
                 h.released_at, h.expires_at, h.ttl
             FROM (SELECT lock_id, owner FROM {t} FORCE INDEX (PRIMARY) WHERE lock_id = {id} AND fence = {fence}) AS p
             STRAIGHT_JOIN {t} AS h FORCE INDEX (by_owner) ON h.lock_id = p.lock_id AND h.owner <=> p.owner
             WHERE h.fence = {fence} AND h.expires_at > {NOW} FOR UPDATE SKIP LOCKED
             ON DUPLICATE KEY UPDATE
                 released_by = IFNULL({t}.owner, {t}.released_by),
                 owner       = NULL,
                 released_at = IFNULL({t}.released_at, {NOW}),
                 expires_at  = 0",
            t = self.table,
        )
        .into()
    }

    /// Lets excessive rows end within their TTLs; leaves those that another transaction has locked.
    ///
    /// A separate statement locks the rows, so that the next one reads the clock while they are locked. With an earlier
    /// reading, a lease that was renewed in between would be cut short, and the lock would have two holders. The last
    /// insert id carries over which rows are locked, a bit for each: without it, the second could lock a row that the first
    /// has skipped.
    pub(crate) fn end_excess(&self, lock_ids: &[&LockId]) -> Vec<Statement> {
        let numbered = lock_ids.iter().enumerate().map(|(number, lock_id)| [number.to_string(), id(lock_id)]);
        let asked = asked(["number", "id"], numbered);
        let lock = format!(
            "SELECT STRAIGHT_JOIN LAST_INSERT_ID(BIT_OR(1 << r.number)) FROM ({asked}) AS r
             STRAIGHT_JOIN {t} AS h FORCE INDEX (PRIMARY) ON h.lock_id = r.id FOR UPDATE SKIP LOCKED",
            t = self.table,
        );
        let end = format!(
            "INSERT INTO {t} ({COLUMNS})
             SELECT STRAIGHT_JOIN {COLUMNS_OF_H} FROM ({asked}) AS r
             STRAIGHT_JOIN {t} AS h FORCE INDEX (PRIMARY) ON h.lock_id = r.id
             WHERE (LAST_INSERT_ID() >> r.number) & 1 AND {excessive} FOR UPDATE SKIP LOCKED
             ON DUPLICATE KEY UPDATE expires_at = {NOW} + {t}.ttl",
            t = self.table,
            excessive = excessive("h"),
        );
        vec!["START TRANSACTION".into(), lock.into(), end.into(), "COMMIT".into()]
    }

    /// The most rows for `end_excess`.
    pub(crate) const ENDED_AT_ONCE: usize = 64;

    /// The rows of some ids.
    pub(crate) fn find<'a>(&self, ids: impl IntoIterator<Item = &'a LockId>) -> Statement {
        let ids: Vec<_> = ids.into_iter().map(id).collect();
        format!("{} FORCE INDEX (PRIMARY) WHERE lock_id IN ({})", self.select(), ids.join(", ")).into()
    }

    pub(crate) fn list(&self, include_free: bool) -> Statement {
        let taken = if include_free { String::new() } else { format!("WHERE expires_at > {NOW}") };
        format!("{} {taken} ORDER BY lock_id", self.select()).into()
    }

    /// The columns that `row` reads. The holder as bytes: the connection may have a smaller character set.
    fn select(&self) -> String {
        format!(
            "SELECT lock_id, owner, released_by, fence, CAST(holder AS BINARY), acquired_at, released_at, expires_at, ttl,
                 {NOW} FROM {}",
            self.table
        )
    }

    /// Ids that a purge may remove, from a plain read, so that it locks no row that stays.
    pub(crate) fn purgeable(&self, older_than_us: i64, after: &[u8], limit: usize) -> Statement {
        format!(
            "SELECT lock_id FROM {table} WHERE lock_id > {after} AND {old} ORDER BY lock_id LIMIT {limit}",
            table = self.table,
            after = hex(after),
            old = old(older_than_us),
        )
        .into()
    }

    /// Removes rows, except those that are locked. The limit makes a table of what the select has locked: merged with the
    /// outer join, the delete would lock rows itself, and wait for them.
    pub(crate) fn purge(&self, older_than_us: i64, ids: &[Vec<u8>]) -> Statement {
        let list: Vec<_> = ids.iter().map(|id| hex(id)).collect();
        format!(
            "DELETE {t} FROM (SELECT lock_id FROM {t} FORCE INDEX (by_owner) WHERE lock_id IN ({ids}) AND {old}
                 LIMIT {limit} FOR UPDATE SKIP LOCKED) AS h
             STRAIGHT_JOIN {t} FORCE INDEX (PRIMARY) ON {t}.lock_id = h.lock_id",
            t = self.table,
            ids = list.join(", "),
            old = old(older_than_us),
            limit = ids.len(),
        )
        .into()
    }

    /// What goes after a purge of these ids.
    pub(crate) fn after_purge(&self, ids: &[Vec<u8>]) -> Option<Statement> {
        let list: Vec<_> = ids.iter().map(|id| hex(id)).collect();
        self.is_galera().then(|| galera::purge(&self.table, &list.join(", ")))
    }

    /// A write that changes nothing, and that a server which accepts no writes refuses.
    pub(crate) fn probe(&self) -> String {
        format!("UPDATE {} SET released_at = released_at WHERE lock_id = X''", self.table)
    }

    /// See [`verify`].
    pub(crate) fn verify_owner(&self, lock_id: &LockId, owner: &OwnerToken) -> String {
        verify(&self.table, self.cluster, &id(lock_id), &own(owner))
    }

    /// Whether [`verify`](Self::verify) protects a transaction.
    pub(crate) fn can_verify(&self) -> bool {
        self.cluster != Cluster::Galera { returns_rows: false }
    }

    pub(crate) fn is_galera(&self) -> bool {
        self.cluster.is_galera()
    }
}

/// The server's clock, if the owner still owns the lock; from then on no one else can own it until the commit.
///
/// It reads nothing but `by_owner`, and so locks nothing but the entry there: a renewal does not touch that, a takeover
/// has to change it.
fn verify(table: &str, cluster: Cluster, id: &str, owner: &str) -> String {
    if cluster.is_galera() {
        return galera::verify(table, id, owner);
    }
    format!(
        "SELECT {NOW} AS verified FROM {table} FORCE INDEX (by_owner)
         WHERE lock_id = {id} AND owner = {owner} LOCK IN SHARE MODE"
    )
}

/// The first read of the table (`p`) is a plain one: a refused attempt locks and writes nothing. It reads rows that are not
/// committed, so that an id which another transaction has inserted does not count as absent: inserting it would wait. The
/// second (`h`) locks what the first found to be free, or skips it; the `by_owner` entry is that of the last owner. What it
/// has locked is judged again there. The rows that are absent take part without `h`.
///
/// If the insert meets a row that was absent a moment before, it changes nothing: it has not been judged. Assignments run
/// from left to right; none reads a column that another assigns.
fn insert(table: &str, asked: &str) -> String {
    let free = |row: &str| {
        format!("{row}.expires_at <= {NOW} AND NOT {row}.owner <=> r.own AND NOT {row}.released_by <=> r.own")
    };
    let column = |name: &str, value: &str| format!("{name} = IF(h.lock_id IS NULL, {table}.{name}, {value})");
    let ends = format!("{NOW} + {}", bounded("r.ttl"));
    let columns = [
        column("acquired_at", NOW),
        column("holder", "r.holder"),
        column("released_at", "NULL"),
        column("ttl", "r.ttl"),
        column("owner", "r.own"),
        column("expires_at", &ends),
    ];
    format!(
        "INSERT INTO {table} ({COLUMNS})
         SELECT STRAIGHT_JOIN r.id, r.own, NULL, LAST_INSERT_ID({NOW}), r.holder, {NOW}, NULL, {ends}, r.ttl
         FROM (
             SELECT STRAIGHT_JOIN r.*, p.lock_id AS there, p.owner AS last_owner
             FROM ({asked}) AS r LEFT JOIN {table} AS p FORCE INDEX (PRIMARY) ON p.lock_id = r.id
             WHERE p.lock_id IS NULL OR ({free_p})
         ) AS r
         LEFT JOIN {table} AS h FORCE INDEX (by_owner) ON h.lock_id = r.there AND h.owner <=> r.last_owner
         WHERE r.there IS NULL OR ({free_h}) FOR UPDATE SKIP LOCKED
         ON DUPLICATE KEY UPDATE
             fence = IF(h.lock_id IS NOT NULL AND {table}.fence < {NOW}, {NOW},
                 {table}.fence + (h.lock_id IS NOT NULL) + 0 * LAST_INSERT_ID(0)),
             {columns}",
        free_p = free("p"),
        free_h = free("h"),
        columns = columns.join(", "),
    )
}

/// The rest counts from the acquisition, or from now if the clock has stepped back behind it: otherwise a step of an hour
/// would be a rest of an hour. Without a rest nothing is left in the future.
fn delete(table: &str, asked: &str) -> String {
    let rest_ends = format!("LEAST({table}.acquired_at, {NOW}) + r.rest");
    format!(
        "INSERT INTO {table} ({COLUMNS})
         SELECT STRAIGHT_JOIN {COLUMNS_OF_H} FROM ({asked}) AS r
         STRAIGHT_JOIN {table} AS h FORCE INDEX (by_owner) ON h.lock_id = r.id AND h.owner = r.own
         WHERE h.expires_at > {NOW} FOR UPDATE SKIP LOCKED
         ON DUPLICATE KEY UPDATE
             released_by = r.own,
             owner       = NULL,
             released_at = LAST_INSERT_ID({NOW}),
             ttl         = IF({rest_ends} > {NOW}, {rest_ends} - {NOW}, {table}.ttl),
             expires_at  = IF({rest_ends} > {NOW}, {rest_ends}, 0)"
    )
}

/// The owners that ask for locks.
pub(crate) fn owners(requests: &[&InsertRequest]) -> String {
    asked(["id", "own"], requests.iter().map(|request| [id(&request.lock_id), own(&request.owner)]))
}

/// A table of what is asked, in the order of the ids: all rows are locked in one order, so that two batches cannot deadlock.
fn asked<const N: usize>(names: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut asked = String::new();
    for row in rows {
        if asked.is_empty() {
            let columns: Vec<_> = row.iter().zip(names).map(|(value, name)| format!("{value} AS {name}")).collect();
            asked = format!("SELECT {}", columns.join(", "));
        } else {
            asked.push_str(" UNION ALL SELECT ");
            asked.push_str(&row.join(", "));
        }
    }
    asked
}

fn with_holders(requests: &[&InsertRequest]) -> String {
    asked(
        ["id", "own", "holder", "ttl"],
        requests.iter().map(|request| {
            let holder = format!("_utf8mb4 {}", hex(request.holder.as_str().as_bytes()));
            [id(&request.lock_id), own(&request.owner), holder, request.ttl.to_micros().to_string()]
        }),
    )
}

/// What can be added to the clock without an overflow: with a TTL of never the sum is never.
fn bounded(ttl: &str) -> String {
    format!("LEAST({ttl}, {NEVER} - {NOW})")
}

/// `LockRow::is_excessive`; with a TTL of never the sums would overflow.
fn excessive(row: &str) -> String {
    format!(
        "IF({row}.ttl = {NEVER}, FALSE,
             {row}.expires_at - {NOW} > {row}.ttl + GREATEST(10000000, {row}.ttl DIV 10))"
    )
}

/// Released or ended at least that long ago; a release without a rest leaves zero in `expires_at`. Without its row an id
/// starts again at the clock, so its fence has to be as far behind.
fn old(older_than_us: i64) -> String {
    format!(
        "GREATEST(expires_at, IFNULL(released_at, 0)) <= {NOW} - {older_than_us} AND fence < {NOW} - {older_than_us}"
    )
}

fn id(id: &LockId) -> String {
    hex(id.as_str().as_bytes())
}

fn own(owner: &OwnerToken) -> String {
    hex(owner.as_bytes())
}
