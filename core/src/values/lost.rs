use std::fmt;

/// Why a lock was lost while it was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// The lease ended: it was not renewed, or not in time.
    Expired,
    /// Renewing failed until the lease ended; the store could not be reached.
    StoreUnreachable,
    /// Another owner has the lock.
    TakenOver,
    /// It was released by force, or through another guard with the same owner token.
    ReleasedByForce,
    /// It was held for as long as [`Lock::hold_at_most`](crate::Lock::hold_at_most) allows.
    HeldTooLong,
}

impl LostReason {
    /// The reason as a word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::StoreUnreachable => "store_unreachable",
            Self::TakenOver => "taken_over",
            Self::ReleasedByForce => "released_by_force",
            Self::HeldTooLong => "held_too_long",
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease expired",
            Self::StoreUnreachable => "its lease could not be renewed",
            Self::TakenOver => "another holder has taken it over",
            Self::ReleasedByForce => "it was released by force, or elsewhere",
            Self::HeldTooLong => "it was held as long as it may be",
        })
    }
}
