use std::collections::HashMap;
use std::time::Duration;

use db_mutex_core::{
    DeleteBy, DeleteRequest, Deleted, Fence, Holder, HolderText, InsertRequest, Inserted, Lease, ListFilter, LockId,
    LockRow, LockStore, RenewRequest, Renewed, StoreError, StoreErrorKind as Kind, async_trait,
};
use tokio_postgres::Row;

use crate::PostgresStore;
use crate::error::explain_right;
use crate::session::Value;

#[async_trait]
impl LockStore for PostgresStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let sql = &self.shared.sql.insert;
        let values = vec![
            Value::Text(request.lock_id.to_string()),
            Value::Bytes(request.owner.as_bytes().to_vec()),
            Value::Text(request.holder.to_string()),
            Value::Number(request.ttl.as_micros()),
        ];
        let mut again = Again::default();
        loop {
            let ticket = self.shared.in_flight.enter([request.owner]);
            let answer = self.shared.session.run_keeping(ticket, sql, values.clone()).await?;
            let verdict = answer.rows.first().map(read_verdict).transpose()?;
            if let Some(answer) = again.judge(verdict).await? {
                self.note_refusal(&request.lock_id, &answer);
                return Ok(answer);
            }
        }
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let id = Value::Text(request.lock_id.to_string());
        let answer = match &request.by {
            DeleteBy::Owner(owner) => {
                self.shared.in_flight.settled(owner).await;
                let values =
                    vec![id, Value::Bytes(owner.as_bytes().to_vec()), Value::Number(Some(request.hold_at_least_us()))];
                self.shared.session.run(&self.shared.sql.delete_by_owner, values).await?
            }
            DeleteBy::Force => self.shared.session.run(&self.shared.sql.delete_by_force, vec![id]).await?,
        };
        match answer.rows.is_empty() {
            false => Ok(Deleted::Released),
            true if answer.repeated => Err(released_or_lost()),
            true => Ok(Deleted::NotHeld),
        }
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let values = vec![
            Value::Text(request.lock_id.to_string()),
            Value::Bytes(request.owner.as_bytes().to_vec()),
            Value::Number(request.ttl.as_micros()),
        ];
        let answer = self.shared.session.run(&self.shared.sql.renew, values).await?;
        match answer.rows.first() {
            Some(row) => Ok(Renewed::Renewed(read_lease(row, 0)?)),
            None => Ok(Renewed::NotHeld),
        }
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let older_than_us = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
        let answer = self.shared.session.run(&self.shared.sql.purge, vec![Value::Number(Some(older_than_us))]).await;
        let answer = answer.map_err(|error| {
            explain_right(error, || {
                "purging needs a right that nothing else does; grant DELETE on the table".to_owned()
            })
        })?;
        let purged: i64 = answer.rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(unreadable)?;
        Ok(u64::try_from(purged).unwrap_or(0))
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let answer = self.shared.session.run(&self.shared.sql.find, vec![Value::Text(id.to_string())]).await?;
        answer.rows.first().map(|row| read_row(row, 0)).transpose()
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let sql = if filter.include_free { &self.shared.sql.list_all } else { &self.shared.sql.list_taken };
        let answer = self.shared.session.run(sql, Vec::new()).await?;
        answer.rows.iter().map(|row| read_row(row, 0)).collect()
    }

    async fn insert_many(&self, requests: &[InsertRequest]) -> Result<Vec<Inserted>, StoreError> {
        let mut answers: HashMap<&str, Inserted> = HashMap::with_capacity(requests.len());
        let mut again: HashMap<&str, Again> = HashMap::new();
        loop {
            let open: Vec<_> =
                requests.iter().filter(|request| !answers.contains_key(request.lock_id.as_str())).collect();
            if open.is_empty() {
                break;
            }
            let values = vec![
                Value::Texts(open.iter().map(|request| request.lock_id.to_string()).collect()),
                Value::ByteStrings(open.iter().map(|request| request.owner.as_bytes().to_vec()).collect()),
                Value::Texts(open.iter().map(|request| request.holder.to_string()).collect()),
                Value::Numbers(open.iter().map(|request| request.ttl.as_micros()).collect()),
            ];
            let ticket = self.shared.in_flight.enter(open.iter().map(|request| request.owner));
            let answer = self.shared.session.run_keeping(ticket, &self.shared.sql.insert_many, values).await?;
            let mut verdicts = HashMap::with_capacity(answer.rows.len());
            for row in &answer.rows {
                verdicts.insert(row.try_get::<_, &str>(1).map_err(unreadable)?, read_verdict(row)?);
            }
            for request in open {
                let id = request.lock_id.as_str();
                if let Some(answer) = again.entry(id).or_default().judge(verdicts.remove(id)).await? {
                    self.note_refusal(&request.lock_id, &answer);
                    answers.insert(id, answer);
                }
            }
        }
        in_order(requests.iter().map(|request| request.lock_id.as_str()), |id| answers.remove(id))
    }

    async fn delete_many(&self, requests: &[DeleteRequest]) -> Result<Vec<Deleted>, StoreError> {
        // Force is an operator's, and one at a time.
        let owners: Option<Vec<_>> = requests
            .iter()
            .map(|request| match request.by {
                DeleteBy::Owner(owner) => Some(owner),
                DeleteBy::Force => None,
            })
            .collect();
        let Some(owners) = owners else {
            let mut answers = Vec::with_capacity(requests.len());
            for request in requests {
                answers.push(self.delete(request).await?);
            }
            return Ok(answers);
        };
        for owner in &owners {
            self.shared.in_flight.settled(owner).await;
        }
        let values = vec![
            Value::Texts(requests.iter().map(|request| request.lock_id.to_string()).collect()),
            Value::ByteStrings(owners.iter().map(|owner| owner.as_bytes().to_vec()).collect()),
            Value::Numbers(requests.iter().map(|request| Some(request.hold_at_least_us())).collect()),
        ];
        let answer = self.shared.session.run(&self.shared.sql.delete_many, values).await?;
        if answer.repeated && answer.rows.len() < requests.len() {
            return Err(released_or_lost());
        }
        let mut released = HashMap::with_capacity(answer.rows.len());
        for row in &answer.rows {
            released.insert(row.try_get::<_, &str>(0).map_err(unreadable)?, Deleted::Released);
        }
        let of = |id: &str| Some(released.get(id).copied().unwrap_or(Deleted::NotHeld));
        in_order(requests.iter().map(|request| request.lock_id.as_str()), of)
    }

    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        match &self.shared.listener {
            Some(listener) => listener.wait(id, at_most).await,
            None => tokio::time::sleep(at_most).await,
        }
        Ok(())
    }

    async fn renew_many(&self, requests: &[RenewRequest]) -> Result<Vec<Renewed>, StoreError> {
        let values = vec![
            Value::Texts(requests.iter().map(|request| request.lock_id.to_string()).collect()),
            Value::ByteStrings(requests.iter().map(|request| request.owner.as_bytes().to_vec()).collect()),
            Value::Numbers(requests.iter().map(|request| request.ttl.as_micros()).collect()),
        ];
        let answer = self.shared.session.run(&self.shared.sql.renew_many, values).await?;
        let mut renewed = HashMap::with_capacity(answer.rows.len());
        for row in &answer.rows {
            renewed.insert(row.try_get::<_, &str>(0).map_err(unreadable)?, Renewed::Renewed(read_lease(row, 1)?));
        }
        in_order(requests.iter().map(|request| request.lock_id.as_str()), |id| {
            Some(renewed.remove(id).unwrap_or(Renewed::NotHeld))
        })
    }
}

