mod sql;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use db_mutex_core::admin::{ListFilter, LockRow, StoreTime};
use db_mutex_core::store::rules::{self, Outcome, Row};
use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, Limits, LockStore, RenewRequest, Renewed};
use db_mutex_core::{LockId, StoreError, StoreErrorKind};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, IsolationLevel, NoTls, Transaction};

use crate::both::{self, Deadline};

/// Calls wait for one another, because there is one connection. All of them end within the ten seconds that a store is given.
const CALLS: usize = 4;
const LONGEST_CALL: Duration = Duration::from_secs(8);

/// Keeps locks in the table `db_mutex_dbmutex` of a Django project on PostgreSQL.
///
/// What Django's table has no column for is in a table beside it, `db_mutex_rust`. Clones share a connection, without TLS: this is
/// an example. The clock of the database decides, except that Django deletes rows by that of its process: the two may differ by
/// as much as [`margin`](Self::margin) says.
#[derive(Clone)]
pub struct DjangoPostgres {
    client: Arc<Mutex<Client>>,
    /// A call has had no reply in time: the connection may be dead without a word.
    is_suspect: Arc<AtomicBool>,
    config: Config,
    deadline: Deadline,
}

impl DjangoPostgres {
    /// Connects to the database of a Django project. `django_ttl` has to be what its `DB_MUTEX_TTL_SECONDS` says, by default 30
    /// minutes and `None` for never: Django deletes rows by it, ours too.
    ///
    /// # Errors
    /// If the server cannot be reached, or Django has not made its table yet.
    pub async fn connect(url: &str, django_ttl: Option<Duration>) -> Result<Self, StoreError> {
        let invalid = |error| StoreError::new(StoreErrorKind::Config, "the URL is invalid").with_source(error);
        let config: Config = url.parse().map_err(|error: tokio_postgres::Error| invalid(error))?;
        let client = open(&config).await?;
        if !sql::prepare(&client).await.map_err(store_error)? {
            let missing = "the database has no table db_mutex_dbmutex; run `manage.py migrate db_mutex` first";
            return Err(StoreError::new(StoreErrorKind::Schema, missing));
        }
        let deadline = Deadline { ttl: django_ttl, margin: Duration::from_secs(5) };
        Ok(Self { client: Arc::new(Mutex::new(client)), is_suspect: Arc::default(), config, deadline })
    }

    /// Sets by how much the clocks of Django's processes may differ from that of the database. Default: 5 s. A lease that is not
    /// released ends for the other side that much later.
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        self.deadline.margin = margin;
        self
    }

    async fn client(&self) -> Result<MutexGuard<'_, Client>, StoreError> {
        let mut client = self.client.lock().await;
        if client.is_closed() || self.is_suspect.load(Ordering::Relaxed) {
            *client = open(&self.config).await?;
            self.is_suspect.store(false, Ordering::Relaxed);
        }
        Ok(client)
    }

    /// Fails if a call takes too long. The next call then has a new connection.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = |_| {
            self.is_suspect.store(true, Ordering::Relaxed);
            StoreError::new(StoreErrorKind::Unavailable, "the server did not reply in time")
        };
        tokio::time::timeout(LONGEST_CALL, call).await.map_err(late)?
    }

    /// Applies a rule of the contract to the rows of an id. If they are locked, the answer of a first read without locks stands if
    /// it is a refusal.
    async fn apply<A: Send>(
        &self,
        lock_id: &LockId,
        rule: impl Fn(Option<&Row>, StoreTime) -> Outcome<A> + Send + Sync,
        is_refusal: fn(&A) -> bool,
    ) -> Result<A, StoreError> {
        let applying = async {
            let mut client = self.client().await?;
            // A transaction that is dropped is rolled back.
            let transaction = begin(&mut client).await?;
            let (both, now) = sql::read(&transaction, lock_id).await.map_err(store_error)?;
            let first = rule(both.row(self.deadline, now).as_ref(), now);
            if first.write.is_none() {
                return Ok(first.answer);
            }
            match sql::lock(&transaction, lock_id).await.map_err(store_error) {
                Err(error) if error.kind() == StoreErrorKind::Busy && is_refusal(&first.answer) => {
                    return Ok(first.answer);
                }
                locked => locked?,
            }
            let (both, now) = sql::read(&transaction, lock_id).await.map_err(store_error)?;
            let before = both.row(self.deadline, now);
            let outcome = rule(before.as_ref(), now);
            if let Some(after) = &outcome.write {
                let change = both.change(before.as_ref(), after, self.deadline, now);
                if !sql::write(&transaction, lock_id, &both, after, change).await.map_err(store_error)? {
                    return Err(StoreError::new(StoreErrorKind::Busy, "another process inserted the row"));
                }
                transaction.commit().await.map_err(store_error)?;
            }
            Ok(outcome.answer)
        };
        self.bounded(applying).await
    }

    /// Removes the rows of an id if they may still be purged once they are locked.
    async fn purge(&self, lock_id: &LockId, older_than: Duration) -> Result<bool, StoreError> {
        let purging = async {
            let mut client = self.client().await?;
            let transaction = begin(&mut client).await?;
            sql::lock(&transaction, lock_id).await.map_err(store_error)?;
            let (both, now) = sql::read(&transaction, lock_id).await.map_err(store_error)?;
            let row = both.row(self.deadline, now);
            if !row.is_some_and(|row| rules::is_purgeable(&row, older_than, now)) {
                return Ok(false);
            }
            sql::delete(&transaction, lock_id).await.map_err(store_error)?;
            transaction.commit().await.map_err(store_error)?;
            Ok(true)
        };
        self.bounded(purging).await
    }
}

