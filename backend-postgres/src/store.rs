use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{
    DeleteBy, DeleteRequest, Deleted, Fence, InsertRequest, Inserted, Lease, Limits, ListFilter, LockId, LockRow,
    LockStore, OwnerToken, RenewRequest, Renewed, StoreError, StoreErrorKind as Kind, async_trait,
};

use crate::PostgresStore;
use crate::batch::{Found, Request, Sending, id, token};
use crate::error::explain_right;
use crate::row::{read, read_lease, read_row};
use crate::send::{Value, unknown_outcome};

#[async_trait]
impl LockStore for PostgresStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        alone(self.insert_many(std::slice::from_ref(request)).await)
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        alone(match request.by {
            DeleteBy::Owner(owner) => self.delete_by_owner(&[ByOwner { request, owner }]).await,
            DeleteBy::Fence(fence) => self.delete_by_fence(&[ByFence { request, fence }]).await,
            _ => vec![Err(unknown_delete())],
        })
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        alone(self.renew_many(std::slice::from_ref(request)).await)
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let older_than_us = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
        let answer = self.shared.client.run(&self.shared.sql.purge, vec![Value::Number(older_than_us)]).await;
        let answer = answer.map_err(|error| {
            explain_right(error, || {
                "PostgreSQL refused a right; to purge, grant SELECT, UPDATE and DELETE on the table".to_owned()
            })
        })?;
        let purged: i64 = answer.rows.first().map_or(Ok(0), |row| read(row, 0))?;
        Ok(u64::try_from(purged).unwrap_or(0))
    }

    async fn find(&self, lock_id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let answer = self.shared.client.run(&self.shared.sql.find, vec![id(lock_id)]).await.map_err(unreadable)?;
        answer.rows.first().map(|row| read_row(row, 0)).transpose()
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let sql = if filter.include_free { &self.shared.sql.list_all } else { &self.shared.sql.list_taken };
        let answer = self.shared.client.run(sql, Vec::new()).await.map_err(unreadable)?;
        answer.rows.iter().map(|row| read_row(row, 0)).collect()
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
        let sending = Sending::new(&self.shared.client, requests);
        let mut verdicts: Vec<_> =
            sending.send(&self.shared.sql.insert).await.into_iter().map(|found| read_verdict(found?)).collect();
        self.end_excess(&mut verdicts).await;
        let answers = verdicts.into_iter().map(|verdict| {
            Ok(match verdict? {
                Verdict::Granted(lease) => Inserted::Granted(lease),
                Verdict::Held(row) | Verdict::Excessive(row) => Inserted::Held(row.to_holder()),
                Verdict::Spent => Inserted::Spent,
            })
        });
        let answers: Vec<_> = answers.collect();
        for (request, answer) in requests.iter().zip(&answers) {
            self.note_refusal(&request.lock_id, answer);
        }
        answers
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        let mut answers: Vec<_> = requests.iter().map(|_| Err(busy())).collect();
        let (mut by_owner, mut places) = (Vec::new(), Vec::new());
        for (at, request) in requests.iter().enumerate() {
            match request.by {
                DeleteBy::Owner(owner) => {
                    by_owner.push(ByOwner { request, owner });
                    places.push(at);
                }
                // An operator's, and few.
                _ => answers[at] = self.delete(request).await,
            }
        }
        for (at, answer) in places.into_iter().zip(self.delete_by_owner(&by_owner).await) {
            answers[at] = answer;
        }
        answers
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        let sending = Sending::new(&self.shared.client, requests);
        let answers = sending.send(&self.shared.sql.renew).await.into_iter().map(|found| {
            let Some(row) = found?.row else { return Ok(Renewed::NotHeld) };
            match read(&row, 0)? {
                "renewed" => Ok(Renewed::Renewed(read_lease(&row, 2)?)),
                _ => Err(busy()),
            }
        });
        answers.collect()
    }

    fn limits(&self) -> Limits {
        // From 512 ids on a longer statement is not faster, but ten thousand leases are still renewed with one.
        let client = &self.shared.client;
        Limits::new().concurrency(client.pool.max_size()).batch(10_000).call(client.sending.timeout())
    }

    fn for_background(&self) -> Option<Arc<dyn LockStore>> {
        self.with_connections_of_its_own().map(|store| Arc::new(store) as Arc<dyn LockStore>)
    }

    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        match &self.shared.listener {
            Some(listener) => listener.wait(id, at_most).await,
            None => tokio::time::sleep(at_most).await,
        }
        Ok(())
    }
}