impl PostgresStore {
    /// A refusal shows the listener whether what it has marked is still what stands in the way.
    fn note_refusal(&self, id: &LockId, answer: &Inserted) {
        if let (Some(listener), Inserted::Held(holder)) = (&self.shared.listener, answer) {
            listener.refused(id, holder.fence.get(), holder.expires_in == Some(Duration::ZERO));
        }
    }
}

/// What an insert's statement says of one id.
enum Verdict {
    Granted(Lease),
    Taken(Holder),
    /// The row was skipped: somebody else has it locked.
    Busy(LockRow),
}

/// How often an id was asked for without a decision.
#[derive(Default)]
struct Again(u32);

impl Again {
    /// The answer, or `None` to ask again.
    ///
    /// A free row that is still locked when it is asked for again belongs to somebody: to a transaction that has verified
    /// the lock and may commit, or to another's takeover. Anything else is a moment between two statements of others.
    async fn judge(&mut self, verdict: Option<Verdict>) -> Result<Option<Inserted>, StoreError> {
        self.0 += 1;
        match verdict {
            Some(Verdict::Granted(lease)) => return Ok(Some(Inserted::Granted(lease))),
            Some(Verdict::Taken(holder)) => return Ok(Some(Inserted::Held(holder))),
            Some(Verdict::Busy(row)) if self.0 >= 2 && !row.is_taken() => {
                return Ok(Some(Inserted::Held(row.to_holder())));
            }
            _ => {}
        }
        if self.0 >= 10 {
            return Err(StoreError::new(Kind::Busy, "the row of the lock stayed locked by somebody else; try again"));
        }
        if self.0 >= 2 {
            tokio::time::sleep(Duration::from_millis(u64::from(self.0))).await;
        }
        Ok(None)
    }
}

