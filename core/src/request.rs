//! What a store is asked.

use std::time::Duration;

use crate::{HolderText, LockId, OwnerToken, Ttl};

/// Asks for a lock: [`LockStore::insert_if_absent`](crate::LockStore::insert_if_absent).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InsertRequest {
    /// Which lock.
    pub lock_id: LockId,
    /// Whose it shall be.
    pub owner: OwnerToken,
    /// How long the lease shall last.
    pub ttl: Ttl,
    /// Who that is, for people.
    pub holder: HolderText,
}

impl InsertRequest {
    /// Asks for `lock_id` in the name of `owner`.
    pub fn new(lock_id: LockId, owner: OwnerToken, ttl: Ttl, holder: HolderText) -> Self {
        Self { lock_id, owner, ttl, holder }
    }
}

/// Asks for more time: [`LockStore::renew`](crate::LockStore::renew).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RenewRequest {
    /// Which lock.
    pub lock_id: LockId,
    /// Whose it has to be.
    pub owner: OwnerToken,
    /// How long the lease shall last from now on; it may be less than what is left.
    pub ttl: Ttl,
}

impl RenewRequest {
    /// Asks that the lease of `owner` on `lock_id` lasts `ttl` from now on.
    pub fn new(lock_id: LockId, owner: OwnerToken, ttl: Ttl) -> Self {
        Self { lock_id, owner, ttl }
    }
}

/// Gives a lock back: [`LockStore::delete`](crate::LockStore::delete).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeleteRequest {
    /// Which lock.
    pub lock_id: LockId,
    /// Whose it has to be.
    pub by: DeleteBy,
    /// For how long, counted from the acquisition by the store's clock, the id stays taken without an owner. Zero frees
    /// it at once. A forced delete ignores it.
    pub hold_at_least: Duration,
}

/// In whose name a lock is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteBy {
    /// Only if its lease is this owner's, and has not ended.
    Owner(OwnerToken),
    /// Whoever holds it, also if it rests without an owner: an operator's decision, never a default.
    Force,
}

impl DeleteRequest {
    /// Asks to release `lock_id` if it is still `owner`'s.
    pub fn by_owner(lock_id: LockId, owner: OwnerToken) -> Self {
        Self { lock_id, by: DeleteBy::Owner(owner), hold_at_least: Duration::ZERO }
    }

    /// Asks to release `lock_id`, whoever holds it.
    pub fn by_force(lock_id: LockId) -> Self {
        Self { lock_id, by: DeleteBy::Force, hold_at_least: Duration::ZERO }
    }

    /// Lets the id rest until `hold_at_least` after its acquisition.
    #[must_use]
    pub fn hold_at_least(mut self, hold_at_least: Duration) -> Self {
        self.hold_at_least = hold_at_least;
        self
    }

    /// The rest in whole microseconds, at most 365 days: what a store adds to the time of the acquisition.
    pub fn hold_at_least_us(&self) -> i64 {
        i64::try_from(self.hold_at_least.min(Ttl::MAX).as_micros()).unwrap_or(i64::MAX)
    }
}

/// Chooses what [`LockStore::list`](crate::LockStore::list) answers.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ListFilter {
    /// Also those that are free: released, or expired.
    pub include_free: bool,
}

impl ListFilter {
    /// Those that are taken: held, or resting.
    pub fn taken() -> Self {
        Self { include_free: false }
    }

    /// Every row there is.
    pub fn all() -> Self {
        Self { include_free: true }
    }
}
