//! A database in memory that can compare and swap, and whose replies get lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use db_mutex_core::store::cas::{CompareAndSwap, Entry, Loaded, Page, Stored, Swapped, machine_clock};
use db_mutex_core::store::rules::Row;
use db_mutex_core::store::{Limits, LockId, StoreTime, async_trait};
use db_mutex_core::testing::ManualClock;
use db_mutex_core::{StoreError, StoreErrorKind};

/// What becomes of a swap.
#[allow(dead_code, reason = "not every test uses all")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It is done, and the reply is lost.
    ReplyLost,
    /// It never arrives.
    Lost,
    /// It arrives with the next swap but one, before it, and the reply is lost.
    Late,
    /// It never returns.
    Hangs,
}

/// What a version is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versions {
    #[default]
    Counted,
    /// The value itself.
    Content,
}

/// Clones are handles on one database.
#[derive(Debug, Clone, Default)]
pub struct MemoryCas {
    pub data: Arc<Mutex<Data>>,
    pub clock: Option<ManualClock>,
    pub versions: Versions,
    /// The entries of a page, of which the first repeats the last one of the page before; 0 is all.
    pub page: usize,
    /// Every third swap of an id loses its reply.
    pub loses_replies: bool,
    /// How many steps other tasks make before each load of this handle.
    pub yields_before_loads: u32,
}

/// What the handles share.
#[derive(Debug, Default)]
pub struct Data {
    values: BTreeMap<LockId, Entry<Vec<u8>>>,
    written: u64,
    locked: BTreeSet<LockId>,
    swaps: BTreeMap<LockId, u64>,
    faults: VecDeque<Fault>,
    late: Option<(LockId, Option<Vec<u8>>, Vec<u8>)>,
    rivals: u32,
    failing_loads: u32,
    loads: u64,
}

impl MemoryCas {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> StoreTime {
        self.clock.as_ref().map_or_else(machine_clock, ManualClock::store_time)
    }

    /// Lets the next swaps suffer these.
    #[allow(dead_code, reason = "not every test uses it")]
    pub fn suffer(&self, faults: impl IntoIterator<Item = Fault>) {
        self.data().faults.extend(faults);
    }

    /// Before each of the next swaps another writer changes the value.
    #[allow(dead_code, reason = "not every test uses it")]
    pub fn rivals(&self, times: u32) {
        self.data().rivals = times;
    }

    /// The next loads fail.
    #[allow(dead_code, reason = "not every test uses it")]
    pub fn fail_loads(&self, times: u32) {
        self.data().failing_loads = times;
    }

    /// How many loads have arrived.
    #[allow(dead_code, reason = "not every test uses it")]
    pub fn loads(&self) -> u64 {
        self.data().loads
    }

    /// How many swaps have arrived.
    #[allow(dead_code, reason = "not every test uses it")]
    pub fn swaps(&self) -> u64 {
        self.data().swaps.values().sum()
    }

    #[allow(dead_code, reason = "not every test uses it")]
    pub fn put(&self, id: &LockId, value: &[u8]) {
        let versions = self.versions;
        self.data().put(id, value, versions);
    }

    /// As `MemoryStore::change_row`.
    #[allow(dead_code, reason = "not every test uses it")]
    pub fn change_row(&self, id: &LockId, change: impl FnOnce(&mut Row)) {
        let (data, versions) = (&mut *self.data(), self.versions);
        if let Some(entry) = data.values.get(id) {
            let mut stored = Stored::from_bytes(&entry.value).unwrap();
            change(&mut stored.row);
            data.put(id, &stored.to_bytes().unwrap(), versions);
        }
    }

    /// As `MemoryStore::lock_row`.
    #[allow(dead_code, reason = "not every test uses it")]
    pub fn lock_row(&self, id: &LockId) -> Locked {
        self.data().locked.insert(id.clone());
        Locked(self.clone(), id.clone())
    }
}

/// A row that is locked until this is dropped.
#[derive(Debug)]
pub struct Locked(MemoryCas, LockId);

impl Drop for Locked {
    fn drop(&mut self) {
        self.0.data().locked.remove(&self.1);
    }
}

impl Data {
    fn put(&mut self, id: &LockId, value: &[u8], versions: Versions) {
        self.written += 1;
        let version = match versions {
            Versions::Counted => self.written.to_string().into_bytes(),
            Versions::Content => value.to_vec(),
        };
        self.values.insert(id.clone(), Entry::new(value, version));
    }