#[async_trait]
impl LockStore for DjangoPostgres {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let rule = |row: Option<&Row>, now| both::insert(row, request, now);
        self.apply(&request.lock_id, rule, |answer| matches!(answer, Inserted::Held(_))).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.apply(&request.lock_id, |row, now| rules::delete(row, request, now), |_| false).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.apply(&request.lock_id, |row, now| rules::renew(row, request, now), |_| false).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let reading = async { sql::read_all(&*self.client().await?).await.map_err(store_error) };
        let all = self.bounded(reading).await?;
        let mut purged = 0;
        for (lock_id, both, now) in all {
            if both.row(self.deadline, now).is_some_and(|row| rules::is_purgeable(&row, older_than, now)) {
                match self.purge(&lock_id, older_than).await {
                    Ok(done) => purged += u64::from(done),
                    // Another process is about to acquire it.
                    Err(error) if error.kind() == StoreErrorKind::Busy => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(purged)
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let finding = async {
            let (both, now) = sql::read(&*self.client().await?, id).await.map_err(store_error)?;
            Ok(both.row(self.deadline, now).map(|row| row.read(id.clone(), now)))
        };
        self.bounded(finding).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let listing = async {
            let all = sql::read_all(&*self.client().await?).await.map_err(store_error)?;
            let rows = all.into_iter();
            let rows = rows.filter_map(|(lock_id, both, now)| Some(both.row(self.deadline, now)?.read(lock_id, now)));
            Ok(rows.filter(|row| filter.include_free || row.is_taken()).collect())
        };
        self.bounded(listing).await
    }

    fn limits(&self) -> Limits {
        Limits::new().concurrency(CALLS)
    }
}

impl fmt::Debug for DjangoPostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DjangoPostgres").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

async fn open(config: &Config) -> Result<Client, StoreError> {
    let (client, connection) = config.connect(NoTls).await.map_err(store_error)?;
    // It ends with the client, and an error of it is the client's too.
    tokio::spawn(connection);
    // An insert waits for one that is not committed yet: there is no other way to say "at once".
    client.batch_execute("SET lock_timeout = '20ms'").await.map_err(store_error)?;
    Ok(client)
}

/// A transaction that sees what others have committed by each of its statements.
async fn begin(client: &mut Client) -> Result<Transaction<'_>, StoreError> {
    let beginning = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
    beginning.await.map_err(store_error)
}

fn store_error(error: tokio_postgres::Error) -> StoreError {
    let (kind, what) = match error.code() {
        Some(code) if [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) => {
            (StoreErrorKind::Busy, "the row is locked by another transaction")
        }
        Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
            (StoreErrorKind::ReadOnly, "the server is read-only")
        }
        Some(_) => (StoreErrorKind::Other, "the server refused a statement"),
        None => (StoreErrorKind::Unavailable, "the server cannot be reached, or the connection broke"),
    };
    StoreError::new(kind, what).with_source(error)
}
