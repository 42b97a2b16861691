//! Responses from a store.

use std::fmt;
use std::time::Duration;

use super::{Fence, HolderText, LockId, NEVER_US};

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
    /// The lease lasts at least as long as was asked for.
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
    pub acquired_at_us: i64,
    /// When it ends unless it is renewed; [`NEVER_US`] for never.
    pub expires_at_us: i64,
}

impl Lease {
    /// A lease as a store granted it.
    pub fn new(fence: Fence, acquired_at_us: i64, expires_at_us: i64) -> Self {
        Self { fence, acquired_at_us, expires_at_us }
    }
}

/// The current holder, as reported with a refusal: who, since when, and for how much longer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Who it is, for people.
    pub holder: HolderText,
    /// The fencing token of that acquisition.
    pub fence: Fence,
    /// How long ago it was granted.
    pub held_for: Duration,
    /// How long it lasts unless it is renewed; `None` for ever.
    pub expires_in: Option<Duration>,
    /// Whether the holder has finished and the id rests until its "hold at least" is over.
    pub resting: bool,
}

impl Holder {
    /// A holder of the acquisition with that fencing token, as of now. A store that keeps whole rows uses
    /// [`LockRow::to_holder`] instead.
    pub fn new(holder: HolderText, fence: Fence, held_for: Duration, expires_in: Option<Duration>) -> Self {
        Self { holder, fence, held_for, expires_in, resting: false }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.resting { write!(f, "{}, which has finished", self.holder) } else { self.holder.fmt(f) }
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
    /// Who acquired it last, for people.
    pub holder: HolderText,
    /// When it was acquired last.
    pub acquired_at_us: i64,
    /// When it was released; `None` while it has an owner.
    pub released_at_us: Option<i64>,
    /// When the lease or the rest ends or ended; [`NEVER_US`] for never, zero when it was released without a rest.
    pub expires_at_us: i64,
    /// The longest TTL that this acquisition has asked for, or how long its rest was to last when it was released, in
    /// microseconds; [`NEVER_US`] for never.
    pub ttl_us: i64,
    /// The store's clock when it read the row.
    pub now_us: i64,
}

/// What a row says about its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockState {
    /// It has an owner, whose lease lasts.
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
    /// A row that was just granted at `lease.acquired_at_us`, and read at that moment. A store sets the rest.
    pub fn new(lock_id: LockId, holder: HolderText, lease: Lease) -> Self {
        Self {
            lock_id,
            owned: true,
            fence: lease.fence,
            holder,
            acquired_at_us: lease.acquired_at_us,
            released_at_us: None,
            expires_at_us: lease.expires_at_us,
            ttl_us: until(lease.acquired_at_us, lease.expires_at_us),
            now_us: lease.acquired_at_us,
        }
    }

    /// What the row says, judged by the store's clock when it was read.
    pub fn state(&self) -> LockState {
        match (self.owned, self.expires_at_us > self.now_us) {
            (true, true) => LockState::Held,
            (true, false) => LockState::Expired,
            (false, true) => LockState::Resting,
            (false, false) => LockState::Free,
        }
    }

    /// Whether nobody else can have the lock now: it is held, or rests.
    pub fn is_taken(&self) -> bool {
        self.expires_at_us > self.now_us
    }

    /// How long the lock stays taken unless it is renewed or released: zero when it is free, `None` forever.
    ///
    /// Never more than the longest TTL that was asked for: if the store's clock was ahead when the row was written, that is
    /// how long the lock still blocks others once one of them asks for it.
    pub fn expires_in(&self) -> Option<Duration> {
        let left = until(self.now_us, self.expires_at_us).min(self.ttl_us);
        (left != NEVER_US).then(|| span(0, left))
    }

    /// When the lease or the rest ends or ended, as readers show it: like [`expires_in`](Self::expires_in), no later than the
    /// longest TTL from now. `None` if never, and for a lock that was released without a rest.
    pub fn ends_at_us(&self) -> Option<i64> {
        let latest = self.now_us.saturating_add(self.ttl_us);
        (self.expires_at_us != 0 && self.expires_at_us != NEVER_US).then(|| self.expires_at_us.min(latest))
    }

