use db_mutex_core::store::{DeleteBy, DeleteRequest, Deleted, Fence, InsertRequest, Inserted, Ttl};

use crate::call::{Answer, Call};
use crate::micros::{Row, rules};

/// What a scenario runs on: one row, and the statements that change it.
pub(crate) trait Semantics {
    /// Executes the first or only statement of a call, which judges by `clock_us`.
    ///
    /// # Errors
    /// What was wrong with the store's answer.
    fn execute(&mut self, call: &Call, clock_us: i64) -> Result<Answer, String>;

    /// Executes the second statement of an insert. `begun_us` is the clock when the insert began.
    fn end_excess(&mut self, begun_us: i64, clock_us: i64);

    fn row(&self) -> Option<&Row>;

    /// Time passes, or the store's clock is set.
    fn clock_moves(&mut self, _by_us: i64) {}

    /// Whether a statement's clock is read when it takes effect, and an insert executes its second statement itself.
    fn at_once(&self) -> bool;
}

/// Which rules apply: the right ones, or with one mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Right,
    /// The row records the last TTL instead of the longest.
    LastTtl,
    /// The row records the TTL of the request that decided when it expires.
    DecidingTtl,
    /// The excess is ended by the clock of the statement's beginning.
    StaleExcess,
    /// A renewal lets the lease end `ttl` from now, even if it was to last longer.
    RenewalShortens,
    /// So does a repeated insert.
    RepeatShortens,
    /// A release does not record whose it was.
    NoReleasedBy,
    /// A takeover forgets the token that was released last.
    TakeoverForgets,
    /// A forced release ends the lock regardless of its holder.
    ForceById,
    /// A release leaves its own time as the end, which may lie in the future of a clock that was ahead.
    ReleaseAtNow,
    /// A rest counts from the acquisition even if the clock was set back behind it.
    RestFromTheFuture,
    /// Excessive rows are left as they are.
    NoEndOfExcess,
    /// A purge removes a row whose fencing token is ahead of the clock.
    PurgeAnyFence,
    /// A purge removes a row whose fencing token is behind the clock, however little.
    PurgeRecentFence,
    /// The fencing token is the clock, even if the previous one was greater.
    FenceIsClock,
}

/// The rules as pure functions, under statements whose clock may have been read long ago.
#[derive(Debug)]
pub(crate) struct Rules {
    variant: Variant,
    row: Option<Row>,
}

impl Rules {
    pub(crate) fn new(variant: Variant) -> Self {
        Self { variant, row: None }
    }

    /// Makes the mistake of the variant in a lease that was prolonged.
    fn prolonged(&self, before: &Row, after: &mut Row, ttl: Ttl, clock_us: i64, shortens: Variant) {
        let end_us = clock_us.saturating_add(ttl.to_micros());
        match self.variant {
            Variant::LastTtl => after.ttl_us = ttl.to_micros(),
            Variant::DecidingTtl if end_us >= before.expires_at_us => after.ttl_us = ttl.to_micros(),
            Variant::DecidingTtl => after.ttl_us = before.ttl_us,
            variant if variant == shortens => after.expires_at_us = end_us,
            _ => {}
        }
    }

    fn insert(&self, call: &InsertRequest, clock_us: i64) -> (Inserted, Option<Row>) {
        let outcome = rules::insert(self.row.as_ref(), call, clock_us);
        let mut write = outcome.write;
        if let (Some(before), Some(after)) = (&self.row, &mut write) {
            if before.owner == Some(call.owner) {
                self.prolonged(before, after, call.ttl, clock_us, Variant::RepeatShortens);
            } else if self.variant == Variant::TakeoverForgets {
                after.released_by = None;
            } else if self.variant == Variant::FenceIsClock {
                after.fence = clock_us;
            }
        }
        (outcome.answer, write)
    }

    fn delete(&self, call: &DeleteRequest, clock_us: i64) -> (Deleted, Option<Row>) {
        let mut call = call.clone();
        if let (Variant::ForceById, DeleteBy::Fence(_), Some(row)) = (self.variant, call.by, &self.row) {
            call.by = DeleteBy::Fence(Fence::new(row.fence));
        }
        let outcome = rules::delete(self.row.as_ref(), &call, clock_us);
        let mut write = outcome.write;
        if let (Some(before), Some(after)) = (&self.row, &mut write) {
            let rest_ends_us = before.acquired_at_us.saturating_add(call.hold_at_least_us());
            match self.variant {
                Variant::NoReleasedBy => after.released_by = before.released_by,
                Variant::ReleaseAtNow if after.expires_at_us == 0 => after.expires_at_us = clock_us,
                Variant::RestFromTheFuture if after.expires_at_us > clock_us => {
                    (after.expires_at_us, after.ttl_us) = (rest_ends_us, rest_ends_us - clock_us);
                }
                _ => {}
            }
        }
        (outcome.answer, write)
    }

    fn is_purgeable(&self, row: &Row, older_than: std::time::Duration, clock_us: i64) -> bool {
        let mut row = row.clone();
        match self.variant {
            Variant::PurgeAnyFence => row.fence = 1,
            Variant::PurgeRecentFence if row.fence < clock_us => row.fence = 1,
            _ => {}
        }
        rules::is_purgeable(&row, older_than, clock_us)
    }
}

impl Semantics for Rules {
    fn execute(&mut self, call: &Call, clock_us: i64) -> Result<Answer, String> {
        let (answer, write) = match call {
            Call::Insert(insert) => {
                let (answer, write) = self.insert(insert, clock_us);
                (Answer::Inserted(answer), write)
            }
            Call::Renew(renew) => {
                let outcome = rules::renew(self.row.as_ref(), renew, clock_us);
                let mut write = outcome.write;
                if let (Some(before), Some(after)) = (&self.row, &mut write) {
                    self.prolonged(before, after, renew.ttl, clock_us, Variant::RenewalShortens);
                }
                (Answer::Renewed(outcome.answer), write)
            }
            Call::Delete(delete) => {
                let (answer, write) = self.delete(delete, clock_us);
                (Answer::Deleted(answer), write)
            }
            Call::Purge(older_than) => {
                let purges = self.row.as_ref().is_some_and(|row| self.is_purgeable(row, *older_than, clock_us));
                if purges {
                    self.row = None;
                }
                (Answer::Purged(purges.into()), None)
            }
        };
        if write.is_some() {
            self.row = write;
        }
        Ok(answer)
    }

    fn end_excess(&mut self, begun_us: i64, clock_us: i64) {
        let judged_by_us = if self.variant == Variant::StaleExcess { begun_us } else { clock_us };
        if self.variant != Variant::NoEndOfExcess
            && let Some(shorter) = self.row.as_ref().and_then(|row| rules::end_excess(row, judged_by_us))
        {
            self.row = Some(shorter);
        }
    }

    fn row(&self) -> Option<&Row> {
        self.row.as_ref()
    }

    fn at_once(&self) -> bool {
        false
    }
}
