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
    /// Somebody has released it by force.
    ReleasedByForce,
    /// It was held as long as it may be at most.
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
            Self::ReleasedByForce => "it was released by force",
            Self::HeldTooLong => "it was held as long as it may be",
        })
    }
}