fn in_order<'a, A>(
    ids: impl Iterator<Item = &'a str>,
    mut answer: impl FnMut(&str) -> Option<A>,
) -> Result<Vec<A>, StoreError> {
    let missing =
        || StoreError::new(Kind::Other, "PostgreSQL gave no answer for one of many ids; were they different?");
    ids.map(|id| answer(id).ok_or_else(missing)).collect()
}

/// The first of two releases may have been done, its reply lost; or the lease was over before. Only the row's history could
/// tell, and it has none.
fn released_or_lost() -> StoreError {
    let message = "the connection broke during the release; the lock is released now, but it may have been lost before";
    StoreError::new(Kind::Unavailable, message)
}

fn unreadable(error: tokio_postgres::Error) -> StoreError {
    StoreError::new(Kind::Schema, "PostgreSQL answered a row that is not db-mutex's").with_source(error)
}

fn read_verdict(row: &Row) -> Result<Verdict, StoreError> {
    Ok(match row.try_get(0).map_err(unreadable)? {
        "granted" => {
            Verdict::Granted(read_row(row, 1).map(|row| Lease::new(row.fence, row.acquired_at_us, row.expires_at_us))?)
        }
        "taken" => Verdict::Taken(read_row(row, 1)?.to_holder()),
        _ => Verdict::Busy(read_row(row, 1)?),
    })
}

/// Reads fence, acquisition and expiry, from column `at` on.
fn read_lease(row: &Row, at: usize) -> Result<Lease, StoreError> {
    let read = || Ok(Lease::new(Fence::new(row.try_get(at)?), row.try_get(at + 1)?, row.try_get(at + 2)?));
    read().map_err(unreadable)
}

/// Reads the columns of `sql`'s `ROW` and the clock, from column `at` on.
fn read_row(row: &Row, at: usize) -> Result<LockRow, StoreError> {
    let id = LockId::new(row.try_get::<_, &str>(at).map_err(unreadable)?).map_err(|invalid| {
        StoreError::new(Kind::Schema, "the table has a row that is not db-mutex's").with_source(invalid)
    })?;
    let read = || -> Result<LockRow, tokio_postgres::Error> {
        let lease = Lease::new(Fence::new(row.try_get(at + 2)?), row.try_get(at + 4)?, row.try_get(at + 6)?);
        let mut read = LockRow::new(id, HolderText::lossy(row.try_get(at + 3)?), lease);
        read.owned = row.try_get(at + 1)?;
        read.released_at_us = row.try_get(at + 5)?;
        read.now_us = row.try_get(at + 7)?;
        Ok(read)
    };
    read().map_err(unreadable)
}
