use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::{
    DeleteBy, DeleteRequest, Deleted, Fence, HolderText, InsertRequest, Inserted, Lease, ListFilter, LockId, LockRow,
    LockStore, ManualClock, NEVER_US, OwnerToken, PendingDelete, RenewRequest, Renewed, StoreError, Ttl,
};

/// Keeps locks in memory: the reference for other stores, and a store for your own tests.
///
/// Clones share their locks; other processes see nothing of them. With a [`ManualClock`] a test moves its time.
///
/// ```
/// use std::sync::Arc;
/// use db_mutex_core::{DbMutex, MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), db_mutex_core::Error> {
/// let mutex = DbMutex::new(Arc::new(MemoryStore::new()))?;
/// let guard = mutex.lock("report").acquire().await?;
/// assert!(mutex.lock("report").try_acquire().await.unwrap_err().is_held());
/// guard.release().await
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    rows: Arc<Mutex<BTreeMap<LockId, Row>>>,
    clock: Option<ManualClock>,
}

#[derive(Debug)]
struct Row {
    owner: Option<OwnerToken>,
    fence: i64,
    holder: HolderText,
    acquired_at_us: i64,
    released_at_us: Option<i64>,
    expires_at_us: i64,
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

    /// The rows, and the time read *after* the wait for them.
    fn open(&self) -> (MutexGuard<'_, BTreeMap<LockId, Row>>, i64) {
        // No code of others runs under this mutex, and no panic can leave a row half written.
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let now_us = match &self.clock {
            Some(clock) => clock.now_us(),
            None => system_now_us(),
        };
        (rows, now_us)
    }

    fn insert_now(&self, request: &InsertRequest) -> Inserted {
        let (mut rows, now) = self.open();
        let expires_at_us = end_of(request.ttl, now);
        let (fence, acquired_at_us) = match rows.get(&request.lock_id) {
            Some(row) if row.owner == Some(request.owner) => (row.fence, row.acquired_at_us),
            Some(row) if row.expires_at_us > now => {
                return Inserted::Held(row.read(&request.lock_id, now).to_holder());
            }
            Some(row) => (now.max(row.fence + 1), now),
            None => (now, now),
        };
        let row = Row {
            owner: Some(request.owner),
            fence,
            holder: request.holder.clone(),
            acquired_at_us,
            released_at_us: None,
            expires_at_us,
        };
        let lease = row.lease();
        rows.insert(request.lock_id.clone(), row);
        Inserted::Granted(lease)
    }

    fn delete_now(&self, request: &DeleteRequest) -> Deleted {
        let (mut rows, now) = self.open();
        match rows.get_mut(&request.lock_id) {
            Some(row) if row.expires_at_us > now && row.may_be_deleted(request.by) => {
                // From now where the clock has stepped back: else a step of an hour would be an hour's rest.
                let rest_ends = match request.by {
                    DeleteBy::Owner(_) => row.acquired_at_us.min(now).saturating_add(request.hold_at_least_us()),
                    DeleteBy::Force => now,
                };
                row.owner = None;
                row.released_at_us = row.released_at_us.or(Some(now));
                row.expires_at_us = now.max(rest_ends);
                Deleted::Released
            }
            _ => Deleted::NotHeld,
        }
    }
}

impl Row {
    fn may_be_deleted(&self, by: DeleteBy) -> bool {
        match by {
            DeleteBy::Owner(owner) => self.owner == Some(owner),
            DeleteBy::Force => true,
        }
    }

    fn lease(&self) -> Lease {
        Lease::new(Fence::new(self.fence), self.acquired_at_us, self.expires_at_us)
    }

    fn read(&self, lock_id: &LockId, now_us: i64) -> LockRow {
        let mut row = LockRow::new(lock_id.clone(), self.holder.clone(), self.lease());
        row.owned = self.owner.is_some();
        row.released_at_us = self.released_at_us;
        row.now_us = now_us;
        row
    }
}

#[async_trait]
impl LockStore for MemoryStore {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        Ok(self.insert_now(request))
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        Ok(self.delete_now(request))
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let (mut rows, now) = self.open();
        Ok(match rows.get_mut(&request.lock_id) {
            Some(row) if row.owner == Some(request.owner) && row.expires_at_us > now => {
                row.expires_at_us = end_of(request.ttl, now);
                Renewed::Renewed(row.lease())
            }
            _ => Renewed::NotHeld,
        })
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let (mut rows, now) = self.open();
        let limit = now.saturating_sub(i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX));
        let before = rows.len();
        // Without its row an id starts again at the clock: only a token behind the clock may go.
        rows.retain(|_, row| row.expires_at_us > limit || row.fence >= now);
        Ok((before - rows.len()) as u64)
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let (rows, now) = self.open();
        Ok(rows.get(id).map(|row| row.read(id, now)))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let (rows, now) = self.open();
        let rows = rows.iter().map(|(id, row)| row.read(id, now));
        Ok(rows.filter(|row| filter.include_free || row.is_taken()).collect())
    }

    fn delete_soon(&self, delete: PendingDelete) -> Result<(), PendingDelete> {
        self.delete_now(delete.request());
        Ok(())
    }
}

fn end_of(ttl: Ttl, now_us: i64) -> i64 {
    ttl.as_micros().map_or(NEVER_US, |ttl| now_us.saturating_add(ttl))
}

fn system_now_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}
