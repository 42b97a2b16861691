//! The semantics of a [`LockStore`](crate::LockStore) as pure functions: from a row, a request and the store's clock to the
//! answer and the row to write.
//!
//! [`MemoryStore`](crate::MemoryStore) is these functions under a mutex. SQL backends state the same rules in SQL. A store on
//! a key-value database can use them directly: read the row, call the rule, and write the row back on the condition that it
//! has not changed in between.
//!
//! ```
//! use std::time::Duration;
//! use db_mutex_core::{HolderText, InsertRequest, Inserted, LockId, OwnerToken, Ttl, rules};
//!
//! let owner = OwnerToken::from_bytes([1; 16]);
//! let ttl = Ttl::new(Duration::from_secs(60))?;
//! let request = InsertRequest::new(LockId::new("job")?, owner, ttl, HolderText::new("worker 1")?);
//!
//! let outcome = rules::insert(None, &request, 1_000_000);
//! assert!(matches!(outcome.answer, Inserted::Granted(_)));
//! let row = outcome.write.expect("a grant writes the row");
//! assert_eq!(row.expires_at_us, 61_000_000);
//! # Ok::<_, db_mutex_core::Invalid>(())
//! ```

use std::time::Duration;

use super::{
    DeleteBy, DeleteRequest, Deleted, Fence, HolderText, InsertRequest, Inserted, Lease, LockId, LockRow, OwnerToken,
    RenewRequest, Renewed, Ttl,
};

/// A row as a store keeps it. Times are microseconds since 1970, UTC, by the store's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The owner token of the current acquisition; `None` once it is released.
    pub owner: Option<OwnerToken>,
    /// The owner token that was released last. It is never granted this lock again.
    pub released_by: Option<OwnerToken>,
    /// The fencing token of the latest acquisition.
    pub fence: i64,
    /// The holder of the latest acquisition, for people.
    pub holder: HolderText,
    /// When the latest acquisition was granted.
    pub acquired_at_us: i64,
    /// When it was released; `None` while the row has an owner.
    pub released_at_us: Option<i64>,
    /// When the lease or the rest ends; [`NEVER_US`](crate::NEVER_US) for never.
    pub expires_at_us: i64,
    /// The longest TTL that the acquisition has asked for, or the length of its rest; [`NEVER_US`](crate::NEVER_US) for never.
    pub ttl_us: i64,
}

/// What a rule says.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome<A> {
    /// The answer to the request.
    pub answer: A,
    /// The row to write; `None` if nothing changes.
    pub write: Option<Row>,
}

/// [`LockStore::insert_if_absent`](crate::LockStore::insert_if_absent), except that a row which is [excessive](is_excessive)
/// is left as it is: a store calls [`end_excess`] after a refusal.
pub fn insert(row: Option<&Row>, request: &InsertRequest, now_us: i64) -> Outcome<Inserted> {
    let granted = |row: Row| Outcome { answer: Inserted::Granted(row.lease()), write: Some(row) };
    let refused = |answer| Outcome { answer, write: None };
    match row {
        None => granted(Row::granted(request, 0, None, now_us)),
        Some(row) if row.owner == Some(request.owner) => {
            let mut repeated = row.clone();
            repeated.prolong(request.ttl, now_us);
            repeated.holder = request.holder.clone();
            granted(repeated)
        }
        Some(row) if row.released_by == Some(request.owner) => refused(Inserted::Spent),
        Some(row) if row.expires_at_us > now_us => {
            refused(Inserted::Held(row.read(request.lock_id.clone(), now_us).to_holder()))
        }
        Some(row) => granted(Row::granted(request, row.fence, row.released_by, now_us)),
    }
}

/// [`LockStore::renew`](crate::LockStore::renew).
pub fn renew(row: Option<&Row>, request: &RenewRequest, now_us: i64) -> Outcome<Renewed> {
    match row {
        Some(row) if row.owner == Some(request.owner) && row.expires_at_us > now_us => {
            let mut renewed = row.clone();
            renewed.prolong(request.ttl, now_us);
            Outcome { answer: Renewed::Renewed(renewed.lease()), write: Some(renewed) }
        }
        _ => Outcome { answer: Renewed::NotHeld, write: None },
    }
}