impl PostgresStore {
    /// Lets rows end in time that stay taken for too long, because the clock was ahead when they were written. A failure
    /// does not matter: the next attempt does it.
    async fn end_excess(&self, verdicts: &mut [Result<Verdict, StoreError>]) {
        let excessive = verdicts.iter_mut().filter_map(|verdict| match verdict {
            Ok(Verdict::Excessive(row)) => Some(row),
            _ => None,
        });
        let mut excessive: Vec<&mut LockRow> = excessive.collect();
        if excessive.is_empty() {
            return;
        }
        let lock_ids = excessive.iter().map(|row| row.lock_id.to_string()).collect();
        match self.shared.client.run(&self.shared.sql.end_excess, vec![Value::Texts(lock_ids)]).await {
            Ok(answer) => {
                for ended in answer.rows.iter().filter_map(|row| read_row(row, 0).ok()) {
                    if let Some(row) = excessive.iter_mut().find(|row| row.lock_id == ended.lock_id) {
                        **row = ended;
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "a lease from a clock that was ahead could not be ended"),
        }
    }

    async fn delete_by_owner(&self, requests: &[ByOwner<'_>]) -> Vec<Result<Deleted, StoreError>> {
        let sending = Sending::new(&self.shared.client, requests);
        let found = sending.send(&self.shared.sql.delete).await;
        found.into_iter().map(|found| read_deleted(found?)).collect()
    }

    async fn delete_by_fence(&self, requests: &[ByFence<'_>]) -> Vec<Result<Deleted, StoreError>> {
        let sending = Sending::new(&self.shared.client, requests);
        let found = sending.send_all_carefully(&self.shared.sql.delete_by_fence).await;
        found.into_iter().map(|found| read_deleted(found?)).collect()
    }

    /// A refusal shows the listener whether the row that it has marked is still that of the current holder.
    fn note_refusal(&self, id: &LockId, answer: &Result<Inserted, StoreError>) {
        if let (Some(listener), Ok(Inserted::Held(holder))) = (&self.shared.listener, answer) {
            listener.refused(id, holder.fence.get());
        }
    }
}

/// A delete by the owner.
struct ByOwner<'a> {
    request: &'a DeleteRequest,
    owner: OwnerToken,
}

impl Request for ByOwner<'_> {
    const IS_GRANT: bool = false;

    fn lock_id(&self) -> &LockId {
        &self.request.lock_id
    }

    fn values(&self) -> Vec<Value> {
        vec![id(&self.request.lock_id), token(&self.owner), Value::Number(self.request.hold_at_least_us())]
    }
}

/// A delete by force.
struct ByFence<'a> {
    request: &'a DeleteRequest,
    fence: Fence,
}

impl Request for ByFence<'_> {
    const IS_GRANT: bool = false;

    fn lock_id(&self) -> &LockId {
        &self.request.lock_id
    }

    fn values(&self) -> Vec<Value> {
        vec![id(&self.request.lock_id), Value::Number(self.fence.get())]
    }
}

/// What the statements say of an insert.
enum Verdict {
    Granted(Lease),
    Held(LockRow),
    Excessive(LockRow),
    Spent,
}

fn read_verdict(found: Found) -> Result<Verdict, StoreError> {
    let row = found.row.ok_or_else(|| match found.repeated {
        // The row may be locked by the first attempt, of whose connection the server is not done.
        true => unknown_outcome(busy()),
        false => busy(),
    })?;
    let held = read_row(&row, 1)?;
    Ok(match read(&row, 0)? {
        "granted" => Verdict::Granted(held.lease()),
        "excessive" => Verdict::Excessive(held),
        "spent" => Verdict::Spent,
        _ => Verdict::Held(held),
    })
}

/// If a delete was sent twice because the first reply was lost, and the lock is released now, the first one did it. If the
/// lease is over, only a history of the row could show whether the first one was in time, and there is none.
fn read_deleted(found: Found) -> Result<Deleted, StoreError> {
    let verdict = found.row.as_ref().map(|row| read::<&str>(row, 0)).transpose()?;
    match (verdict, found.repeated) {
        (Some("released"), _) | (Some("already"), true) => Ok(Deleted::Released),
        (Some("already"), false) => Ok(Deleted::Already),
        (Some(_), true) => Err(unknown_outcome(busy())),
        (Some(_), false) => Err(busy()),
        (None, false) => Ok(Deleted::NotHeld),
        (None, true) => {
            let message =
                "the connection broke during the release; the lock is released now, but it may have been lost before";
            Err(StoreError::new(Kind::Unavailable, message))
        }
    }
}

fn busy() -> StoreError {
    StoreError::new(Kind::Busy, "another transaction has the row of the lock locked; try again")
}

fn unreadable(error: StoreError) -> StoreError {
    explain_right(error, || {
        "PostgreSQL refused a right; to read the locks, grant SELECT on the table, and USAGE on its schema".to_owned()
    })
}

fn unknown_delete() -> StoreError {
    StoreError::new(Kind::Other, "this version of db-mutex-postgres does not know this kind of delete")
}

/// The answer to the only request.
fn alone<A>(answers: Vec<Result<A, StoreError>>) -> Result<A, StoreError> {
    let missing = || Err(StoreError::new(Kind::Other, "PostgreSQL returned nothing for a request"));
    answers.into_iter().next().unwrap_or_else(missing)
}
