use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::cas::machine_clock;
use super::rules::{self, Outcome, Row};
use super::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, ListFilter, LockId, LockRow, LockStore, RenewRequest,
    Renewed, StoreError, StoreErrorKind, StoreTime,
};
use crate::values::ManualClock;

/// A store that keeps locks in memory: the reference for other stores, and a store for your own tests.
///
/// Clones share their locks; other processes do not see them. With a [`ManualClock`], a test controls its time.
///
/// ```
/// use db_mutex_core::{DbMutex, testing::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), db_mutex_core::Error> {
/// let mutex = DbMutex::new(MemoryStore::new())?;
/// let guard = mutex.lock("report").acquire().await?;
/// assert!(mutex.lock("report").try_acquire().await.unwrap_err().is_held());
/// guard.release().await
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    table: Arc<Mutex<Table>>,
    clock: Option<ManualClock>,
}

#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<LockId, Row>,
    /// The rows that a [`RowLock`] keeps.
    locked: BTreeSet<LockId>,
}

impl MemoryStore {
    /// An empty store on the system's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose time is `clock`'s.
    pub fn with_clock(clock: ManualClock) -> Self {
        Self { clock: Some(clock), ..Self::default() }
    }

    /// Locks the row of an id as another transaction of a database would: until the returned value is dropped, inserts,
    /// renewals and deletes that would change the row fail with [`StoreErrorKind::Busy`]. Reads and refusals still succeed.
    pub fn lock_row(&self, lock_id: &LockId) -> RowLock {
        self.table().locked.insert(lock_id.clone());
        RowLock { store: self.clone(), lock_id: lock_id.clone() }
    }

    /// Changes the row of an id, if it has one, without the store's rules. For tests of the suite, and of rows that a clock
    /// that was ahead has left.
    pub fn change_row(&self, lock_id: &LockId, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.table().rows.get_mut(lock_id) {
            change(row);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No other code runs under this mutex, and no panic can leave a row half written.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, and the time read *after* the wait for it.
    fn open(&self) -> (MutexGuard<'_, Table>, StoreTime) {
        let table = self.table();
        let now = match &self.clock {
            Some(clock) => clock.store_time(),
            None => machine_clock(),
        };
        (table, now)
    }

    /// Applies a rule to the row of an id.
    fn apply<A>(
        &self,
        lock_id: &LockId,
        rule: impl FnOnce(Option<&Row>, StoreTime) -> Outcome<A>,
    ) -> Result<A, StoreError> {
        let (mut table, now) = self.open();
        let outcome = rule(table.rows.get(lock_id), now);
        if let Some(row) = outcome.write {
            if table.locked.contains(lock_id) {
                return Err(StoreError::new(StoreErrorKind::Busy, "the row is locked; try again"));
            }
            table.rows.insert(lock_id.clone(), row);
        }
        Ok(outcome.answer)
    }
}

/// A row that is locked: what [`MemoryStore::lock_row`] returns.
#[derive(Debug)]
#[must_use = "the row is unlocked when this is dropped"]
pub struct RowLock {
    store: MemoryStore,
    lock_id: LockId,
}

impl Drop for RowLock {
    fn drop(&mut self) {
        self.store.table().locked.remove(&self.lock_id);
    }
}

#[async_trait]
impl LockStore for MemoryStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let mut refusal = None;
        let applied = self.apply(&request.lock_id, |row, now| {
            let outcome = rules::insert_and_end_excess(row, request, now);
            refusal = matches!(outcome.answer, Inserted::Held(_)).then(|| outcome.answer.clone());
            outcome
        });
        // It is a refusal also if the row is locked: the next attempt ends the excess.
        applied.or_else(|error| refusal.ok_or(error))
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.apply(&request.lock_id, |row, now| rules::delete(row, request, now))
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.apply(&request.lock_id, |row, now| rules::renew(row, request, now))
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let (mut table, now) = self.open();
        let before = table.rows.len();
        table.rows.retain(|_, row| !rules::is_purgeable(row, older_than, now));
        Ok((before - table.rows.len()) as u64)
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let (table, now) = self.open();
        Ok(table.rows.get(id).map(|row| row.read(id.clone(), now)))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let (table, now) = self.open();
        let rows = table.rows.iter().map(|(id, row)| row.read(id.clone(), now));
        Ok(rows.filter(|row| filter.include_free || row.is_taken()).collect())
    }

    fn limits(&self) -> Limits {
        Limits::new().batch(1_000)
    }
}
