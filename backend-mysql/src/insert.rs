//! Asking for locks.

use std::collections::HashMap;
use std::time::Duration;

use db_mutex_core::store::{InsertRequest, Inserted, Lease, StoreTime};
use db_mutex_core::{Fence, LockId, OwnerToken, StoreError, StoreErrorKind};

use crate::operations::{BATCH, Operations, Written, back_in_order, busy, by_id, last_insert_id, order_of, read_last};
use crate::row::Found;
use crate::send::unknown_outcome;
use crate::sql::{COMMITTED, Sql};

type Answer = Result<Inserted, StoreError>;

impl Operations {
    /// One statement if the lock is granted; otherwise a read finds out why not.
    ///
    /// After a connection has broken, the server may still be executing the request: the repeat then finds the row locked
    /// by the first attempt. So it is sent again for a moment. Returning "busy" would claim that nothing has happened.
    pub(crate) async fn insert(&self, request: &InsertRequest) -> Answer {
        let mut may_be_a_repeat = false;
        for pause_ms in [20, 80, 300] {
            let answer = self.insert_once(request, &mut may_be_a_repeat).await;
            match &answer {
                Err(error) if may_be_a_repeat && error.kind() == StoreErrorKind::Busy => {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
                _ => return settle(answer, may_be_a_repeat),
            }
        }
        settle(self.insert_once(request, &mut may_be_a_repeat).await, may_be_a_repeat)
    }

    async fn insert_once(&self, request: &InsertRequest, may_be_a_repeat: &mut bool) -> Answer {
        let written = if self.sql.is_galera() {
            // Only what was read back was granted: see `galera::granting`.
            self.grant_and_read(self.sql.insert_many(&[request]), &[request]).await?
        } else {
            let reply = self.client.send_grant(&[self.sql.insert(request)]).await?;
            *may_be_a_repeat |= reply.may_be_a_repeat;
            let granted_at = last_insert_id(reply.answers.first());
            if granted_at != 0 {
                let (fence, acquired_at) = (Fence::new(granted_at), StoreTime::from_micros(granted_at));
                return Ok(Inserted::Granted(Lease::new(fence, acquired_at, acquired_at + request.ttl.duration())));
            }
            let rows = self.read_by_id([&request.lock_id]).await?;
            Written { at: StoreTime::ZERO, rows, may_be_a_repeat: reply.may_be_a_repeat }
        };
        *may_be_a_repeat |= written.may_be_a_repeat;
        self.judge(&[request], written).await.pop().unwrap_or_else(|| Err(busy()))
    }

    pub(crate) async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Answer> {
        let order = order_of(requests, |request| &request.lock_id);
        let mut answers = Vec::with_capacity(order.len());
        for batch in order.chunks(BATCH) {
            let batch: Vec<_> = batch.iter().map(|at| &requests[*at]).collect();
            answers.extend(match self.grant_and_read(self.sql.insert_many(&batch), &batch).await {
                Ok(written) => {
                    let may_be_a_repeat = written.may_be_a_repeat;
                    let answers = self.judge(&batch, written).await;
                    answers.into_iter().map(|answer| settle(answer, may_be_a_repeat)).collect()
                }
                Err(error) => error.for_all(batch.len()),
            });
        }
        back_in_order(order, answers)
    }

    /// The answers to requests after an insert, from the rows as they are now. Two kinds need one more step: a lock that the
    /// owner was granted before, and a lease that is excessive.
    async fn judge(&self, requests: &[&InsertRequest], mut written: Written) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(requests.len());
        let (mut repeats, mut excessive) = (Vec::new(), Vec::new());
        for (at, request) in requests.iter().enumerate() {
            let found = written.rows.remove(&request.lock_id);
            answers.push(match found {
                Some(found) if found.is_owned_by(&request.owner) => {
                    if found.row.acquired_at != written.at {
                        repeats.push(at);
                    }
                    Ok(Inserted::Granted(found.row.lease()))
                }
                found => {
                    if found.as_ref().is_some_and(|found| is_excessive(found, &request.owner)) {
                        excessive.push(at);
                    }
                    refusal(found, &request.owner)
                }
            });
        }
        let repeated: Vec<_> = repeats.iter().map(|at| requests[*at]).collect();
        for (at, answer) in repeats.into_iter().zip(self.repeat(&repeated).await) {
            answers[at] = answer;
        }
        for excessive in excessive.chunks(Sql::ENDED_AT_ONCE) {
            self.end_excess(requests, excessive, &mut answers).await;
        }
        answers
    }

    /// Prolongs what the owners have been granted before: the reply to that was lost.
    async fn repeat(&self, requests: &[&InsertRequest]) -> Vec<Answer> {
        if requests.is_empty() {
            return Vec::new();
        }
        let repeat = self.sql.repeat_many(requests);
        match self.grant_and_read(repeat, requests).await {
            Ok(Written { at, mut rows, .. }) => {
                requests.iter().map(|request| repeated(request, at, &mut rows)).collect()
            }
            Err(error) => error.for_all(requests.len()),
        }
    }

    /// Lets excessive leases end within their TTLs, and puts what is left of them into the answers. These are refusals in any
    /// case, also if that fails: the next attempt does it.
    async fn end_excess(&self, requests: &[&InsertRequest], excessive: &[usize], answers: &mut [Answer]) {
        let ids: Vec<_> = excessive.iter().map(|at| &requests[*at].lock_id).collect();
        let mut statements = self.sql.end_excess(&ids);
        statements.extend([COMMITTED.into(), self.sql.find(ids.iter().copied())]);
        let ended = match self.client.send(&statements).await {
            Ok(mut reply) => read_last(&mut reply),
            Err(error) => Err(error),
        };
        let mut rows = match ended {
            Ok(rows) => by_id(rows),
            Err(error) => return tracing::debug!(%error, "leases from a clock that was ahead could not be ended"),
        };
        for at in excessive {
            let request = requests[*at];
            if let Some(found) = rows.remove(&request.lock_id).filter(|found| found.row.is_taken()) {
                answers[*at] = refusal(Some(found), &request.owner);
            }
        }
    }
}

/// The answer, if the request may have been sent before and its reply lost.
fn settle(answer: Answer, may_be_a_repeat: bool) -> Answer {
    if may_be_a_repeat { answer.map_err(unknown_outcome) } else { answer }
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

/// Whether another owner's lease, or a rest, stays for longer than it can.
fn is_excessive(found: &Found, owner: &OwnerToken) -> bool {
    !found.was_released_by(owner) && found.row.is_excessive()
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
