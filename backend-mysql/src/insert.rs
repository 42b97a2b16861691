//! Asking for locks.

use std::collections::HashMap;

use db_mutex_core::store::{InsertRequest, Inserted, Lease, StoreTime};
use db_mutex_core::{Fence, LockId, OwnerToken, StoreError};

use crate::operations::{BATCH, Operations, Written, back_in_order, busy, last_insert_id, order_of, read_last};
use crate::row::Found;
use crate::sql::COMMITTED;

type Answer = Result<Inserted, StoreError>;

impl Operations {
    /// One statement if the lock is granted; otherwise a read tells why not.
    pub(crate) async fn insert(&self, request: &InsertRequest) -> Answer {
        let reply = self.client.send(&[self.sql.insert(request)]).await?;
        let granted_at = last_insert_id(reply.answers.first());
        if granted_at != 0 {
            let (fence, acquired_at) = (Fence::new(granted_at), StoreTime::from_micros(granted_at));
            return Ok(Inserted::Granted(Lease::new(fence, acquired_at, acquired_at + request.ttl.duration())));
        }
        let rows = self.read_by_id([&request.lock_id]).await?;
        let mut answers = self.judge(&[request], Written { at: StoreTime::ZERO, rows }).await;
        answers.pop().unwrap_or_else(|| Err(busy()))
    }

    pub(crate) async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Answer> {
        let order = order_of(requests, |request| &request.lock_id);
        let mut answers = Vec::with_capacity(order.len());
        for batch in order.chunks(BATCH) {
            let batch: Vec<_> = batch.iter().map(|at| &requests[*at]).collect();
            let ids = batch.iter().map(|request| &request.lock_id);
            answers.extend(match self.write_and_read(self.sql.insert_many(&batch), ids).await {
                Ok(written) => self.judge(&batch, written).await,
                Err(error) => error.for_all(batch.len()),
            });
        }
        back_in_order(order, answers)
    }

    /// The answers to requests after an insert, from the rows as they are now. Two kinds need one more step: a lock that the
    /// owner was granted before, and a lease that is excessive.
    async fn judge(&self, requests: &[&InsertRequest], mut written: Written) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut repeats = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            let found = written.rows.remove(&request.lock_id);
            answers.push(match found {
                Some(found) if found.is_owned_by(&request.owner) => {
                    if found.row.acquired_at != written.at {
                        repeats.push(at);
                    }
                    Ok(Inserted::Granted(found.row.lease()))
                }
                Some(found) if is_held(&found, &request.owner) && found.row.is_excessive() => {
                    self.end_excess(request, found).await
                }
                found => refusal(found, &request.owner),
            });
        }
        let repeated: Vec<_> = repeats.iter().map(|at| requests[*at]).collect();
        for (at, answer) in repeats.into_iter().zip(self.repeat(&repeated).await) {
            answers[at] = answer;
        }
        answers
    }

    /// Prolongs what the owners have been granted before: the reply to that was lost.
    async fn repeat(&self, requests: &[&InsertRequest]) -> Vec<Answer> {
        if requests.is_empty() {
            return Vec::new();
        }
        let repeat = self.sql.repeat_many(requests);
        match self.write_and_read(repeat, requests.iter().map(|request| &request.lock_id)).await {
            Ok(Written { at, mut rows }) => requests.iter().map(|request| repeated(request, at, &mut rows)).collect(),
            Err(error) => error.for_all(requests.len()),
        }
    }

    /// Lets an excessive lease end within its TTL. The answer is a refusal in any case, also if that fails: the next attempt
    /// does it.
    async fn end_excess(&self, request: &InsertRequest, found: Found) -> Answer {
        let mut statements = self.sql.end_excess(&request.lock_id);
        statements.extend([COMMITTED.into(), self.sql.find([&request.lock_id])]);
        let ended = match self.client.send(&statements).await {
            Ok(mut reply) => read_last(&mut reply)?.pop().filter(|ended| is_held(ended, &request.owner)),
            Err(error) => {
                tracing::debug!(%error, "a lease from a clock that was ahead could not be ended");
                None
            }
        };
        refusal(Some(ended.unwrap_or(found)), &request.owner)
    }
}

fn repeated(request: &InsertRequest, at: StoreTime, rows: &mut HashMap<LockId, Found>) -> Answer {
    match rows.remove(&request.lock_id) {
        Some(found) if found.is_owned_by(&request.owner) => {
            let done = found.is_prolonged(at, request.ttl);
            if done { Ok(Inserted::Granted(found.row.lease())) } else { Err(busy()) }
        }
        found => refusal(found, &request.owner),
    }
}

/// Whether another owner holds the lock, or it rests.
fn is_held(found: &Found, owner: &OwnerToken) -> bool {
    !found.was_released_by(owner) && found.row.is_taken()
}

/// Why an owner that the row does not name was not granted the lock. A lock that is free was not judged: its row was locked,
/// or has just become free.
fn refusal(found: Option<Found>, owner: &OwnerToken) -> Answer {
    match found {
        Some(found) if found.was_released_by(owner) => Ok(Inserted::Spent),
        Some(found) if found.row.is_taken() => Ok(Inserted::Held(found.row.to_holder())),
        _ => Err(busy()),
    }
}
