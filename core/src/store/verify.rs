use std::fmt;

use crate::values::{LockId, OwnerToken};

/// The query that verifies a lock inside a transaction of another driver: what `verify_with` of a backend passes to its
/// closure.
///
/// Prepare [`sql`](Self::sql) as it is, bind [`lock_id`](Self::lock_id) as the first parameter and [`owner`](Self::owner) as the
/// second, run it in the transaction, and return the integer of the row that comes back, or `None` if none does. The
/// backend decides what the integer means, and how often the query has to run.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct VerifyQuery<'a> {
    /// One statement with two parameters. It returns no row, or one with one column: `verified`, a 64-bit integer.
    pub sql: &'a str,
    /// The first parameter, a text.
    pub lock_id: &'a str,
    /// The second parameter, 16 bytes: a secret; see [`OwnerToken`].
    pub owner: &'a [u8],
}

impl<'a> VerifyQuery<'a> {
    /// Returns the query with the parameters of a guard.
    pub fn new(sql: &'a str, lock_id: &'a LockId, owner: &'a OwnerToken) -> Self {
        Self { sql, lock_id: lock_id.as_str(), owner: owner.as_bytes() }
    }
}

impl fmt::Debug for VerifyQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("VerifyQuery");
        debug.field("sql", &self.sql).field("lock_id", &self.lock_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_owner() {
        let (id, owner) = (LockId::new("job").unwrap(), OwnerToken::from_bytes([0xab; 16]));
        let shown = format!("{:?}", VerifyQuery::new("SELECT 1", &id, &owner));
        assert!(shown.contains("job") && !shown.contains("171") && !shown.contains("ab"), "{shown}");
    }
}
