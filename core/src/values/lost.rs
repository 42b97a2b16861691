use std::fmt;

/// Why a lock was lost while it was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// The lease ended: it was not renewed, or not renewed in time.
    Expired,
    /// Renewing failed until the lease ended; the store could not be reached.
    StoreUnreachable,
    /// Another owner has the lock.
    TakenOver,
    /// The store has no such lease, although it had not ended. A failover has lost the grant, or the store's name now leads
    /// to another database. Another owner may be granted the lock. An error of a verification has this reason as long as the
    /// true one is not known.
    Missing,
    /// It was released by force, or through another guard with the same owner token.
    ReleasedByForce,
    /// It was held as long as [`Lock::hold_at_most`](crate::Lock::hold_at_most) allows.
    HeldTooLong,
}

impl LostReason {
    /// The reason as a machine-readable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::StoreUnreachable => "store_unreachable",
            Self::TakenOver => "taken_over",
            Self::Missing => "missing",
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
            Self::Missing => "the database no longer has it",
            Self::ReleasedByForce => "it was released by force, or elsewhere",
            Self::HeldTooLong => "it was held for the longest time that is allowed",
        })
    }
}
