//! Releasing locks.

use std::mem::take;

use db_mutex_core::store::{DeleteBy, DeleteRequest, Deleted, StoreTime};
use db_mutex_core::{Fence, OwnerToken, StoreError, StoreErrorKind};

use crate::operations::{BATCH, Operations, back_in_order, busy, by_id, last_insert_id, order_of};
use crate::row::Found;
use crate::send::unknown_outcome;
use crate::sql::COMMITTED;

type Answer = Result<Deleted, StoreError>;

impl Operations {
    pub(crate) async fn delete(&self, request: &DeleteRequest) -> Answer {
        let statement = match &request.by {
            DeleteBy::Owner(owner) => self.sql.delete(request, owner),
            DeleteBy::Fence(fence) => self.sql.delete_by_fence(&request.lock_id, *fence),
            _ => return Err(unknown_kind()),
        };
        let reply = self.client.send(&[statement]).await?;
        if last_insert_id(reply.answers.first()) != 0 {
            return Ok(Deleted::Released);
        }
        let ids = [&request.lock_id];
        let (uncommitted, rows) = self.read_uncommitted_too(ids).await?;
        let found = rows.get(&request.lock_id);
        let answer = match &request.by {
            DeleteBy::Owner(owner) => not_released(found, uncommitted.get(&request.lock_id), owner),
            DeleteBy::Fence(fence) => not_ended(found, *fence),
            _ => return Err(unknown_kind()),
        };
        settle(request, answer, reply.may_be_a_repeat)
    }

    /// Those by owner share a statement. A forced delete is an operator's: one, not many.
    pub(crate) async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Answer> {
        let order = order_of(requests, |request| &request.lock_id);
        let mut answers = Vec::with_capacity(order.len());
        for batch in order.chunks(BATCH) {
            let batch: Vec<_> = batch.iter().map(|at| &requests[*at]).collect();
            let by_owner = batch.iter().filter_map(|request| Some((*request, owner_of(request)?)));
            let by_owner: Vec<_> = by_owner.collect();
            let released = self.delete_batch(&by_owner).await;
            let mut released = released.unwrap_or_else(|error| error.for_all(by_owner.len())).into_iter();
            for request in batch {
                answers.push(match owner_of(request) {
                    Some(_) => released.next().unwrap_or_else(|| Err(busy())),
                    None => self.delete(request).await,
                });
            }
        }
        back_in_order(order, answers)
    }

    async fn delete_batch(&self, batch: &[(&DeleteRequest, OwnerToken)]) -> Result<Vec<Answer>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let ids = || batch.iter().map(|(request, _)| &request.lock_id);
        let (delete, read) = (self.sql.delete_many(batch), self.sql.find(ids()));
        let (reply, [delete, read]) = if self.sql.is_galera() {
            // A transaction of several statements may be undone without an error there: see `galera::granting`.
            let mut reply = self.client.send(&[delete, COMMITTED.into(), read]).await?;
            let [delete, _, read] = take(&mut reply.answers).try_into().map_err(|_| busy())?;
            (reply, [delete, read])
        } else {
            // Read in the same transaction: otherwise others could be granted the locks before their rows are read.
            let statements = [COMMITTED.into(), "START TRANSACTION".into(), delete, read, "COMMIT".into()];
            let mut reply = self.client.send(&statements).await?;
            let [_, _, delete, read, _] = take(&mut reply.answers).try_into().map_err(|_| busy())?;
            (reply, [delete, read])
        };
        // Two are affected for each row that an upsert changes.
        let released = usize::try_from(delete.affected_rows / 2).unwrap_or(0);
        if released == batch.len() {
            return Ok(batch.iter().map(|_| Ok(Deleted::Released)).collect());
        }
        let rows = by_id(read.rows.into_iter().map(Found::read).collect::<Result<_, _>>()?);
        let uncommitted = self.read_uncommitted_too(ids()).await?.0;
        // Those that this statement has released bear its time. If more do, another delete of the same owner did its work in
        // the same microsecond, and which has done what is not known: asked again, they have been released before.
        let now = last_insert_id(Some(&delete));
        let is_ours = |owner: &OwnerToken, found: Option<&Found>| {
            found.is_some_and(|found| {
                found.was_released_by(owner) && now != 0 && found.row.released_at == Some(StoreTime::from_micros(now))
            })
        };
        let was_released =
            |owner: &OwnerToken, found: Option<&Found>| found.is_some_and(|found| found.was_released_by(owner));
        let ours = batch.iter().filter(|(request, owner)| is_ours(owner, rows.get(&request.lock_id))).count();
        let answers = batch.iter().map(|(request, owner)| {
            let found = rows.get(&request.lock_id);
            let answer = match is_ours(owner, found) {
                true if ours == released => Ok(Deleted::Released),
                true => Err(busy()),
                // Granted to another since: whether by this request or before is not known.
                false if ours < released && was_released(owner, found) => Err(busy()),
                false => not_released(found, uncommitted.get(&request.lock_id), owner),
            };
            settle(request, answer, reply.may_be_a_repeat)
        });
        Ok(answers.collect())
    }
}

fn owner_of(request: &DeleteRequest) -> Option<OwnerToken> {
    match request.by {
        DeleteBy::Owner(owner) => Some(owner),
        _ => None,
    }
}

/// Why nothing was released in an owner's name. `uncommitted` is the row with what other transactions have not committed
/// yet, such as the grant of this owner that waits for a replica.
fn not_released(found: Option<&Found>, uncommitted: Option<&Found>, owner: &OwnerToken) -> Answer {
    let is_held = |found: Option<&Found>| found.is_some_and(|found| found.is_owned_by(owner) && found.row.is_taken());
    match found {
        Some(found) if found.was_released_by(owner) => Ok(Deleted::Already),
        _ if is_held(found) || is_held(uncommitted) => Err(busy()),
        _ => Ok(Deleted::NotHeld),
    }
}

/// Why the acquisition with that fencing token was not ended.
fn not_ended(found: Option<&Found>, fence: Fence) -> Answer {
    match found {
        Some(found) if found.row.fence == fence && found.row.is_taken() => Err(busy()),
        Some(found) if found.row.fence == fence && !found.row.owned => Ok(Deleted::Already),
        _ => Ok(Deleted::NotHeld),
    }
}

/// The answer, if the request may have been sent before and its reply lost. If the lock was released before, that was this
/// request. If not, it is no longer held, but whether it was held until then is not known, and neither answer may be guessed.
fn settle(request: &DeleteRequest, answer: Answer, may_be_a_repeat: bool) -> Answer {
    match answer {
        Ok(Deleted::Already) if may_be_a_repeat => Ok(Deleted::Released),
        Ok(Deleted::NotHeld) if may_be_a_repeat => {
            let message = format!(
                "the connection broke while lock `{}` was being released: it is no longer held, but whether it was until \
                 then is not known",
                request.lock_id
            );
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        }
        Err(error) if may_be_a_repeat => Err(unknown_outcome(error)),
        answer => answer,
    }
}

fn unknown_kind() -> StoreError {
    StoreError::new(
        StoreErrorKind::Other,
        "this version of db-mutex-mysql does not know this kind of delete; update it",
    )
}
