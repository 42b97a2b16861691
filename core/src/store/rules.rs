//! The semantics of a [`LockStore`](super::LockStore) as pure functions: from a row, a request and the store's clock to the
//! answer and the row to write.
//!
//! [`MemoryStore`](super::MemoryStore) is these functions under a mutex. SQL backends state the same rules in SQL. A store on
//! a key-value database reads the row, calls the rule, and writes the row back on the condition that it has not changed in
//! between: [`cas`](super::cas) does that on any database that can compare and swap.
//!
//! ```
//! use std::time::Duration;
//! use db_mutex_core::store::{HolderName, InsertRequest, Inserted, LockId, OwnerToken, StoreTime, Ttl, rules};
//!
//! let owner = OwnerToken::from_bytes([1; 16]);
//! let ttl = Ttl::new(Duration::from_secs(60))?;
//! let request = InsertRequest::new(LockId::new("job")?, owner, ttl, HolderName::new("worker 1")?);
//!
//! let now = StoreTime::from_micros(1_000_000);
//! let outcome = rules::insert(None, &request, now);
//! assert!(matches!(outcome.answer, Inserted::Granted(_)));
//! let row = outcome.write.expect("a grant writes the row");
//! assert_eq!(row.expires_at, now + Duration::from_secs(60));
//! # Ok::<_, db_mutex_core::Invalid>(())
//! ```

use std::time::Duration;

use super::{
    DeleteBy, DeleteRequest, Deleted, Fence, HolderName, InsertRequest, Inserted, Lease, LockId, LockRow, OwnerToken,
    RenewRequest, Renewed, StoreTime, Ttl,
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
    pub fence: Fence,
    /// The holder of the latest acquisition, for people.
    pub holder: HolderName,
    /// When the latest acquisition was granted.
    pub acquired_at: StoreTime,
    /// When it was released; `None` while the row has an owner.
    pub released_at: Option<StoreTime>,
    /// When the lease or the rest ends; [`StoreTime::NEVER`] for never.
    pub expires_at: StoreTime,
    /// The longest TTL that the acquisition has asked for, or the length of its rest; `None` for never.
    pub ttl: Option<Duration>,
}

/// The result of a rule.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome<A> {
    /// The answer to the request.
    pub answer: A,
    /// The row to write; `None` if nothing changes.
    pub write: Option<Row>,
}

/// [`LockStore::insert_if_absent`](super::LockStore::insert_if_absent), except that a row which is [excessive](is_excessive)
/// is left as it is: a store calls [`end_excess`] after a refusal, or [`insert_and_end_excess`] for both.
pub fn insert(row: Option<&Row>, request: &InsertRequest, now: StoreTime) -> Outcome<Inserted> {
    let granted = |row: Row| Outcome { answer: Inserted::Granted(row.lease()), write: Some(row) };
    let refused = |answer| Outcome { answer, write: None };
    match row {
        None => granted(Row::granted(request, Fence::new(0), None, now)),
        Some(row) if row.owner == Some(request.owner) => {
            let mut repeated = row.clone();
            repeated.prolong(request.ttl, now);
            repeated.holder = request.holder.clone();
            granted(repeated)
        }
        Some(row) if row.released_by == Some(request.owner) => refused(Inserted::Spent),
        Some(row) if row.expires_at > now => {
            refused(Inserted::Held(row.read(request.lock_id.clone(), now).to_holder()))
        }
        Some(row) => granted(Row::granted(request, row.fence, row.released_by, now)),
    }
}

/// [`LockStore::insert_if_absent`](super::LockStore::insert_if_absent): [`insert`] and [`end_excess`] in one step.
///
/// `now` must be read **while the row is locked**, or on the condition that the row is unchanged; see [`end_excess`]. If
/// the answer is [`Inserted::Held`], it is correct even if the row cannot be written: the next insert ends the excess.
pub fn insert_and_end_excess(row: Option<&Row>, request: &InsertRequest, now: StoreTime) -> Outcome<Inserted> {
    let outcome = insert(row, request, now);
    match (&outcome.answer, row.and_then(|row| end_excess(row, now))) {
        (Inserted::Held(_), Some(shorter)) => {
            let Outcome { answer, write } = insert(Some(&shorter), request, now);
            Outcome { answer, write: write.or(Some(shorter)) }
        }
        _ => outcome,
    }
}

/// [`LockStore::renew`](super::LockStore::renew).
pub fn renew(row: Option<&Row>, request: &RenewRequest, now: StoreTime) -> Outcome<Renewed> {
    match row {
        Some(row) if row.owner == Some(request.owner) && row.expires_at > now => {
            let mut renewed = row.clone();
            renewed.prolong(request.ttl, now);
            Outcome { answer: Renewed::Renewed(renewed.lease()), write: Some(renewed) }
        }
        _ => Outcome { answer: Renewed::NotHeld, write: None },
    }
}

