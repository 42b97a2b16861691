//! What all operations share, and those that read and purge; inserting, renewing and deleting have their own files.

use std::collections::HashMap;
use std::sync::Arc;

use db_mutex_core::admin::LockRow;
use db_mutex_core::store::{InsertRequest, StoreTime};
use db_mutex_core::{LockId, StoreError, StoreErrorKind};

use crate::cluster::Cluster;
use crate::galera::YOUNGEST_PURGED_US;
use crate::row::{Found, bytes};
use crate::send::{Answer, Client, Reply};
use crate::sql::{COMMITTED, Sql};
use crate::statement::Statement;

/// The maximum number of requests in one statement. Each takes at most 8 KB, and servers accept 16 MB by default. It is
/// below the 1000 values from which MariaDB turns a list into a join. Longer statements were not faster.
pub(crate) const BATCH: usize = 500;

/// How many rows a purge removes at a time, so that none of its statements takes long.
const PURGED_AT_ONCE: usize = 500;

/// The operations of the contract.
#[derive(Clone)]
pub(crate) struct Operations {
    pub(crate) client: Client,
    pub(crate) sql: Arc<Sql>,
    pub(crate) cluster: Cluster,
}

impl Operations {
    pub(crate) async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        Ok(self.read(self.sql.find([id])).await?.pop().map(|found| found.row))
    }

    pub(crate) async fn list(&self, include_free: bool) -> Result<Vec<LockRow>, StoreError> {
        Ok(self.read(self.sql.list(include_free)).await?.into_iter().map(|found| found.row).collect())
    }

    pub(crate) async fn purge(&self, older_than_us: i64) -> Result<u64, StoreError> {
        let older_than_us = match self.sql.is_galera() {
            true => older_than_us.max(YOUNGEST_PURGED_US),
            false => older_than_us,
        };
        let (mut purged, mut after) = (0, Vec::new());
        loop {
            let reply = self.client.send(&[self.sql.purgeable(older_than_us, &after, PURGED_AT_ONCE)]).await?;
            let rows = reply.answers.into_iter().flat_map(|answer| answer.rows);
            let ids: Vec<_> = rows.filter_map(|row| bytes(row.unwrap().into_iter().next()?)).collect();
            let Some(last) = ids.last() else { return Ok(purged) };
            after.clone_from(last);
            let purge = [self.sql.purge(older_than_us, &ids)].into_iter().chain(self.sql.after_purge(&ids));
            let reply = self.client.send(&purge.collect::<Vec<_>>()).await?;
            purged += reply.answers.first().map_or(0, |answer| answer.affected_rows);
        }
    }

    async fn read(&self, select: Statement) -> Result<Vec<Found>, StoreError> {
        read_last(&mut self.client.send(&[COMMITTED.into(), select]).await?)
    }

    /// Reads the rows of some ids: first with what is not committed yet, then as they are committed.
    pub(crate) async fn read_uncommitted_too<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a LockId> + Clone,
    ) -> Result<(HashMap<LockId, Found>, HashMap<LockId, Found>), StoreError> {
        let select = || self.sql.find(ids.clone());
        let mut reply = self.client.send(&[select(), COMMITTED.into(), select()]).await?;
        let committed = by_id(read_last(&mut reply)?);
        reply.answers.truncate(1);
        Ok((by_id(read_last(&mut reply)?), committed))
    }

    /// Reads the rows of some ids as they are committed.
    pub(crate) async fn read_by_id<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a LockId>,
    ) -> Result<HashMap<LockId, Found>, StoreError> {
        Ok(by_id(self.read(self.sql.find(ids)).await?))
    }

    /// Sends a write and reads the rows back, in one round trip.
    pub(crate) async fn write_and_read<'a>(
        &self,
        write: Statement,
        ids: impl IntoIterator<Item = &'a LockId>,
    ) -> Result<Written, StoreError> {
        let reply = self.client.send(&[write, COMMITTED.into(), self.sql.find(ids)]).await?;
        written(reply)
    }

    /// Same as [`write_and_read`](Self::write_and_read) for a write that grants locks.
    pub(crate) async fn grant_and_read(
        &self,
        insert: Statement,
        requests: &[&InsertRequest],
    ) -> Result<Written, StoreError> {
        let mut statements = self.sql.granting(insert, requests);
        statements.extend([COMMITTED.into(), self.sql.find(requests.iter().map(|request| &request.lock_id))]);
        written(self.client.send_grant(&statements).await?)
    }
}

/// What a write that the rows are read back after has done.
pub(crate) struct Written {
    /// The store's clock when rows were written; zero if none was.
    pub(crate) at: StoreTime,
    pub(crate) rows: HashMap<LockId, Found>,
    /// As in the [reply](Reply::may_be_a_repeat).
    pub(crate) may_be_a_repeat: bool,
}

fn written(mut reply: Reply) -> Result<Written, StoreError> {
    let rows = by_id(read_last(&mut reply)?);
    Ok(Written { at: StoreTime::from_micros(last_insert_id_of(&reply)), rows, may_be_a_repeat: reply.may_be_a_repeat })
}

/// The last insert id of the statement that has set one; zero if none did. At most one of ours does.
fn last_insert_id_of(reply: &Reply) -> i64 {
    reply.answers.iter().map(|answer| last_insert_id(Some(answer))).max().unwrap_or(0)
}

/// The last insert id of a statement; zero if it set none.
pub(crate) fn last_insert_id(answer: Option<&Answer>) -> i64 {
    answer.and_then(|answer| i64::try_from(answer.last_insert_id).ok()).unwrap_or(0)
}

/// The rows that the last statement of a request returned.
pub(crate) fn read_last(reply: &mut Reply) -> Result<Vec<Found>, StoreError> {
    let rows = reply.answers.pop().map(|answer| answer.rows).unwrap_or_default();
    rows.into_iter().map(Found::read).collect()
}

pub(crate) fn by_id(rows: Vec<Found>) -> HashMap<LockId, Found> {
    rows.into_iter().map(|found| (found.row.lock_id.clone(), found)).collect()
}

/// The row could not be locked at once, or has just been inserted or purged by a transaction that is not committed yet.
pub(crate) fn busy() -> StoreError {
    let message =
        "another transaction has the row of the lock locked; try again (is one open that has verified the lock?)";
    StoreError::new(StoreErrorKind::Busy, message)
}

/// The positions of the requests in the order of their ids: all rows are locked in one order, so that two batches cannot
/// deadlock.
pub(crate) fn order_of<Q>(requests: &[Q], id: impl Fn(&Q) -> &LockId) -> Vec<usize> {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_unstable_by_key(|at| id(&requests[*at]));
    order
}

/// Answers in the order of the requests again.
pub(crate) fn back_in_order<A>(order: Vec<usize>, answers: Vec<A>) -> Vec<A> {
    let mut numbered: Vec<_> = order.into_iter().zip(answers).collect();
    numbered.sort_unstable_by_key(|(at, _)| *at);
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
        assert_eq!(back_in_order(order, locked), ["c", "a", "d", "b"]);
    }
}