/// [`LockStore::delete`](crate::LockStore::delete).
pub fn delete(row: Option<&Row>, request: &DeleteRequest, now_us: i64) -> Outcome<Deleted> {
    let unchanged = |answer| Outcome { answer, write: None };
    let Some(row) = row else { return unchanged(Deleted::NotHeld) };
    let taken = row.expires_at_us > now_us;
    match request.by {
        DeleteBy::Owner(owner) if row.owner == Some(owner) && taken => {
            let mut released = row.released(now_us);
            // Counted from now where the clock has stepped back: otherwise a step of an hour would be a rest of an hour.
            let rest_ends = row.acquired_at_us.min(now_us).saturating_add(request.hold_at_least_us());
            if rest_ends > now_us {
                (released.expires_at_us, released.ttl_us) = (rest_ends, rest_ends - now_us);
            }
            Outcome { answer: Deleted::Released, write: Some(released) }
        }
        DeleteBy::Owner(owner) if row.released_by == Some(owner) => unchanged(Deleted::Already),
        DeleteBy::Fence(fence) if row.fence == fence.get() && taken => {
            Outcome { answer: Deleted::Released, write: Some(row.released(now_us)) }
        }
        DeleteBy::Fence(fence) if row.fence == fence.get() && row.owner.is_none() => unchanged(Deleted::Already),
        DeleteBy::Owner(_) | DeleteBy::Fence(_) => unchanged(Deleted::NotHeld),
    }
}

/// Whether the row stays taken for so long that the store's clock must have been ahead when it was written; see the
/// [contract](crate::LockStore#clock).
pub fn is_excessive(row: &Row, now_us: i64) -> bool {
    super::answer::is_excessive(row.expires_at_us, row.ttl_us, now_us)
}

/// The row to write in place of an [excessive](is_excessive) one, so that it ends within its TTL; `None` if it is not.
///
/// `now_us` has to be read **while the row is locked**, or on the condition that the row is unchanged. With an older clock a
/// lease that was renewed in between would be cut short, and the lock would have two holders.
pub fn end_excess(row: &Row, now_us: i64) -> Option<Row> {
    is_excessive(row, now_us).then(|| Row { expires_at_us: now_us.saturating_add(row.ttl_us), ..row.clone() })
}

/// Whether [`LockStore::purge_expired`](crate::LockStore::purge_expired) removes the row.
///
/// Without its row an id starts again at the clock. So a row stays whose fencing token is not behind the clock by more than
/// `older_than`: then tokens rise as long as no statement's clock is further behind that of the purge, because it was read
/// before or has been set back.
pub fn is_purgeable(row: &Row, older_than: Duration, now_us: i64) -> bool {
    let limit = now_us.saturating_sub(i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX));
    row.expires_at_us.max(row.released_at_us.unwrap_or(0)) <= limit && row.fence < limit
}

impl Row {
    /// A row with these columns and no release.
    pub fn new(owner: OwnerToken, fence: Fence, holder: HolderText, acquired_at_us: i64, ttl: Ttl) -> Self {
        Self {
            owner: Some(owner),
            released_by: None,
            fence: fence.get(),
            holder,
            acquired_at_us,
            released_at_us: None,
            expires_at_us: acquired_at_us.saturating_add(ttl.to_us()),
            ttl_us: ttl.to_us(),
        }
    }

    fn granted(request: &InsertRequest, last_fence: i64, released_by: Option<OwnerToken>, now_us: i64) -> Self {
        let fence = Fence::new(now_us.max(last_fence + 1));
        Self { released_by, ..Self::new(request.owner, fence, request.holder.clone(), now_us, request.ttl) }
    }

    /// Lets the lease last at least `ttl` from now on. It is never shortened, so that requests may arrive late, twice, and in
    /// any order.
    fn prolong(&mut self, ttl: Ttl, now_us: i64) {
        self.expires_at_us = self.expires_at_us.max(now_us.saturating_add(ttl.to_us()));
        self.ttl_us = self.ttl_us.max(ttl.to_us());
    }

    /// The row after a release without a rest. It leaves nothing in the future, so a clock that was ahead does not matter.
    fn released(&self, now_us: i64) -> Self {
        Self {
            owner: None,
            released_by: self.owner.or(self.released_by),
            released_at_us: self.released_at_us.or(Some(now_us)),
            expires_at_us: 0,
            ..self.clone()
        }
    }

    fn lease(&self) -> Lease {
        Lease::new(Fence::new(self.fence), self.acquired_at_us, self.expires_at_us)
    }

    /// The row as it is shown to readers, who see no token.
    pub fn read(&self, lock_id: LockId, now_us: i64) -> LockRow {
        let mut row = LockRow::new(lock_id, self.holder.clone(), self.lease());
        row.owned = self.owner.is_some();
        row.released_at_us = self.released_at_us;
        row.ttl_us = self.ttl_us;
        row.now_us = now_us;
        row
    }
}
