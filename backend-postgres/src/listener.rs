use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use db_mutex_core::{LockId, StoreError, StoreErrorKind as Kind};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::types::{ToSql, Type};

use crate::connect::{Connector, Opened};
use crate::current::Taken;
use crate::error::store_error;
use crate::sql::Sql;
use crate::waiters::{Marked, Waiters, Work};

/// Learns of releases in other processes, on one connection for all waiters of the store. It is opened for the first
/// waiter, and closed when there has been none for a while.
///
/// While it is broken the waiters sleep, and ask when they wake up: that alone is enough for them to get their lock.
pub(crate) struct Listener {
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    connector: Connector,
    waiters: Waiters,
    channels_sql: String,
    mark_sql: String,
    /// How long the server may take for a request.
    limit: Duration,
}

impl Listener {
    pub(crate) fn new(connector: Connector, sql: &Sql, limit: Duration) -> Self {
        let (channels_sql, mark_sql, waiters) = (sql.channels.clone(), sql.mark.clone(), Waiters::default());
        let shared = Shared { connector, waiters, channels_sql, mark_sql, limit };
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    /// Returns when the lock may be free, at the latest after `at_most`.
    ///
    /// # Cancellation safety
    /// If the future is dropped, the row may stay marked as wanted for a while, for which its release notifies in vain.
    pub(crate) async fn wait(&self, lock_id: &LockId, at_most: Duration) {
        let (notified, unserved) = self.shared.waiters.join(lock_id.as_str());
        self.ensure_task(unserved);
        let Some(mut notified) = notified else { return };
        // The sender lives as long as there are waiters.
        let _ = timeout(at_most, notified.changed()).await;
    }

    /// Notes a refusal by the holder with this fence; see [`Waiters::refused`].
    pub(crate) fn refused(&self, lock_id: &LockId, fence: i64) {
        self.shared.waiters.refused(lock_id.as_str(), fence);
    }

    /// The task ends by itself, and with the runtime that it was started on.
    fn ensure_task(&self, unserved: bool) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if unserved || task.as_ref().is_none_or(AbortHandle::is_finished) {
            *task = Some(tokio::spawn(Arc::clone(&self.shared).serve()).abort_handle());
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Shared {
    const FIRST_PAUSE: Duration = Duration::from_millis(100);
    const LAST_PAUSE: Duration = Duration::from_secs(10);
    /// How long an unused connection is kept.
    const IDLE: Duration = Duration::from_secs(10);

    /// Connects, as often as it takes, until there has been no waiter for a while.
    async fn serve(self: Arc<Self>) {
        let mut pause = Self::FIRST_PAUSE;
        loop {
            let mut served = Duration::ZERO;
            let error = match Line::open(&self).await {
                Ok(line) => {
                    let begun = Instant::now();
                    self.waiters.connected_anew();
                    let Err(error) = line.serve(&self).await else { return };
                    served = begun.elapsed();
                    error
                }
                Err(error) => error,
            };
            if served > Self::LAST_PAUSE {
                pause = Self::FIRST_PAUSE;
            }
            tracing::debug!(%error, ?pause, "no notifications for now; waiters poll");
            sleep(pause).await;
            pause = (pause * 2).min(Self::LAST_PAUSE);
            if self.waiters.work().idle && self.waiters.dismiss() {
                return;
            }
        }
    }
}

/// The connection.
struct Line {
    opened: Opened,
    taken: Taken,
    limit: Duration,
}

impl Line {
    async fn open(shared: &Arc<Shared>) -> Result<Self, StoreError> {
        let heard = Arc::downgrade(shared);
        let notify = move |channel: &str| {
            if let Some(shared) = heard.upgrade() {
                shared.waiters.notify(channel);
            }
        };
        let (opened, taken) =
            timeout(shared.limit, shared.connector.listen(notify)).await.unwrap_or_else(|_| Err(not_in_time()))?;
        Ok(Self { opened, taken, limit: shared.limit })
    }

    /// Does what there is to do, until there has been no waiter for a while, or the connection breaks.
    async fn serve(mut self, shared: &Shared) -> Result<(), StoreError> {
        let mut needed = Instant::now();
        loop {
            let work = shared.waiters.work();
            if !work.idle {
                needed = Instant::now();
            } else if needed.elapsed() >= Shared::IDLE && shared.waiters.dismiss() {
                return Ok(());
            }
            if self.perform(shared, &work).await? {
                continue;
            }
            tokio::select! {
                () = shared.waiters.changed.notified() => {}
                () = sleep_until(work.next) => {}
                _ = &mut self.opened.end => {
                    return Err(StoreError::new(Kind::Unavailable, "the connection for notifications has ended"));
                }
                // What happens there wakes no waiter here.
                () = shared.connector.hosts.moved_from(self.taken) => {
                    return Err(StoreError::new(Kind::Unavailable, "another server is in use now"));
                }
            }
        }
    }

    /// Returns whether that created more work.
    async fn perform(&self, shared: &Shared, work: &Work) -> Result<bool, StoreError> {
        let mut sql: String = work.unlisten.iter().map(|channel| format!("UNLISTEN {channel};")).collect();
        sql.extend(work.listen.iter().map(|(channel, _)| format!("LISTEN {channel};")));
        if !sql.is_empty() {
            in_time(self.limit, self.opened.client.batch_execute(&sql)).await?;
            work.listen.iter().for_each(|(_, lock_id)| shared.waiters.listening(lock_id));
        }
        // Only now: a release that comes before the mark is seen by it, and one that comes after it is heard.
        self.mark(shared, &work.mark).await?;
        self.name(shared, &work.unnamed).await?;
        Ok(!work.unnamed.is_empty())
    }

    async fn mark(&self, shared: &Shared, lock_ids: &Vec<String>) -> Result<(), StoreError> {
        if lock_ids.is_empty() {
            return Ok(());
        }
        let lasts = i64::try_from(Waiters::LASTS.as_micros()).unwrap_or(i64::MAX);
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(lock_ids, Type::TEXT_ARRAY), (&lasts, Type::INT8)];
        let rows = in_time(self.limit, self.opened.client.query_typed(&shared.mark_sql, &parameters)).await?;
        let mut seen = HashMap::with_capacity(rows.len());
        for row in &rows {
            let marked = match row.try_get(2).map_err(store_error)? {
                "marked" => Marked::Yes,
                "free" => Marked::Free,
                _ => Marked::Busy,
            };
            let fence: i64 = row.try_get(1).map_err(store_error)?;
            seen.insert(row.try_get::<_, &str>(0).map_err(store_error)?, (fence, marked));
        }
        for lock_id in lock_ids {
            // An id without a row has been purged.
            let (fence, marked) = seen.get(lock_id.as_str()).copied().unwrap_or((0, Marked::Free));
            shared.waiters.marked(lock_id, fence, marked);
        }
        Ok(())
    }

    async fn name(&self, shared: &Shared, lock_ids: &Vec<String>) -> Result<(), StoreError> {
        if lock_ids.is_empty() {
            return Ok(());
        }
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(lock_ids, Type::TEXT_ARRAY)];
        let rows = in_time(self.limit, self.opened.client.query_typed(&shared.channels_sql, &parameters)).await?;
        for row in &rows {
            shared.waiters.name(row.try_get(0).map_err(store_error)?, row.try_get(1).map_err(store_error)?);
        }
        Ok(())
    }
}

async fn in_time<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match timeout(limit, request).await {
        Ok(answer) => answer.map_err(store_error),
        Err(_) => Err(not_in_time()),
    }
}

fn not_in_time() -> StoreError {
    StoreError::new(Kind::Unavailable, "PostgreSQL did not answer in time; check the network to it")
}
