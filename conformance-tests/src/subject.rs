//! The store under test, and the words in which the cases speak to it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use db_mutex_core::store::{
    DeleteRequest, Deleted, Fence, HolderName, InsertRequest, Inserted, Lease, ListFilter, LockId, LockRow, LockStore,
    OwnerToken, RenewRequest, Renewed, StoreTime, Ttl,
};

use crate::Suite;
use crate::answer::{answered, granted};
use crate::repeating::Repeating;

/// How long a case waits for what has to happen soon.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What a store may lose by rounding its times: the only two-sided bound on times that the suite has.
pub(crate) const ROUNDING: Duration = Duration::from_millis(10);

/// A handle on a new database, and the way to open more.
pub(crate) struct Subject {
    case: &'static str,
    namespace: String,
    suite: Suite,
    store: Arc<dyn LockStore>,
    raw: Arc<dyn LockStore>,
}

impl Deref for Subject {
    type Target = dyn LockStore;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Subject {
    pub(crate) async fn open(case: &'static str, namespace: String, suite: Suite) -> Self {
        let raw = opened(&suite, &namespace).await;
        let store: Arc<dyn LockStore> = Arc::new(Repeating(Arc::clone(&raw)));
        Self { case, namespace, suite, store, raw }
    }

    /// The case's name.
    pub(crate) fn case(&self) -> &'static str {
        self.case
    }

    /// The namespace of the case.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The path of the test that runs the case.
    pub(crate) fn test(&self) -> Option<&str> {
        self.suite.test.as_deref()
    }

    /// The store itself, whose requests are not repeated when they meet a locked row.
    pub(crate) fn raw(&self) -> Arc<dyn LockStore> {
        Arc::clone(&self.raw)
    }

    /// The first handle, to be moved into a task.
    pub(crate) fn first_handle(&self) -> Arc<dyn LockStore> {
        Arc::clone(&self.store)
    }

    /// A new handle on the same database.
    pub(crate) async fn second_handle(&self) -> Arc<dyn LockStore> {
        Arc::new(Repeating(opened(&self.suite, &self.namespace).await))
    }

    /// A handle on a database that is none of the case's.
    pub(crate) async fn another_namespace(&self) -> Arc<dyn LockStore> {
        opened(&self.suite, &another_namespace(&self.namespace)).await
    }

    /// A lock id; the database is the case's own, so it needs no prefix.
    pub(crate) fn id(&self, text: &str) -> LockId {
        LockId::new(text).expect("the suite uses valid ids")
    }

    /// Asks for a free id as a new owner.
    pub(crate) async fn grant(&self, id: &LockId, ttl: Ttl) -> (OwnerToken, Lease) {
        let owner = new_owner();
        let promise = format!("{id:?} is free at this point of the case and must be granted");
        (owner, granted(self.ask_as(owner, id, ttl).await, &promise))
    }

    /// Asks for an id as a new owner, for a minute.
    pub(crate) async fn ask(&self, id: &LockId) -> Inserted {
        self.ask_as(new_owner(), id, minute()).await
    }

    /// Asks for an id as `owner`.
    pub(crate) async fn ask_as(&self, owner: OwnerToken, id: &LockId, ttl: Ttl) -> Inserted {
        answered(self.insert_if_absent(&insert_request(owner, id, ttl)).await, "insert_if_absent")
    }

    /// Gives an id back in the name of `owner`.
    pub(crate) async fn release(&self, owner: OwnerToken, id: &LockId) -> Deleted {
        answered(self.delete(&DeleteRequest::by_owner(id.clone(), owner)).await, "delete by the owner")
    }

    /// Gives an id back in the name of `owner`, to rest until `rest` after its acquisition.
    pub(crate) async fn release_to_rest(&self, owner: OwnerToken, id: &LockId, rest: Duration) -> Deleted {
        let request = DeleteRequest::by_owner(id.clone(), owner).hold_at_least(rest);
        answered(self.delete(&request).await, "delete with hold_at_least")
    }

    /// Releases an id by force, regardless of its holder.
    pub(crate) async fn force(&self, id: &LockId) -> Deleted {
        let fence = self.row(id).await.fence;
        self.force_fence(id, fence).await
    }

    /// Ends the acquisition with that fencing token by force.
    pub(crate) async fn force_fence(&self, id: &LockId, fence: Fence) -> Deleted {
        answered(self.delete(&DeleteRequest::by_fence(id.clone(), fence)).await, "delete by force")
    }

    /// Locks the row of an id as another transaction would, until the returned value is dropped.
    pub(crate) async fn lock_row(&self, id: &LockId) -> Box<dyn Send> {
        match &self.suite.lock_row {
            Some(lock_row) => lock_row(self.namespace.clone(), id.clone()).await,
            None => panic!(
                "this case has to lock a row as another transaction would: give the suite `lock_row = …`, or ignore the \
                 case with the reason if your database has no such locks"
            ),
        }
    }

