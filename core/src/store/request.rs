//! Requests to a store.

use std::time::Duration;

use super::{Fence, HolderName, LockId, OwnerToken, Ttl};

/// A request for a lock: [`LockStore::insert_if_absent`](super::LockStore::insert_if_absent).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InsertRequest {
    /// The lock.
    pub lock_id: LockId,
    /// The owner that requests it.
    pub owner: OwnerToken,
    /// How long the lease is to last.
    pub ttl: Ttl,
    /// A description of the owner, for people.
    pub holder: HolderName,
}

impl InsertRequest {
    /// A request of `owner` for `lock_id`.
    pub fn new(lock_id: LockId, owner: OwnerToken, ttl: Ttl, holder: HolderName) -> Self {
        Self { lock_id, owner, ttl, holder }
    }
}

/// A request for more time: [`LockStore::renew`](super::LockStore::renew).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RenewRequest {
    /// The lock.
    pub lock_id: LockId,
    /// The owner that holds it.
    pub owner: OwnerToken,
    /// The least that the lease is to last, from the store's now. A lease is never shortened.
    pub ttl: Ttl,
}

impl RenewRequest {
    /// A request to extend the lease of `owner` on `lock_id` to at least `ttl` from now.
    pub fn new(lock_id: LockId, owner: OwnerToken, ttl: Ttl) -> Self {
        Self { lock_id, owner, ttl }
    }
}

/// A request to release a lock: [`LockStore::delete`](super::LockStore::delete).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeleteRequest {
    /// The lock.
    pub lock_id: LockId,
    /// The acquisition that ends.
    pub by: DeleteBy,
    /// How long the id stays taken without an owner, counted from the acquisition by the store's clock. Zero frees it at
    /// once. A forced delete ignores it.
    pub hold_at_least: Duration,
}

/// The acquisition that a delete ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeleteBy {
    /// That of this owner token, if its lease has not ended.
    Owner(OwnerToken),
    /// The one with this fencing token, even if the id rests: a forced release, requested by an operator. It names the
    /// acquisition that the operator has seen, so that a repeated or late request cannot end the next one.
    Fence(Fence),
}

impl DeleteRequest {
    /// A request to release `lock_id` if `owner` holds it.
    pub fn by_owner(lock_id: LockId, owner: OwnerToken) -> Self {
        Self { lock_id, by: DeleteBy::Owner(owner), hold_at_least: Duration::ZERO }
    }

    /// A request to end the acquisition of `lock_id` with this fencing token, by force.
    pub fn by_fence(lock_id: LockId, fence: Fence) -> Self {
        Self { lock_id, by: DeleteBy::Fence(fence), hold_at_least: Duration::ZERO }
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

/// The rows that [`LockStore::list`](super::LockStore::list) returns.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ListFilter {
    /// Whether to include rows that are free: released, or expired.
    pub include_free: bool,
}

impl ListFilter {
    /// The rows that are taken: held, or resting.
    pub fn taken() -> Self {
        Self { include_free: false }
    }

    /// All rows.
    pub fn all() -> Self {
        Self { include_free: true }
    }
}