/// [`LockStore::delete`](super::LockStore::delete).
pub fn delete(row: Option<&Row>, request: &DeleteRequest, now: StoreTime) -> Outcome<Deleted> {
    let unchanged = |answer| Outcome { answer, write: None };
    let Some(row) = row else { return unchanged(Deleted::NotHeld) };
    let taken = row.expires_at > now;
    match request.by {
        DeleteBy::Owner(owner) if row.owner == Some(owner) && taken => {
            let mut released = row.released(now);
            // Counted from now if the clock has stepped back: otherwise a step of an hour would be a rest of an hour.
            let rest_ends = row.acquired_at.min(now) + request.hold_at_least;
            if rest_ends > now {
                (released.expires_at, released.ttl) = (rest_ends, Some(rest_ends.since(now)));
            }
            Outcome { answer: Deleted::Released, write: Some(released) }
        }
        DeleteBy::Owner(owner) if row.released_by == Some(owner) => unchanged(Deleted::Already),
        DeleteBy::Fence(fence) if row.fence == fence && taken => {
            Outcome { answer: Deleted::Released, write: Some(row.released(now)) }
        }
        DeleteBy::Fence(fence) if row.fence == fence && row.owner.is_none() => unchanged(Deleted::Already),
        DeleteBy::Owner(_) | DeleteBy::Fence(_) => unchanged(Deleted::NotHeld),
    }
}

/// Whether the row stays taken for so long that the store's clock must have been ahead when it was written; see the
/// [contract](super::LockStore#clock).
pub fn is_excessive(row: &Row, now: StoreTime) -> bool {
    super::answer::is_excessive(row.expires_at, row.ttl, now)
}

/// The row to write in place of an [excessive](is_excessive) one, so that it ends within its TTL; `None` if it is not.
///
/// `now` must be read **while the row is locked**, or on the condition that the row is unchanged. With an earlier reading,
/// a lease that was renewed in between would be cut short, and the lock would have two holders.
pub fn end_excess(row: &Row, now: StoreTime) -> Option<Row> {
    row.ttl.filter(|_| is_excessive(row, now)).map(|ttl| Row { expires_at: now + ttl, ..row.clone() })
}

/// Whether [`LockStore::purge_expired`](super::LockStore::purge_expired) removes the row.
///
/// Without its row, an id gets its next fencing token from the clock. So a row is kept unless its fencing token is behind
/// the clock by more than `older_than`. Then fencing tokens rise, unless a statement's clock is further behind that of the
/// purge, because it was read before or was set back.
pub fn is_purgeable(row: &Row, older_than: Duration, now: StoreTime) -> bool {
    let limit = now.before(older_than);
    row.expires_at.max(row.released_at.unwrap_or(StoreTime::ZERO)) <= limit && row.fence < Fence::new(limit.as_micros())
}

impl Row {
    /// A row with these columns and no release.
    pub fn new(owner: OwnerToken, fence: Fence, holder: HolderName, acquired_at: StoreTime, ttl: Ttl) -> Self {
        Self {
            owner: Some(owner),
            released_by: None,
            fence,
            holder,
            acquired_at,
            released_at: None,
            expires_at: acquired_at + ttl.duration(),
            ttl: ttl.duration(),
        }
    }

    fn granted(request: &InsertRequest, last_fence: Fence, released_by: Option<OwnerToken>, now: StoreTime) -> Self {
        let fence = Fence::new(now.as_micros().max(last_fence.get() + 1));
        Self { released_by, ..Self::new(request.owner, fence, request.holder.clone(), now, request.ttl) }
    }

    /// Extends the lease to at least `ttl` from now. It is never shortened, so requests may arrive late, twice, and in any
    /// order.
    fn prolong(&mut self, ttl: Ttl, now: StoreTime) {
        self.expires_at = self.expires_at.max(now + ttl.duration());
        // Never is the longest.
        self.ttl = self.ttl.zip(ttl.duration()).map(|(before, asked)| before.max(asked));
    }

    /// The row after a release without a rest. It leaves nothing in the future, so a clock that was ahead does not matter.
    fn released(&self, now: StoreTime) -> Self {
        Self {
            owner: None,
            released_by: self.owner.or(self.released_by),
            released_at: self.released_at.or(Some(now)),
            expires_at: StoreTime::ZERO,
            ..self.clone()
        }
    }

    fn lease(&self) -> Lease {
        Lease::new(self.fence, self.acquired_at, self.expires_at)
    }

    /// The row as it is shown to readers, who see no token.
    pub fn read(&self, lock_id: LockId, now: StoreTime) -> LockRow {
        let mut row = LockRow::new(lock_id, self.holder.clone(), self.lease());
        row.owned = self.owner.is_some();
        row.released_at = self.released_at;
        row.ttl = self.ttl;
        row.now = now;
        row
    }
}