    /// Whether the row stays taken for so long that the store's clock must have been ahead when it was written; see the
    /// [contract](crate::LockStore#clock).
    pub fn is_excessive(&self) -> bool {
        is_excessive(self.expires_at_us, self.ttl_us, self.now_us)
    }

    /// How long ago the lock was acquired last.
    pub fn acquired_ago(&self) -> Duration {
        span(self.acquired_at_us, self.now_us)
    }

    /// How long the last holder has held the lock until now, or until it was released or expired.
    pub fn held_for(&self) -> Duration {
        let until = match (self.released_at_us, self.state()) {
            (Some(released), _) => released,
            (None, LockState::Expired) => self.expires_at_us,
            (None, _) => self.now_us,
        };
        span(self.acquired_at_us, until)
    }

    /// The row as the holder who stands in the way of an insert.
    pub fn to_holder(&self) -> Holder {
        Holder {
            holder: self.holder.clone(),
            fence: self.fence,
            held_for: self.held_for(),
            expires_in: self.expires_in(),
            resting: self.state() == LockState::Resting,
        }
    }
}

/// The lease of an acquisition never lasts longer than the longest TTL that it has asked for; 10 s or a tenth of that TTL,
/// whichever is more, are allowed for small corrections of the clock.
pub(crate) fn is_excessive(expires_at_us: i64, ttl_us: i64, now_us: i64) -> bool {
    const TOLERANCE_US: i64 = 10_000_000;
    let longest = ttl_us.saturating_add(TOLERANCE_US.max(ttl_us / 10));
    ttl_us != NEVER_US && expires_at_us.saturating_sub(now_us) > longest
}

/// The microseconds from one time to another, which may be never.
fn until(from_us: i64, to_us: i64) -> i64 {
    if to_us == NEVER_US { NEVER_US } else { to_us.saturating_sub(from_us) }
}

/// The time from one microsecond to another; zero when the clock went backwards in between.
fn span(from_us: i64, to_us: i64) -> Duration {
    Duration::from_micros(u64::try_from(to_us.saturating_sub(from_us)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(owned: bool, expires_at_us: i64) -> LockRow {
        let lease = Lease::new(Fence::new(7), 1_000_000, expires_at_us);
        let mut row = LockRow::new(LockId::new("job").unwrap(), HolderText::new("me").unwrap(), lease);
        row.owned = owned;
        row.now_us = 3_000_000;
        row
    }

    #[test]
    fn two_columns_say_the_four_states() {
        assert_eq!(row(true, 3_000_001).state(), LockState::Held);
        assert_eq!(row(true, 3_000_000).state(), LockState::Expired);
        assert_eq!(row(false, 3_000_001).state(), LockState::Resting);
        assert_eq!(row(false, 3_000_000).state(), LockState::Free);
    }

    #[test]
    fn never_has_no_remaining_time() {
        assert_eq!(row(true, NEVER_US).expires_in(), None);
        assert_eq!(row(true, NEVER_US).state(), LockState::Held);
        assert_eq!(row(true, 2_000_000).expires_in(), Some(Duration::ZERO));
    }

    #[test]
    fn no_more_than_the_ttl_is_shown() {
        let mut ahead = row(true, 3_000_000 + 60_000_000);
        ahead.ttl_us = 5_000_000;
        assert_eq!(ahead.expires_in(), Some(Duration::from_secs(5)));
        assert_eq!(ahead.ends_at_us(), Some(8_000_000));
        ahead.ttl_us = NEVER_US;
        assert_eq!(ahead.expires_in(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_rest_does_not_count_as_work() {
        let mut resting = row(false, 60_000_000);
        resting.released_at_us = Some(1_500_000);
        assert_eq!(resting.held_for(), Duration::from_millis(500));
        assert_eq!(row(true, 2_000_000).held_for(), Duration::from_secs(1));
    }
}