    /// Moves the times of a row, as if the clock had been ahead by that much when it was written.
    pub(crate) async fn shift_row(&self, id: &LockId, by: Duration) {
        match &self.suite.shift_row {
            Some(shift_row) => shift_row(self.namespace.clone(), id.clone(), by).await,
            None => panic!("this case has to move the times of a row: give the suite `shift_row = …`"),
        }
    }

    /// Gives a row another fencing token, as if a clock that was ahead had granted it.
    pub(crate) async fn plant_fence(&self, id: &LockId, fence: Fence) {
        match &self.suite.plant_fence {
            Some(plant_fence) => plant_fence(self.namespace.clone(), id.clone(), fence).await,
            None => panic!("this case has to change the fencing token of a row: give the suite `plant_fence = …`"),
        }
    }

    /// Asks for more time.
    pub(crate) async fn prolong(&self, owner: OwnerToken, id: &LockId, ttl: Ttl) -> Renewed {
        answered(self.renew(&RenewRequest::new(id.clone(), owner, ttl)).await, "renew")
    }

    /// Removes what became free at least `older_than` ago.
    pub(crate) async fn purge(&self, older_than: Duration) -> u64 {
        answered(self.purge_expired(older_than).await, "purge_expired")
    }

    /// The row of an id that was granted and not purged.
    pub(crate) async fn row(&self, id: &LockId) -> LockRow {
        match answered(self.find(id).await, "find") {
            Some(row) => row,
            None => panic!("{id:?} was acquired and not purged, so find must show its row; it shows none"),
        }
    }

    /// Whether the id has a row.
    pub(crate) async fn has_row(&self, id: &LockId) -> bool {
        answered(self.find(id).await, "find").is_some()
    }

    /// The rows that the filter chooses.
    pub(crate) async fn rows(&self, filter: ListFilter) -> Vec<LockRow> {
        answered(self.list(&filter).await, "list")
    }

    /// The ids that the filter chooses, as the list has them.
    pub(crate) async fn listed(&self, filter: ListFilter) -> Vec<String> {
        self.rows(filter).await.iter().map(|row| row.lock_id.to_string()).collect()
    }

    /// Waits until the lease or the rest of an id has ended by the store's clock.
    pub(crate) async fn until_free(&self, id: &LockId) {
        self.until(id, "become free when its lease or its rest ends", |row| !row.is_taken()).await;
    }

    /// Waits until the id was acquired at least `ago` ago by the store's clock.
    pub(crate) async fn until_acquired(&self, id: &LockId, ago: Duration) {
        self.until(id, "age by the store's clock", |row| row.acquired_ago() >= ago).await;
    }

    /// Waits until the id is free and its token lies behind the store's clock: from then on a purge may take the row.
    pub(crate) async fn until_purgeable(&self, id: &LockId) {
        let purgeable = |row: &LockRow| !row.is_taken() && row.fence.get() < row.now.as_micros();
        self.until(id, "become free, with a fencing token behind the store's clock", purgeable).await;
    }

    async fn until(&self, id: &LockId, what: &str, holds: impl Fn(&LockRow) -> bool) {
        let started = Instant::now();
        while let Some(row) = answered(self.find(id).await, "find") {
            if holds(&row) {
                return;
            }
            assert!(started.elapsed() < TIME_LIMIT, "{id:?} must {what}; after {TIME_LIMIT:?} its row is {row:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The name of a namespace beside that of a case. It is as long, and as valid.
pub(crate) fn another_namespace(namespace: &str) -> String {
    format!("x{}", &namespace[1..])
}

/// What the factory opens, if it does so in time.
async fn opened(suite: &Suite, namespace: &str) -> Arc<dyn LockStore> {
    let opening = tokio::time::timeout(TIME_LIMIT, (suite.open)(namespace.to_owned()));
    opening.await.unwrap_or_else(|_| {
        panic!("the suite's FACTORY is wrong: it has not returned a store for {namespace:?} within {TIME_LIMIT:?}")
    })
}

/// An insert with the holder's text that the suite uses where nothing depends on it.
pub(crate) fn insert_request(owner: OwnerToken, id: &LockId, ttl: Ttl) -> InsertRequest {
    InsertRequest::new(id.clone(), owner, ttl, holder_text("conformance suite"))
}

pub(crate) fn holder_text(text: &str) -> HolderName {
    HolderName::new(text).expect("the suite uses valid holder texts")
}

pub(crate) fn new_owner() -> OwnerToken {
    OwnerToken::mint().expect("the operating system gives random numbers")
}

/// A lease that lasts as long as any case.
pub(crate) fn minute() -> Ttl {
    seconds(60)
}

/// A lease that ends soon.
pub(crate) fn moment() -> Ttl {
    Ttl::new(Duration::from_millis(150)).expect("the suite uses valid TTLs")
}

pub(crate) fn seconds(seconds: u64) -> Ttl {
    Ttl::new(Duration::from_secs(seconds)).expect("the suite uses valid TTLs")
}

/// The time from one moment of the store's clock to another.
pub(crate) fn span(from: StoreTime, to: StoreTime) -> Duration {
    to.since(from)
}
