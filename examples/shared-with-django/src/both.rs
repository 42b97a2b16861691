use std::time::Duration;

use db_mutex_core::admin::StoreTime;
use db_mutex_core::store::rules::{self, Outcome, Row};
use db_mutex_core::store::{InsertRequest, Inserted};
use db_mutex_core::{Fence, HolderName, OwnerToken, Ttl};

/// A row of `db_mutex_dbmutex`: while it exists, Django does not acquire the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DjangoRow {
    /// It is never assigned twice, unless an administrator empties the table and resets it. Django releases by it: neither side
    /// can release a lock that is no longer its own.
    pub(crate) id: i64,
    /// Django deletes the row once this is `DB_MUTEX_TTL_SECONDS` ago.
    pub(crate) creation_time: StoreTime,
}

/// A row of `db_mutex_rust`: what the contract needs and Django's table does not have.
#[derive(Debug, Clone)]
pub(crate) struct OurRow {
    pub(crate) row: Row,
    /// Django's row for this acquisition, as this side has written it.
    pub(crate) django: Option<DjangoRow>,
}

/// When Django deletes a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// `DB_MUTEX_TTL_SECONDS`.
    pub(crate) ttl: Option<Duration>,
    /// By how much the clock of a Django process may differ from that of the database.
    pub(crate) margin: Duration,
}

/// The two rows of a lock id, as one transaction has read them.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) django: Option<DjangoRow>,
    pub(crate) ours: Option<OurRow>,
}

/// What becomes of Django's row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The lock is free.
    Delete,
    /// The same acquisition lasts until another time.
    Move(StoreTime),
    /// A new acquisition: a new id, so that the one before finds its row gone.
    Replace(StoreTime),
}

impl Both {
    /// The rows as the one row of the contract.
    pub(crate) fn row(&self, deadline: Deadline, now: StoreTime) -> Option<Row> {
        match (self.django, &self.ours) {
            (Some(django), Some(ours)) if ours.django == Some(django) => Some(ours.row.clone()),
            (Some(django), ours) => {
                let before = ours.as_ref().map(|ours| without_django_row(&ours.row, now));
                Some(django.as_row(before.as_ref(), deadline))
            }
            (None, Some(ours)) if ours.django.is_some() => Some(without_django_row(&ours.row, now)),
            (None, ours) => ours.as_ref().map(|ours| ours.row.clone()),
        }
    }

    /// What to do to Django's row so that it says the same as `after`, which was `before`.
    pub(crate) fn change(&self, before: Option<&Row>, after: &Row, deadline: Deadline, now: StoreTime) -> Change {
        let same_acquisition = before.is_some_and(|before| before.fence == after.fence);
        if self.is_djangos(after) {
            return Change::Move(after.expires_at.before(after.ttl.unwrap_or_default()));
        }
        match (after.owner.is_some() || after.expires_at > now, same_acquisition) {
            (false, _) => Change::Delete,
            (true, true) => Change::Move(creation_time(after, deadline)),
            (true, false) => Change::Replace(creation_time(after, deadline)),
        }
    }
}

impl Both {
    /// Whether a row of the contract is the lock that a Django process holds, which is in Django's table alone.
    pub(crate) fn is_djangos(&self, row: &Row) -> bool {
        self.django.is_some_and(|django| row.owner == Some(django.owner()))
    }
}

impl DjangoRow {
    /// Stands for the owner token, which Django does not have. No store function grants to it, because no client has it.
    pub(crate) fn owner(self) -> OwnerToken {
        let mut bytes = *b"django: 01234567";
        bytes[8..].copy_from_slice(&self.id.to_be_bytes());
        OwnerToken::from_bytes(bytes)
    }

    /// A lock that a Django process holds.
    fn as_row(self, before: Option<&Row>, deadline: Deadline) -> Row {
        let fence = before.map_or(0, |before| before.fence.get() + 1).max(self.creation_time.as_micros());
        let holder = HolderName::lossy("a process with django-db-mutex");
        let mut row = Row::new(self.owner(), Fence::new(fence), holder, self.creation_time, Ttl::NEVER);
        row.ttl = deadline.ttl.map(|ttl| ttl + deadline.margin);
        row.expires_at = self.creation_time + row.ttl;
        row.released_by = before.and_then(|before| before.released_by);
        row
    }
}

/// Our row after Django, or an administrator, has deleted the row that was inserted for it: the acquisition is over, and another
/// process may have had the lock since.
fn without_django_row(row: &Row, now: StoreTime) -> Row {
    let mut over = row.clone();
    let lasted = over.expires_at.min(now);
    if over.expires_at > now {
        // It was deleted before its time: by force. Its owner token is spent.
        over.released_by = over.owner.or(over.released_by);
    }
    over.owner = None;
    over.released_at = over.released_at.or(Some(lasted));
    over.expires_at = StoreTime::ZERO;
    over
}

/// The time that makes Django delete its row when our lease has ended, and no earlier: Django deletes by its own TTL,
/// not by ours.
fn creation_time(row: &Row, deadline: Deadline) -> StoreTime {
    /// Later than any lease, and a date in every time zone.
    const YEAR_9999: StoreTime = StoreTime::from_micros(253_370_764_800_000_000);
    match deadline.ttl {
        Some(_) if row.expires_at.is_never() => YEAR_9999,
        Some(ttl) => (row.expires_at + deadline.margin).before(ttl),
        None => row.acquired_at,
    }
}

