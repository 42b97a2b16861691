//! Every statement of this backend, as text: values are numbers or hexadecimal literals, which no `sql_mode` and no
//! character set can change, and which need no round trip to be prepared.

use std::fmt::Write;

use db_mutex_core::{DeleteBy, DeleteRequest, InsertRequest, LockId, OwnerToken, RenewRequest, TableName, Ttl};

/// Microseconds since 1970, UTC, when the statement began: before it waited for any row, so it may be late and refuse, but
/// never early and grant. `NOW()` and `UNIX_TIMESTAMP()` depend on the session's time zone.
pub(crate) const NOW: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
const NEVER: &str = "9223372036854775807";

/// The statements for one table.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    table: String,
}

impl Sql {
    pub(crate) fn for_table(table: &TableName) -> Self {
        Self { table: format!("`{table}`") }
    }

    /// Grants what is absent or released, or is the owner's already.
    ///
    /// The select is a plain read (at READ COMMITTED), so that a refused attempt locks and writes nothing. What it lets
    /// through is judged again under the row's lock.
    pub(crate) fn insert(&self, requests: &[&InsertRequest]) -> String {
        let from = format!(
            "LEFT JOIN {table} AS h FORCE INDEX (PRIMARY) ON h.lock_id = r.id
             WHERE h.lock_id IS NULL OR h.owner = r.own OR (h.owner IS NULL AND h.expires_at <= {NOW})",
            table = self.table
        );
        self.upsert(requests, &from, &format!("{t}.owner IS NULL AND {t}.expires_at <= {NOW}", t = self.table))
    }

    /// Grants what a holder has left behind: its row has expired and still has an owner.
    ///
    /// A transaction that has verified that owner has a share lock on its `by_owner` entry. The lock is asked for through
    /// that index, and rows that do not give it at once are skipped: never waited for.
    pub(crate) fn take_over(&self, requests: &[&InsertRequest]) -> String {
        let from = format!(
            "STRAIGHT_JOIN {table} AS h FORCE INDEX (by_owner) ON h.lock_id = r.id
             WHERE h.expires_at <= {NOW} FOR UPDATE SKIP LOCKED",
            table = self.table
        );
        self.upsert(requests, &from, &format!("{t}.expires_at <= {NOW}", t = self.table))
    }

    /// Assignments run from left to right, or all at once with MariaDB's `SIMULTANEOUS_ASSIGNMENT`; these are right both
    /// ways. What a condition reads is assigned last: `owner` and then `expires_at`, which finds the owner changed or not.
    fn upsert(&self, requests: &[&InsertRequest], from: &str, free: &str) -> String {
        let asked = rows(requests.iter().map(|request| {
            format!(
                "{id} AS id, {own} AS own, CONVERT({holder} USING utf8mb4) AS holder, {expiry} AS expiry",
                id = id(&request.lock_id),
                own = own(&request.owner),
                holder = hex(request.holder.as_str().as_bytes()),
                expiry = expiry(request.ttl),
            )
        }));
        format!(
            "INSERT INTO {t} (lock_id, owner, fence, holder, acquired_at, released_at, expires_at)
             SELECT r.id, r.own, {NOW}, r.holder, {NOW}, NULL, r.expiry FROM ({asked}) AS r {from}
             ON DUPLICATE KEY UPDATE
                 fence       = IF({t}.owner <=> r.own, {t}.fence, IF({free}, GREATEST({t}.fence + 1, {NOW}), {t}.fence)),
                 acquired_at = IF({t}.owner <=> r.own, {t}.acquired_at, IF({free}, {NOW}, {t}.acquired_at)),
                 holder      = IF({t}.owner <=> r.own OR ({free}), r.holder, {t}.holder),
                 released_at = IF({t}.owner <=> r.own OR ({free}), NULL, {t}.released_at),
                 owner       = IF({free}, r.own, {t}.owner),
                 expires_at  = IF({t}.owner <=> r.own OR ({free}), r.expiry, {t}.expires_at)",
            t = self.table
        )
    }

    /// Through the primary key alone: the `by_owner` entry may be locked by a transaction that has verified it.
    pub(crate) fn renew(&self, requests: &[&RenewRequest]) -> String {
        let asked = rows(requests.iter().map(|request| {
            let (id, own, expiry) = (id(&request.lock_id), own(&request.owner), expiry(request.ttl));
            format!("{id} AS id, {own} AS own, {expiry} AS expiry")
        }));
        format!(
            "UPDATE ({asked}) AS r STRAIGHT_JOIN {table} AS t FORCE INDEX (PRIMARY) ON t.lock_id = r.id
             SET t.expires_at = r.expiry WHERE t.owner = r.own AND t.expires_at > {NOW}",
            table = self.table
        )
    }

