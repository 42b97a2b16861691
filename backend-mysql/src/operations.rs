use std::collections::HashMap;
use std::time::Duration;

use db_mutex_core::{
    DeleteBy, DeleteRequest, Deleted, InsertRequest, Inserted, LockId, LockRow, OwnerToken, RenewRequest, Renewed,
    StoreError, StoreErrorKind,
};

use crate::client::{Client, Reply};
use crate::row::{Found, bytes};
use crate::sql::Sql;

/// As many as go into one statement: 8 KB each at most, where a server takes 16 MB unless it is told otherwise; and below the
/// 1000 values from which on MariaDB makes a join of a list.
const CHUNK: usize = 500;

/// How many of the dead a purge removes at a time, so that none of its statements takes long.
const PURGED_AT_ONCE: usize = 500;

/// The operations of the contract, each a round trip.
#[derive(Debug, Clone)]
pub(crate) struct Operations {
    pub(crate) client: Client,
    pub(crate) sql: Sql,
}

impl Operations {
    pub(crate) async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let reply = self.client.send(&[self.sql.find([id])]).await?;
        Ok(read_last(reply)?.pop().map(|found| found.row))
    }

    pub(crate) async fn list(&self, include_free: bool) -> Result<Vec<LockRow>, StoreError> {
        let reply = self.client.send(&[self.sql.list(include_free)]).await?;
        Ok(read_last(reply)?.into_iter().map(|found| found.row).collect())
    }

    pub(crate) async fn insert_many(&self, requests: &[InsertRequest]) -> Result<Vec<Inserted>, StoreError> {
        let order = order_of(requests, |request| &request.lock_id);
        let mut answers = Vec::with_capacity(order.len());
        for chunk in order.chunks(CHUNK) {
            let chunk: Vec<_> = chunk.iter().map(|at| &requests[*at]).collect();
            answers.extend(self.insert(&chunk).await?);
        }
        Ok(back_in_order(&order, answers))
    }

    /// Asks for all at once, and reads back whose they are. Mostly that is all. What a holder has left behind is then taken
    /// over, and what turned out to be free meanwhile is asked for again.
    async fn insert(&self, requests: &[&InsertRequest]) -> Result<Vec<Inserted>, StoreError> {
        // An open transaction that has verified the last owner holds a takeover off for as long as it likes; somebody who
        // has just met the row, for a moment. So it is tried again, but not for long.
        const PAUSES_MS: [u64; 4] = [0, 0, 2, 5];

        let mut answers: Vec<Option<Inserted>> = requests.iter().map(|_| None).collect();
        let mut asking: Vec<usize> = (0..requests.len()).collect();
        let mut taking_over: Vec<usize> = Vec::new();
        let mut left_behind: HashMap<usize, LockRow> = HashMap::new();
        for pause in PAUSES_MS {
            if asking.is_empty() && taking_over.is_empty() {
                break;
            }
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let pick = |which: &[usize]| -> Vec<_> { which.iter().map(|at| requests[*at]).collect() };
            let mut statements = Vec::with_capacity(3);
            if !asking.is_empty() {
                statements.push(self.sql.insert(&pick(&asking)));
            }
            if !taking_over.is_empty() {
                statements.push(self.sql.take_over(&pick(&taking_over)));
            }
            let mut asked: Vec<usize> = asking.drain(..).chain(taking_over.drain(..)).collect();
            asked.sort_unstable();
            statements.push(self.sql.find(asked.iter().map(|at| &requests[*at].lock_id)));
            let mut rows = by_id(read_last(self.client.send(&statements).await?)?);
            for at in asked {
                let request = requests[at];
                match rows.remove(&request.lock_id) {
                    Some(found) => match found.lease_of(&request.owner) {
                        Some(lease) => answers[at] = Some(Inserted::Granted(lease)),
                        None if found.row.is_taken() => answers[at] = Some(Inserted::Held(found.row.to_holder())),
                        None if found.row.owned => {
                            taking_over.push(at);
                            left_behind.insert(at, found.row);
                        }
                        None => asking.push(at),
                    },
                    None => asking.push(at),
                }
            }
        }
        for at in taking_over {
            // Not granted, for as long as that transaction is open.
            answers[at] = left_behind.remove(&at).map(|row| Inserted::Held(row.to_holder()));
        }
        answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| {
            StoreError::new(StoreErrorKind::Busy, "the lock was free, but others kept taking it first; try again")
        })
    }

    pub(crate) async fn renew_many(&self, requests: &[RenewRequest]) -> Result<Vec<Renewed>, StoreError> {
        let order = order_of(requests, |request| &request.lock_id);
        let mut answers = Vec::with_capacity(order.len());
        for chunk in order.chunks(CHUNK) {
            let chunk: Vec<_> = chunk.iter().map(|at| &requests[*at]).collect();
            let read_back = self.sql.find(chunk.iter().map(|request| &request.lock_id));
            let reply = self.client.send(&[self.sql.renew(&chunk), read_back]).await?;
            // By whose it is, not by affected rows: a renewal to the same value affects none.
            let rows = by_id(read_last(reply)?);
            answers.extend(chunk.iter().map(|request| {
                let lease = rows.get(&request.lock_id).and_then(|found| found.lease_of(&request.owner));
                lease.map_or(Renewed::NotHeld, Renewed::Renewed)
            }));
        }
        Ok(back_in_order(&order, answers))
    }

    pub(crate) async fn delete_many(&self, requests: &[DeleteRequest]) -> Result<Vec<Deleted>, StoreError> {
        let order = order_of(requests, |request| &request.lock_id);
        let mut answers = Vec::with_capacity(order.len());
        for chunk in order.chunks(CHUNK) {
            let statements: Vec<_> = chunk.iter().map(|at| self.sql.delete(&requests[*at])).collect();
            let reply = match statements.as_slice() {
                [_one] => self.client.send(&statements).await?,
                // One commit for all.
                _ => self.client.send_as_transaction(&statements).await?,
            };
            for (at, answer) in chunk.iter().zip(&reply.answers) {
                answers.push(match answer.last_insert_id {
                    0 if reply.may_be_a_repeat => return Err(unknown(&requests[*at])),
                    0 => Deleted::NotHeld,
                    _ => Deleted::Released,
                });
            }
        }
        Ok(back_in_order(&order, answers))
    }

    pub(crate) async fn purge(&self, older_than_us: i64) -> Result<u64, StoreError> {
        let (mut purged, mut after) = (0, Vec::new());
        loop {
            let reply = self.client.send(&[self.sql.purgeable(older_than_us, &after, PURGED_AT_ONCE)]).await?;
            let rows = reply.answers.into_iter().flat_map(|answer| answer.rows);
            let ids: Vec<_> = rows.filter_map(|row| bytes(row.unwrap().into_iter().next()?)).collect();
            let Some(last) = ids.last() else { return Ok(purged) };
            after.clone_from(last);
            let reply = self.client.send(&[self.sql.purge(older_than_us, &ids)]).await?;
            purged += reply.answers.iter().map(|answer| answer.affected_rows).sum::<u64>();
        }
    }
}

