//! The rules with times and TTLs as plain microseconds, which a model adds, subtracts and compares.

use db_mutex_core::store::{Fence, HolderName, LockId, LockRow, OwnerToken, StoreTime, Ttl};
use db_mutex_core::store::{duration_from_micros, duration_to_micros};

pub(crate) const NEVER_US: i64 = i64::MAX;

/// A row of [`rules`](db_mutex_core::store::rules).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) owner: Option<OwnerToken>,
    pub(crate) released_by: Option<OwnerToken>,
    pub(crate) fence: i64,
    holder: HolderName,
    pub(crate) acquired_at_us: i64,
    pub(crate) released_at_us: Option<i64>,
    pub(crate) expires_at_us: i64,
    pub(crate) ttl_us: i64,
}

impl Row {
    /// The row as it is shown to readers.
    pub(crate) fn read(&self, lock_id: LockId, now: StoreTime) -> LockRow {
        to_store(self).read(lock_id, now)
    }
}

fn to_store(row: &Row) -> db_mutex_core::store::rules::Row {
    let no_owner = OwnerToken::from_bytes([0; 16]);
    let acquired_at = StoreTime::from_micros(row.acquired_at_us);
    let mut stored = db_mutex_core::store::rules::Row::new(
        no_owner,
        Fence::new(row.fence),
        row.holder.clone(),
        acquired_at,
        Ttl::NEVER,
    );
    stored.owner = row.owner;
    stored.released_by = row.released_by;
    stored.released_at = row.released_at_us.map(StoreTime::from_micros);
    stored.expires_at = StoreTime::from_micros(row.expires_at_us);
    stored.ttl = duration_from_micros(row.ttl_us);
    stored
}

fn from_store(row: db_mutex_core::store::rules::Row) -> Row {
    Row {
        owner: row.owner,
        released_by: row.released_by,
        fence: row.fence.get(),
        holder: row.holder,
        acquired_at_us: row.acquired_at.as_micros(),
        released_at_us: row.released_at.map(StoreTime::as_micros),
        expires_at_us: row.expires_at.as_micros(),
        ttl_us: duration_to_micros(row.ttl),
    }
}

pub(crate) mod rules {
    use std::time::Duration;

    use db_mutex_core::store::{
        DeleteRequest, Deleted, InsertRequest, Inserted, RenewRequest, Renewed, StoreTime, rules,
    };

    use super::{Row, from_store, to_store};

    pub(crate) struct Outcome<A> {
        pub(crate) answer: A,
        pub(crate) write: Option<Row>,
    }

    fn outcome<A>(outcome: rules::Outcome<A>) -> Outcome<A> {
        Outcome { answer: outcome.answer, write: outcome.write.map(from_store) }
    }

    pub(crate) fn insert(row: Option<&Row>, request: &InsertRequest, now_us: i64) -> Outcome<Inserted> {
        outcome(rules::insert(row.map(to_store).as_ref(), request, StoreTime::from_micros(now_us)))
    }

    pub(crate) fn renew(row: Option<&Row>, request: &RenewRequest, now_us: i64) -> Outcome<Renewed> {
        outcome(rules::renew(row.map(to_store).as_ref(), request, StoreTime::from_micros(now_us)))
    }

    pub(crate) fn delete(row: Option<&Row>, request: &DeleteRequest, now_us: i64) -> Outcome<Deleted> {
        outcome(rules::delete(row.map(to_store).as_ref(), request, StoreTime::from_micros(now_us)))
    }

    pub(crate) fn is_excessive(row: &Row, now_us: i64) -> bool {
        rules::is_excessive(&to_store(row), StoreTime::from_micros(now_us))
    }

    pub(crate) fn end_excess(row: &Row, now_us: i64) -> Option<Row> {
        rules::end_excess(&to_store(row), StoreTime::from_micros(now_us)).map(from_store)
    }

    pub(crate) fn is_purgeable(row: &Row, older_than: Duration, now_us: i64) -> bool {
        rules::is_purgeable(&to_store(row), older_than, StoreTime::from_micros(now_us))
    }
}
