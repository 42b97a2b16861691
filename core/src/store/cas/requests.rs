//! The requests as rules.

use super::attempt::Rule;
use crate::store::rules::{self, Outcome, Row};
use crate::store::{
    DeleteBy, DeleteRequest, Deleted, InsertRequest, Inserted, LockId, LockRow, RenewRequest, Renewed, StoreError,
    StoreErrorKind, StoreTime,
};

impl Rule for &InsertRequest {
    type Answer = Inserted;

    fn apply(&self, row: Option<&Row>, now: StoreTime) -> Outcome<Inserted> {
        rules::insert_and_end_excess(row, self, now)
    }

    fn stands_alone(&self, answer: &Inserted) -> bool {
        matches!(answer, Inserted::Held(_))
    }
}

impl Rule for &RenewRequest {
    type Answer = Renewed;

    fn apply(&self, row: Option<&Row>, now: StoreTime) -> Outcome<Renewed> {
        rules::renew(row, self, now)
    }
}

impl Rule for &DeleteRequest {
    type Answer = Deleted;

    fn apply(&self, row: Option<&Row>, now: StoreTime) -> Outcome<Deleted> {
        rules::delete(row, self, now)
    }

    /// If the lock was released before, that was this request, unless the row shows that it was another. If not, it is no
    /// longer held, but whether it was held until then is not known, and neither answer may be guessed.
    fn after_a_lost_reply(&self, answer: Deleted, row: Option<&Row>, before: &[Row]) -> Result<Deleted, StoreError> {
        let is_still_there = row.is_some_and(|row| match self.by {
            DeleteBy::Owner(owner) => row.owner == Some(owner),
            DeleteBy::Fence(fence) => row.fence == fence && row.owner.is_some(),
        });
        // A release is overwritten by a further acquisition, or with another end of its rest. If it is only like ours, another
        // was faster.
        let is_of_another = row.filter(|row| row.released_at.is_some()).is_some_and(|row| {
            !before.iter().any(|ours| ours.released_at == row.released_at && ours.expires_at != row.expires_at)
        });
        match answer {
            Deleted::Already if !is_of_another => Ok(Deleted::Released),
            Deleted::NotHeld if !is_still_there => {
                let message = format!(
                    "the reply was lost while lock `{}` was being released: it is no longer held, but whether it was until \
                     then is not known",
                    self.lock_id
                );
                Err(StoreError::new(StoreErrorKind::Unavailable, message))
            }
            answer => Ok(answer),
        }
    }
}

/// Reads the row of an id.
pub(super) struct Find<'a>(pub(super) &'a LockId);

impl Rule for Find<'_> {
    type Answer = Option<LockRow>;

    fn apply(&self, row: Option<&Row>, now: StoreTime) -> Outcome<Option<LockRow>> {
        Outcome { answer: row.map(|row| row.read(self.0.clone(), now)), write: None }
    }
}