/// The rule of an insert, with the second attempt that ends a row from the future. For a store that reads the clock while it has
/// the rows locked.
pub(crate) fn insert(row: Option<&Row>, request: &InsertRequest, now: StoreTime) -> Outcome<Inserted> {
    let outcome = rules::insert(row, request, now);
    match row.and_then(|row| rules::end_excess(row, now)) {
        Some(shorter) if matches!(outcome.answer, Inserted::Held(_)) => {
            let mut outcome = rules::insert(Some(&shorter), request, now);
            outcome.write = Some(shorter);
            outcome
        }
        _ => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use db_mutex_core::LockId;

    const HALF_AN_HOUR: Deadline = deadline(Some(30 * 60));

    const fn deadline(seconds: Option<u64>) -> Deadline {
        let ttl = match seconds {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => None,
        };
        Deadline { ttl, margin: Duration::ZERO }
    }

    fn at(seconds: i64) -> StoreTime {
        StoreTime::from_micros(seconds * 1_000_000)
    }

    fn ours(ttl: Ttl) -> Row {
        Row::new(OwnerToken::from_bytes([1; 16]), Fence::new(7), HolderName::lossy("me"), at(10_000), ttl)
    }

    /// Django's row for it.
    fn row_of_ours() -> Option<DjangoRow> {
        Some(DjangoRow { id: 1, creation_time: at(8_260) })
    }

    fn minute() -> Ttl {
        Ttl::new(Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn django_deletes_our_row_when_our_lease_has_ended() {
        for (row, deadline, expected) in [
            (ours(minute()), HALF_AN_HOUR, at(10_060 - 1_800)),
            (ours(minute()), deadline(Some(1)), at(10_059)),
            (ours(minute()), deadline(None), at(10_000)),
            (ours(minute()), Deadline { margin: Duration::from_secs(5), ..HALF_AN_HOUR }, at(10_065 - 1_800)),
            (ours(Ttl::NEVER), HALF_AN_HOUR, at(253_370_764_800)),
        ] {
            let both = Both { django: Some(DjangoRow { id: 1, creation_time: at(0) }), ours: None };
            assert_eq!(both.change(None, &row, deadline, at(10_000)), Change::Replace(expected));
            assert_eq!(both.change(Some(&row), &row, deadline, at(10_000)), Change::Move(expected));
        }
    }

    #[test]
    fn a_row_of_django_lasts_for_its_ttl() {
        let django = DjangoRow { id: 1, creation_time: at(10_000) };
        let row = Both { django: Some(django), ours: None }.row(HALF_AN_HOUR, at(10_001)).unwrap();
        assert_eq!((row.expires_at, row.ttl), (at(11_800), HALF_AN_HOUR.ttl));
        let row = Both { django: Some(django), ours: None }.row(deadline(None), at(10_001)).unwrap();
        assert_eq!((row.expires_at, row.ttl), (StoreTime::NEVER, None));
    }

    #[test]
    fn a_lock_of_django_has_a_greater_fence_than_ours_before_it() {
        let mut before = ours(minute());
        before.fence = Fence::new(at(20_000).as_micros());
        let django = DjangoRow { id: 2, creation_time: at(10_000) };
        let both = Both { django: Some(django), ours: Some(OurRow { row: before.clone(), django: row_of_ours() }) };
        assert!(both.row(HALF_AN_HOUR, at(10_001)).unwrap().fence > before.fence);
    }

    /// Its clock was ahead. What remains of it is Django's TTL, however often others ask, and with any margin.
    #[test]
    fn a_row_of_django_from_the_future_is_moved_once() {
        for margin in [0, 5, 3_600].map(Duration::from_secs) {
            let (deadline, now) = (Deadline { margin, ..HALF_AN_HOUR }, at(20_000));
            let mut both = Both { django: Some(DjangoRow { id: 1, creation_time: at(90_000_000) }), ours: None };
            let owner = OwnerToken::from_bytes([2; 16]);
            let request = InsertRequest::new(LockId::new("job").unwrap(), owner, minute(), HolderName::lossy("me"));
            let before = both.row(deadline, now);
            let outcome = insert(before.as_ref(), &request, now);
            assert!(matches!(outcome.answer, Inserted::Held(_)));
            let change = both.change(before.as_ref(), &outcome.write.unwrap(), deadline, now);
            assert_eq!(change, Change::Move(now), "as if Django had acquired it now");
            both.django = Some(DjangoRow { id: 1, creation_time: now });
            let (before, later) = (both.row(deadline, now), at(20_001));
            assert!(insert(before.as_ref(), &request, later).write.is_none(), "it is moved on");
        }
    }

    /// `manage.py flush` empties Django's table and begins again with its ids, and leaves ours.
    #[test]
    fn an_id_that_is_assigned_again_is_not_our_acquisition() {
        let django = DjangoRow { id: 1, creation_time: at(10_090) };
        let both = Both { django: Some(django), ours: Some(OurRow { row: ours(minute()), django: row_of_ours() }) };
        let row = both.row(HALF_AN_HOUR, at(10_100)).unwrap();
        assert!(both.is_djangos(&row), "our lease has ended, so another would be granted the lock that Django holds");
    }

    #[test]
    fn our_acquisition_is_over_when_its_row_of_django_is_gone() {
        for django in [None, Some(DjangoRow { id: 2, creation_time: at(10_010) })] {
            let both = Both { django, ours: Some(OurRow { row: ours(minute()), django: row_of_ours() }) };
            let row = both.row(HALF_AN_HOUR, at(10_020)).unwrap();
            assert_ne!(row.owner, ours(minute()).owner);
            assert_eq!(row.released_by, ours(minute()).owner, "it lasted, so it was released by force");
            let row = both.row(HALF_AN_HOUR, at(10_070)).unwrap();
            assert_ne!(row.owner, ours(minute()).owner);
            assert_eq!(row.released_by, None, "it had ended");
        }
    }
}
