//! Responses from a store.

use std::fmt;
use std::time::Duration;

use super::{Fence, HolderName, LockId, StoreTime};

/// The answer to an insert.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Inserted {
    /// The owner holds the lock now.
    Granted(Lease),
    /// Another owner holds it, or it rests. An expected answer, not an error.
    Held(Holder),
    /// The owner token has been released before, so nothing was granted: the request is a duplicate that arrived late.
    Spent,
}

/// The answer to a renewal.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Renewed {
    /// The lease lasts at least as long as requested.
    Renewed(Lease),
    /// The lease has ended, or was never this owner's.
    NotHeld,
}

/// The answer to a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deleted {
    /// The acquisition lasted until now, and this request has ended it.
    Released,
    /// The acquisition was released before, by this owner token or by force; nothing was changed. To a request that was
    /// sent again because its reply was lost, this means that it was done.
    Already,
    /// The lease had ended, or was never this owner's; nothing was changed.
    NotHeld,
}

/// A granted or renewed lease. Times are microseconds since 1970, UTC, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The fencing token of this acquisition.
    pub fence: Fence,
    /// When it was granted.
    pub acquired_at: StoreTime,
    /// When it ends unless it is renewed; [`StoreTime::NEVER`] for never.
    pub expires_at: StoreTime,
}

impl Lease {
    /// A lease as a store granted it.
    pub fn new(fence: Fence, acquired_at: StoreTime, expires_at: StoreTime) -> Self {
        Self { fence, acquired_at, expires_at }
    }
}

/// The current holder, as reported with a refusal: who, since when, and for how much longer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its name, for people.
    pub name: HolderName,
    /// The fencing token of that acquisition.
    pub fence: Fence,
    /// How long ago it was granted.
    pub held_for: Duration,
    /// How long it lasts unless it is renewed; `None`: forever.
    pub expires_in: Option<Duration>,
    /// Whether the holder has finished and the id rests until its "hold at least" is over.
    pub resting: bool,
}

impl Holder {
    /// The holder of the acquisition with that fencing token, as of now. A store that keeps whole rows uses
    /// [`LockRow::to_holder`] instead.
    pub fn new(name: HolderName, fence: Fence, held_for: Duration, expires_in: Option<Duration>) -> Self {
        Self { name, fence, held_for, expires_in, resting: false }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.resting { write!(f, "{}, which has finished", self.name) } else { self.name.fmt(f) }
    }
}

/// A row of the table, as it was when the store read it. Times are microseconds since 1970, UTC, by the store's clock.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LockRow {
    /// Which lock.
    pub lock_id: LockId,
    /// Whether it has an owner: it is held, or its holder went away without releasing it.
    pub owned: bool,
    /// The fencing token of its latest acquisition.
    pub fence: Fence,
    /// The last holder, for people.
    pub holder: HolderName,
    /// When it was acquired last.
    pub acquired_at: StoreTime,
    /// When it was released; `None` while it has an owner.
    pub released_at: Option<StoreTime>,
    /// When the lease or the rest ends or ended; [`StoreTime::NEVER`] for never, zero when it was released without a rest.
    pub expires_at: StoreTime,
    /// The longest TTL that this acquisition has requested, or the length of its rest at its release; `None` for never.
    pub ttl: Option<Duration>,
    /// The store's clock when it read the row.
    pub now: StoreTime,
}

/// The state of a lock, as its row shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockState {
    /// It has an owner, whose lease has not ended.
    Held,
    /// It was released, and rests until its "hold at least" is over.
    Resting,
    /// It was released and is free.
    Free,
    /// Its holder did not release it in time; it is free.
    Expired,
}

impl LockState {
    /// The state as one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Resting => "resting",
            Self::Free => "free",
            Self::Expired => "expired",
        }
    }
}

impl LockRow {
    /// A row that was granted at `lease.acquired_at`, and read at that moment. A store sets the other fields.
    pub fn new(lock_id: LockId, holder: HolderName, lease: Lease) -> Self {
        Self {
            lock_id,
            owned: true,
            fence: lease.fence,
            holder,
            acquired_at: lease.acquired_at,
            released_at: None,
            expires_at: lease.expires_at,
            ttl: (!lease.expires_at.is_never()).then(|| lease.expires_at.since(lease.acquired_at)),
            now: lease.acquired_at,
        }
    }

    /// The state of the lock, by the store's clock when the row was read.
    pub fn state(&self) -> LockState {
        match (self.owned, self.expires_at > self.now) {
            (true, true) => LockState::Held,
            (true, false) => LockState::Expired,
            (false, true) => LockState::Resting,
            (false, false) => LockState::Free,
        }
    }