    fn swap(&mut self, id: &LockId, expected: Option<&Vec<u8>>, value: &[u8], versions: Versions) -> Swapped {
        if self.values.get(id).map(|entry| &entry.version) != expected {
            return Swapped::Changed;
        }
        self.put(id, value, versions);
        Swapped::Done
    }

    /// Another writer, who does not change the row: it renews it for less than is left, say.
    fn rival(&mut self, id: &LockId, versions: Versions) {
        if self.rivals > 0 {
            self.rivals -= 1;
            if let Some(entry) = self.values.get(id) {
                let value = Stored::from_bytes(&entry.value).unwrap().to_bytes().unwrap();
                self.put(id, &value, versions);
            }
        }
    }
}

fn broken() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the connection broke")
}

#[async_trait]
impl CompareAndSwap for MemoryCas {
    type Version = Vec<u8>;

    async fn load(&self, id: &LockId) -> Result<Loaded<Vec<u8>>, StoreError> {
        for _ in 0..self.yields_before_loads {
            tokio::task::yield_now().await;
        }
        let data = &mut *self.data();
        data.loads += 1;
        if data.failing_loads > 0 {
            data.failing_loads -= 1;
            return Err(broken());
        }
        Ok(Loaded::new(data.values.get(id).cloned(), self.now()))
    }

    async fn swap(&self, id: &LockId, expected: Option<&Vec<u8>>, value: &[u8]) -> Result<Swapped, StoreError> {
        // So that tasks meet between the load and the swap.
        tokio::task::yield_now().await;
        let (fault, swapped) = {
            let data = &mut *self.data();
            let count = data.swaps.entry(id.clone()).or_default();
            *count += 1;
            let regular = match (self.loses_replies, *count % 6) {
                (true, 2) => Fault::ReplyLost,
                (true, 5) => Fault::Lost,
                _ => Fault::None,
            };
            let fault = data.faults.pop_front().unwrap_or(regular);
            if data.locked.contains(id) {
                return Err(StoreError::new(StoreErrorKind::Busy, "the row is locked; try again"));
            }
            data.rival(id, self.versions);
            if let Some((id, expected, value)) = data.late.take() {
                data.swap(&id, expected.as_ref(), &value, self.versions);
            }
            if fault == Fault::Late {
                data.late = Some((id.clone(), expected.cloned(), value.to_vec()));
            }
            let arrives = matches!(fault, Fault::None | Fault::ReplyLost);
            (fault, arrives.then(|| data.swap(id, expected, value, self.versions)))
        };
        match (fault, swapped) {
            (Fault::None, Some(swapped)) => Ok(swapped),
            (Fault::Hangs, _) => std::future::pending().await,
            _ => Err(broken()),
        }
    }

    async fn remove(&self, id: &LockId, expected: &Vec<u8>) -> Result<Swapped, StoreError> {
        tokio::task::yield_now().await;
        let data = &mut *self.data();
        data.rival(id, self.versions);
        if data.values.get(id).map(|entry| &entry.version) != Some(expected) {
            return Ok(Swapped::Changed);
        }
        data.values.remove(id);
        Ok(Swapped::Done)
    }

    async fn scan(&self, from: Option<&str>) -> Result<Page<Vec<u8>>, StoreError> {
        let data = self.data();
        let from = from.map(|from| LockId::new(from).unwrap());
        let rest = data.values.iter().filter(|(id, _)| from.as_ref().is_none_or(|from| *id >= from));
        let rest: Vec<_> = rest.map(|(id, entry)| (id.clone(), entry.clone())).collect();
        let size = if self.page == 0 { usize::MAX } else { self.page };
        let last = rest.get(size.saturating_sub(1)).filter(|_| rest.len() > size).map(|(id, _)| id.to_string());
        let page = Page::last(rest.into_iter().take(size).map(|(_, entry)| entry).collect(), self.now());
        Ok(match last {
            Some(last) => page.next(last),
            None => page,
        })
    }

    fn limits(&self) -> Limits {
        Limits::new().batch(1_000)
    }

    async fn wait_for_release(&self, _id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        tokio::time::sleep(at_most).await;
        Ok(())
    }
}