/// In whose name it is deleted, unless by force.
pub(crate) fn owner_of(request: &DeleteRequest) -> Option<OwnerToken> {
    match request.by {
        DeleteBy::Owner(owner) => Some(owner),
        DeleteBy::Force => None,
    }
}

/// The reply to a delete was lost; repeated, it found nothing. The lock is given back, but whether it was held until then
/// cannot be known any more, and neither answer may be guessed.
fn unknown(request: &DeleteRequest) -> StoreError {
    let message = format!(
        "the connection broke while lock `{}` was being released: it is no longer held, but whether it was until then is \
         not known",
        request.lock_id
    );
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// The rows that the last statement of a request answered.
fn read_last(mut reply: Reply) -> Result<Vec<Found>, StoreError> {
    let rows = reply.answers.pop().map(|answer| answer.rows).unwrap_or_default();
    rows.into_iter().map(Found::read).collect()
}

fn by_id(rows: Vec<Found>) -> HashMap<LockId, Found> {
    rows.into_iter().map(|found| (found.row.lock_id.clone(), found)).collect()
}

/// The positions of the requests in the order of their ids: all lock rows in one order, so that they cannot deadlock.
fn order_of<Q>(requests: &[Q], id: impl Fn(&Q) -> &LockId) -> Vec<usize> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_unstable_by_key(|at| id(&requests[*at]));
    order
}

/// Answers in the order of the requests again.
fn back_in_order<A>(order: &[usize], answers: Vec<A>) -> Vec<A> {
    let mut numbered: Vec<_> = order.iter().zip(answers).collect();
    numbered.sort_unstable_by_key(|(at, _)| **at);
    numbered.into_iter().map(|(_, answer)| answer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order of the requests, two batches would lock rows in different orders, and deadlock.
    #[test]
    fn rows_are_locked_in_the_order_of_their_ids_and_answered_in_that_of_the_requests() {
        let requests = ["c", "a", "d", "b"].map(|id| LockId::new(id).unwrap());
        let order = order_of(&requests, |id| id);
        let locked: Vec<_> = order.iter().map(|at| requests[*at].as_str()).collect();
        assert_eq!(locked, ["a", "b", "c", "d"]);
        assert_eq!(back_in_order(&order, locked), ["c", "a", "d", "b"]);
    }
}