    /// Whether no one else can acquire the lock now: it is held, or rests.
    pub fn is_taken(&self) -> bool {
        self.expires_at > self.now
    }

    /// How long the lock stays taken unless it is renewed or released: zero when it is free, `None` forever.
    ///
    /// Never more than the longest TTL that was requested: if the store's clock was ahead when the row was written, the
    /// lock blocks others for that long, counted from their first attempt.
    pub fn expires_in(&self) -> Option<Duration> {
        let left = (!self.expires_at.is_never()).then(|| self.expires_at.since(self.now));
        match (left, self.ttl) {
            (Some(left), Some(ttl)) => Some(left.min(ttl)),
            (left, ttl) => left.or(ttl),
        }
    }

    /// When the lease or the rest ends or ended, as readers show it: like [`expires_in`](Self::expires_in), no later than the
    /// longest TTL from now. `None` if never, and for a lock that was released without a rest.
    pub fn ends_at(&self) -> Option<StoreTime> {
        let latest = self.ttl.map_or(StoreTime::NEVER, |ttl| self.now + ttl);
        let ends = self.expires_at.min(latest);
        (self.expires_at != StoreTime::ZERO && !ends.is_never()).then_some(ends)
    }

    /// Whether the row stays taken for so long that the store's clock must have been ahead when it was written; see the
    /// [contract](super::LockStore#clock).
    pub fn is_excessive(&self) -> bool {
        is_excessive(self.expires_at, self.ttl, self.now)
    }

    /// How long ago the lock was acquired last.
    pub fn acquired_ago(&self) -> Duration {
        self.now.since(self.acquired_at)
    }

    /// How long the last holder has held the lock, until now or until it was released or expired.
    pub fn held_for(&self) -> Duration {
        let until = match (self.released_at, self.state()) {
            (Some(released), _) => released,
            (None, LockState::Expired) => self.expires_at,
            (None, _) => self.now,
        };
        until.since(self.acquired_at)
    }

    /// The lease of the latest acquisition.
    pub fn lease(&self) -> Lease {
        Lease::new(self.fence, self.acquired_at, self.expires_at)
    }

    /// The holder to return with a refused insert.
    pub fn to_holder(&self) -> Holder {
        Holder {
            name: self.holder.clone(),
            fence: self.fence,
            held_for: self.held_for(),
            expires_in: self.expires_in(),
            resting: self.state() == LockState::Resting,
        }
    }
}

/// The lease of an acquisition never lasts longer than the longest TTL that it has requested. 10 s or a tenth of that TTL,
/// whichever is more, is allowed for small corrections of the clock.
pub(crate) fn is_excessive(expires_at: StoreTime, ttl: Option<Duration>, now: StoreTime) -> bool {
    const TOLERANCE: Duration = Duration::from_secs(10);
    ttl.is_some_and(|ttl| expires_at.since(now) > ttl + TOLERANCE.max(ttl / 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> StoreTime {
        StoreTime::from_micros(micros)
    }

    fn row(owned: bool, expires_at: StoreTime) -> LockRow {
        let lease = Lease::new(Fence::new(7), at(1_000_000), expires_at);
        let mut row = LockRow::new(LockId::new("job").unwrap(), HolderName::new("me").unwrap(), lease);
        row.owned = owned;
        row.now = at(3_000_000);
        row
    }

    #[test]
    fn two_columns_say_the_four_states() {
        assert_eq!(row(true, at(3_000_001)).state(), LockState::Held);
        assert_eq!(row(true, at(3_000_000)).state(), LockState::Expired);
        assert_eq!(row(false, at(3_000_001)).state(), LockState::Resting);
        assert_eq!(row(false, at(3_000_000)).state(), LockState::Free);
    }

    #[test]
    fn never_has_no_remaining_time() {
        assert_eq!(row(true, StoreTime::NEVER).expires_in(), None);
        assert_eq!(row(true, StoreTime::NEVER).state(), LockState::Held);
        assert_eq!(row(true, at(2_000_000)).expires_in(), Some(Duration::ZERO));
    }

    #[test]
    fn no_more_than_the_ttl_is_shown() {
        let mut ahead = row(true, at(3_000_000 + 60_000_000));
        ahead.ttl = Some(Duration::from_secs(5));
        assert_eq!(ahead.expires_in(), Some(Duration::from_secs(5)));
        assert_eq!(ahead.ends_at(), Some(at(8_000_000)));
        ahead.ttl = None;
        assert_eq!(ahead.expires_in(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_rest_does_not_count_as_work() {
        let mut resting = row(false, at(60_000_000));
        resting.released_at = Some(at(1_500_000));
        assert_eq!(resting.held_for(), Duration::from_millis(500));
        assert_eq!(row(true, at(2_000_000)).held_for(), Duration::from_secs(1));
    }
}