    /// Releases; the last insert id of the answer is not zero if it did. (Affected rows would do too, here.)
    pub(crate) fn delete(&self, request: &DeleteRequest) -> String {
        // The rest counts from the acquisition, or from now where the clock has stepped back behind it: else a step of an
        // hour would let every lock rest for an hour.
        let (whose, released_at, expires_at) = match &request.by {
            DeleteBy::Owner(owner) => (
                format!("owner = {} AND", own(owner)),
                NOW.to_owned(),
                format!("GREATEST({NOW}, LEAST(acquired_at, {NOW}) + {})", request.hold_at_least_us()),
            ),
            DeleteBy::Force => (String::new(), format!("IFNULL(released_at, {NOW})"), NOW.to_owned()),
        };
        format!(
            "UPDATE {table} FORCE INDEX (PRIMARY) SET fence = LAST_INSERT_ID(fence), released_at = {released_at},
                 owner = NULL, expires_at = {expires_at}
             WHERE lock_id = {id} AND {whose} expires_at > {NOW}",
            table = self.table,
            id = id(&request.lock_id),
        )
    }

    /// The rows of some ids.
    pub(crate) fn find<'a>(&self, ids: impl IntoIterator<Item = &'a LockId>) -> String {
        let ids: Vec<_> = ids.into_iter().map(id).collect();
        format!("{} FORCE INDEX (PRIMARY) WHERE lock_id IN ({})", self.select(), ids.join(", "))
    }

    pub(crate) fn list(&self, include_free: bool) -> String {
        let taken = if include_free { String::new() } else { format!("WHERE expires_at > {NOW}") };
        format!("{} {taken} ORDER BY lock_id", self.select())
    }

    /// Ids that a purge may take, from a plain read, so that it locks no row that stays. Without its row an id starts
    /// again at the clock: only a fence behind the clock may go.
    pub(crate) fn purgeable(&self, older_than_us: i64, after: &[u8], limit: usize) -> String {
        format!(
            "SELECT lock_id FROM {table} WHERE lock_id > {after} AND {old} ORDER BY lock_id LIMIT {limit}",
            table = self.table,
            after = hex(after),
            old = old(older_than_us),
        )
    }

    pub(crate) fn purge(&self, older_than_us: i64, ids: &[Vec<u8>]) -> String {
        let list: Vec<_> = ids.iter().map(|id| hex(id)).collect();
        format!("DELETE FROM {} WHERE lock_id IN ({}) AND {}", self.table, list.join(", "), old(older_than_us))
    }

    /// A write that changes nothing, and that a server which accepts no writes refuses.
    pub(crate) fn probe(&self) -> String {
        format!("UPDATE {} SET released_at = released_at WHERE lock_id = X''", self.table)
    }

    /// The server's clock, if the owner still owns the lock; from then on nobody else can own it until the commit.
    ///
    /// It reads nothing but `by_owner`, and so locks nothing but the entry there: a renewal does not touch that, a takeover
    /// has to change it.
    pub(crate) fn verify(&self, id: &str, owner: &str) -> String {
        format!(
            "SELECT {NOW} FROM {table} FORCE INDEX (by_owner) WHERE lock_id = {id} AND owner = {owner} LOCK IN SHARE MODE",
            table = self.table
        )
    }

    pub(crate) fn verify_owner(&self, lock_id: &LockId, owner: &OwnerToken) -> String {
        self.verify(&id(lock_id), &own(owner))
    }

    /// The columns that `row` reads. The holder as bytes: the connection may have a smaller character set.
    fn select(&self) -> String {
        format!(
            "SELECT lock_id, owner, fence, CAST(holder AS BINARY), acquired_at, released_at, expires_at, {NOW} FROM {}",
            self.table
        )
    }
}

fn old(older_than_us: i64) -> String {
    format!("expires_at <= {NOW} - {older_than_us} AND fence < {NOW}")
}

/// A table of what is asked, in its order: in the order of the ids, so that two batches cannot deadlock.
fn rows(selects: impl Iterator<Item = String>) -> String {
    let selects: Vec<_> = selects.map(|columns| format!("SELECT {columns}")).collect();
    selects.join(" UNION ALL ")
}

fn id(id: &LockId) -> String {
    hex(id.as_str().as_bytes())
}

fn own(owner: &OwnerToken) -> String {
    hex(owner.as_bytes())
}

fn expiry(ttl: Ttl) -> String {
    ttl.as_micros().map_or_else(|| NEVER.to_owned(), |ttl| format!("{NOW} + {ttl}"))
}

fn hex(bytes: &[u8]) -> String {
    let mut literal = String::with_capacity(2 * bytes.len() + 3);
    literal.push_str("X'");
    for byte in bytes {
        let _ = write!(literal, "{byte:02x}");
    }
    literal.push('\'');
    literal
}
