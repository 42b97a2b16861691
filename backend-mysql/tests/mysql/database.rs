//! A table of a test's own, and the words in which the tests speak to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, Lease, LockStore};
use db_mutex_core::{DbMutex, HolderName, LockId, OwnerToken, StoreError, StoreErrorKind, TableName, Ttl};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::prelude::{FromRow, Queryable};
use db_mutex_mysql::mysql_async::{Conn, Row};

use crate::servers::{self, MARIADB, MYSQL};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// How long a test waits for what has to happen soon.
const TIME_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) table: TableName,
}

/// A new table on each of the two servers.
pub(crate) fn both() -> [Database; 2] {
    [Database::new(&MARIADB), Database::new(&MYSQL)]
}

impl Database {
    pub(crate) fn new(url: &str) -> Self {
        let random = OwnerToken::mint().unwrap().to_hex();
        Self { url: url.to_owned(), table: TableName::new(format!("t_{}", &random[..12])).unwrap() }
    }

    pub(crate) async fn store(&self) -> MySqlStore {
        self.try_store().await.unwrap()
    }

    pub(crate) async fn try_store(&self) -> Result<MySqlStore, StoreError> {
        servers::builder(self.table.clone()).pool_size(4).connect(&self.url).await
    }

    pub(crate) async fn mutex(&self) -> DbMutex {
        DbMutex::new(Arc::new(self.store().await)).unwrap()
    }

    /// A connection of another client.
    pub(crate) async fn connection(&self) -> Conn {
        servers::connect(&self.url).await
    }

    /// A transaction of another client that has the row of an id locked, until it is dropped.
    pub(crate) async fn lock_row(&self, lock_id: &str) -> Conn {
        servers::lock_row(&self.url, self.table.as_str(), &id(lock_id)).await
    }

    /// Runs statements on such a connection; `{t}` is the table.
    pub(crate) async fn run(&self, sql: &str) {
        let sql = sql.replace("{t}", self.table.as_str());
        self.connection().await.query_drop(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn rows<R: FromRow + Send + 'static>(&self, sql: &str) -> Vec<R> {
        self.connection().await.query(sql.replace("{t}", self.table.as_str())).await.unwrap()
    }

    /// A status variable of the server.
    pub(crate) async fn status(&self, name: &str) -> u64 {
        let rows: Vec<Row> = self.rows(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).await;
        rows[0].get::<u64, _>(1).unwrap()
    }
}

pub(crate) fn id(text: &str) -> LockId {
    LockId::new(text).unwrap()
}

pub(crate) fn request(lock_id: &str, ttl: Duration) -> InsertRequest {
    let owner = OwnerToken::mint().unwrap();
    InsertRequest::new(id(lock_id), owner, Ttl::new(ttl).unwrap(), HolderName::new("test").unwrap())
}

pub(crate) async fn ask(store: &MySqlStore, lock_id: &str, ttl: Duration) -> Result<Inserted, StoreError> {
    store.insert_if_absent(&request(lock_id, ttl)).await
}

#[track_caller]
pub(crate) fn granted(answer: Inserted) -> Lease {
    match answer {
        Inserted::Granted(lease) => lease,
        other => panic!("not granted: {other:?}"),
    }
}

/// Releases a lock by force, as an operator does who has just looked at it.
pub(crate) async fn force(store: &MySqlStore, lock_id: &str) -> Deleted {
    let fence = store.find(&id(lock_id)).await.unwrap().unwrap().fence;
    store.delete(&DeleteRequest::by_fence(id(lock_id), fence)).await.unwrap()
}

/// Checks that a row could not be locked, rather than waited for.
#[track_caller]
pub(crate) fn busy<A: std::fmt::Debug>(answer: Result<A, StoreError>) {
    match answer {
        Err(error) if error.kind() == StoreErrorKind::Busy => {
            assert!(error.to_string().contains("another transaction"), "the server had to undo it: {error}");
        }
        other => panic!("not busy: {other:?}"),
    }
}

/// Sends a request again while its row is locked, as a mutex does.
pub(crate) async fn while_busy<A, Sending: Future<Output = Result<A, StoreError>>>(
    mut send: impl FnMut() -> Sending,
) -> Result<A, StoreError> {
    loop {
        match send().await {
            Err(error) if error.kind() == StoreErrorKind::Busy => tokio::time::sleep(Duration::from_millis(1)).await,
            answer => return answer,
        }
    }
}

/// Waits until the store says that the lease is over.
pub(crate) async fn until_free(store: &MySqlStore, lock_id: &str) {
    until(async || !store.find(&id(lock_id)).await.unwrap().is_some_and(|row| row.is_taken())).await;
}

/// Waits until it is so.
pub(crate) async fn until(so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIME_LIMIT, waiting).await.expect("it has to happen soon");
}

/// Checks that `work` waits for no lock in the server, which would take a second each time: of three rounds one takes less,
/// even on a machine that is busy with other things.
pub(crate) async fn waits_for_no_lock(mut work: impl AsyncFnMut(usize)) {
    let mut quickest = Duration::MAX;
    for round in 0..3 {
        let began = Instant::now();
        work(round).await;
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "it took {quickest:?} at least");
}
