//! What is left behind by those who go: by waiters, runtimes and the last clone, while requests of theirs are queued or under
//! way. Nothing may stay taken that no one has, and `shutdown` may not say that nothing is pending too early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use db_mutex_core::admin::{ListFilter, LockRow};
use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Limits, LockStore, RenewRequest, Renewed, StoreTime, async_trait,
};
use db_mutex_core::testing::MemoryStore;
use db_mutex_core::{DbMutex, LockId, StoreError, WaitLimit};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::troubled::{Trouble, Troubled};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A server: what was sent to it is done after a while, whether or not anybody still waits for the answer.
#[derive(Debug, Clone)]
struct Server {
    memory: MemoryStore,
    /// How long inserts take.
    insert: Duration,
    /// How many of the next inserts stay on the way, without being sent.
    stuck: Arc<AtomicUsize>,
    /// The inserts that the server works on.
    under_way: Arc<AtomicUsize>,
    /// How long a find takes.
    find: Duration,
    connections: Option<Arc<Semaphore>>,
    behind: Option<Arc<Semaphore>>,
    limits: Limits,
}

impl Server {
    fn new() -> Self {
        Self {
            memory: MemoryStore::new(),
            insert: Duration::ZERO,
            stuck: Arc::default(),
            under_way: Arc::default(),
            find: Duration::ZERO,
            connections: None,
            behind: None,
            limits: Limits::new(),
        }
    }

    fn row(&self, id: &str) -> Option<LockRow> {
        runtime().block_on(self.memory.find(&LockId::new(id).unwrap())).unwrap()
    }

    fn is_taken(&self, id: &str) -> bool {
        self.row(id).is_some_and(|row| row.is_taken())
    }

    async fn connection(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        match &self.connections {
            Some(connections) => Some(connections.acquire().await.unwrap()),
            None => None,
        }
    }
}

#[async_trait]
impl LockStore for Server {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let _connection = self.connection().await;
        let stuck = self.stuck.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if stuck.is_ok() {
            std::future::pending::<()>().await;
        }
        if self.insert.is_zero() {
            return self.memory.insert_if_absent(request).await;
        }
        let (reply, answer) = oneshot::channel();
        let (server, request) = (self.clone(), request.clone());
        thread::spawn(move || {
            server.under_way.fetch_add(1, Ordering::SeqCst);
            thread::sleep(server.insert);
            server.under_way.fetch_sub(1, Ordering::SeqCst);
            let _ = reply.send(runtime().block_on(server.memory.insert_if_absent(&request)));
        });
        answer.await.unwrap()
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let _connection = self.connection().await;
        self.memory.delete(request).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let _connection = self.connection().await;
        self.memory.renew(request).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.memory.purge_expired(older_than).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let _connection = self.connection().await;
        sleep(self.find).await;
        self.memory.find(id).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let _connection = self.connection().await;
        sleep(self.find).await;
        self.memory.list(filter).await
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn for_background(&self) -> Option<Arc<dyn LockStore>> {
        let behind = Arc::clone(self.behind.as_ref()?);
        Some(Arc::new(Self { connections: Some(behind), behind: None, ..self.clone() }))
    }
}

/// A waiter is dropped while the engine's question for it is under way. `shutdown` knows nothing of that question.
#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_question_of_a_waiter_that_has_left() {
    let store = Troubled::new(200 * MS, |_, _| Trouble::None);
    let mutex = store.builder().build().unwrap();
    let guard = mutex.lock("job").acquire().await.unwrap();
    let waiting = mutex.lock("job").wait(WaitLimit::Forever);
    let mut waiter = Box::pin(waiting.acquire());
    assert!(timeout(SECOND, &mut waiter).await.is_err());
    guard.release().await.unwrap();
    assert!(timeout(50 * MS, &mut waiter).await.is_err());
    drop(waiter);
    assert!(mutex.shutdown(60 * SECOND).await.is_empty());
    // A process that exits now ...
    let mut was_taken = false;
    for _ in 0..300 {
        was_taken |= store.is_taken("job").await;
        sleep(MS).await;
    }
    assert!(!was_taken, "the lock was granted after shutdown had said that nothing is outstanding");
}

/// The same without any cancellation: the wait limit is over while a question is under way. The caller hears `Held`,
/// calls `shutdown`, and exits, as `db-mutex run --wait` does.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_hears_held_leaves_no_question_behind() {
    let mut ghosts = 0;
    for wait in (1_000..1_500).step_by(10) {
        let store = Troubled::new(200 * MS, |_, _| Trouble::None);
        let (holder, mutex) = (store.builder().build().unwrap(), store.builder().build().unwrap());
        let guard = holder.lock("job").acquire().await.unwrap();
        let waiting = tokio::spawn(async move {
            let outcome = mutex.lock("job").wait(wait * MS).acquire().await;
            let left = mutex.shutdown(60 * SECOND).await;
            (outcome, left, mutex)
        });
        sleep((wait - 30) * MS).await;
        // Free at once, for whoever asks next.
        store.memory.change_row(guard.lock_id(), |row| (row.owner, row.expires_at) = (None, StoreTime::ZERO));
        let (outcome, left, _mutex) = waiting.await.unwrap();
        if outcome.is_ok() {
            continue;
        }
        assert!(left.is_empty());
        let mut was_taken = false;
        for _ in 0..150 {
            was_taken |= store.is_taken("job").await;
            sleep(MS).await;
        }
        ghosts += u32::from(was_taken);
    }
    assert_eq!(ghosts, 0, "locks were granted after `Held` and after shutdown had said that nothing is outstanding");
}

/// The same when the last clone is dropped: the background ends at once, and the lock stays for its whole TTL.
#[test]
fn the_last_clone_drains_the_question_of_a_waiter_that_has_left() {
    let mut store = Server::new();
    store.insert = 300 * MS;
    let running = runtime();
    let other = DbMutex::builder(store.clone()).build().unwrap();
    let mutex = DbMutex::builder(store.clone()).build().unwrap();
    let held = running.block_on(other.lock("job").acquire()).unwrap();
    running.block_on(async {
        let waiting = mutex.lock("job").wait(WaitLimit::Forever);
        let mut waiter = Box::pin(waiting.acquire());
        assert!(timeout(SECOND, &mut waiter).await.is_err());
        // A question is under way, which will be granted.
        while store.under_way.load(Ordering::SeqCst) == 0 {
            assert!(timeout(MS, &mut waiter).await.is_err());
        }
        held.release().await.unwrap();
        drop(waiter);
    });
    drop(mutex);
    thread::sleep(3 * SECOND);
    assert!(!store.is_taken("job"), "nobody has it, and it stays: {:?}", store.row("job"));
}

/// Requests wait in the queue for longer than their callers do, and are sent after their deletes were. Each call keeps to
/// the store's limit; the background has connections of its own, and is not busy.
#[test]
fn a_request_that_was_given_up_in_the_queue_is_not_sent_later() {
    let mut store = Server::new();
    store.insert = 100 * MS;
    store.limits = Limits::new().concurrency(1).call(200 * MS);
    store.behind = Some(Arc::new(Semaphore::new(3)));
    let mutex = DbMutex::builder(store.clone()).ttl(1_800 * SECOND).build().unwrap();
    let running = runtime();
    running.block_on(async {
        let acquiring: Vec<_> = (0..30)
            .map(|number| {
                let lock = mutex.lock(format!("job {number}"));
                tokio::spawn(async move { lock.acquire().await.map(drop) })
            })
            .collect();
        for task in acquiring {
            let _ = task.await.unwrap();
        }
        let left = mutex.shutdown(30 * SECOND).await;
        assert!(left.is_empty(), "{} left", left.len());
        sleep(5 * SECOND).await;
        assert!(mutex.shutdown(30 * SECOND).await.is_empty());
    });
    let taken = running.block_on(async { store.memory.list(&ListFilter::taken()).await }).unwrap();
    assert!(taken.is_empty(), "{} locks are held by no one for half an hour", taken.len());
}

/// After a burst the queue is full of requests whose callers have gone. All are sent, and those who still wait for an
/// answer ask again every eleven seconds, so the queue never gets shorter.
#[tokio::test(start_paused = true)]
async fn releases_catch_up_after_a_burst() {
    let mut store = Troubled::new(3 * SECOND, |_, _| Trouble::None);
    store.limits = Limits::new().concurrency(64).batch(1);
    let mutex = store.builder().ttl(1_800 * SECOND).build().unwrap();
    let acquiring: Vec<_> = (0..500)
        .map(|number| {
            let lock = mutex.lock(format!("job {number}"));
            tokio::spawn(async move { lock.acquire().await.map(drop) })
        })
        .collect();
    for task in acquiring {
        let _ = task.await.unwrap();
    }
    // Fifteen calls of three seconds at a time: a thousand deletes take 200 s.
    let left = mutex.shutdown(1_500 * SECOND).await.len();
    let calls = store.calls.load(Ordering::SeqCst);
    println!("{left} left, {calls} calls");
    assert!(left == 0, "{left} locks are not released after 1500 s and {calls} calls");
}

/// An insert is given up, its deletes are done, and then its runtime ends: the successor sends it again.
#[test]
fn a_request_that_was_given_up_is_not_sent_again_when_its_runtime_ends() {
    let mut store = Server::new();
    store.limits = Limits::new().call(100 * MS);
    let mutex = DbMutex::builder(store.clone()).ttl(1_800 * SECOND).build().unwrap();
    store.stuck.store(1, Ordering::SeqCst);
    let first = runtime();
    // The insert has not left; the runtime is then not polled any more, as in a program that is not async.
    assert!(first.block_on(async { timeout(20 * MS, mutex.lock("job").acquire()).await }).is_err());
    let second = runtime();
    // It may still be sent: `shutdown` says so.
    assert_eq!(second.block_on(mutex.shutdown(SECOND)), [LockId::new("job").unwrap()]);
    drop(first);
    thread::sleep(500 * MS);
    assert!(second.block_on(mutex.shutdown(10 * SECOND)).is_empty());
    assert!(!store.is_taken("job"), "nobody has it, and it stays: {:?}", store.row("job"));
}

/// An insert that waits for a connection in a runtime that is not polled any more is sent when it is polled again.
#[test]
fn a_request_in_a_runtime_that_is_not_polled_leaves_no_ghost() {
    let mut store = Server::new();
    store.limits = Limits::new().call(100 * MS);
    let connections = Arc::new(Semaphore::new(1));
    store.connections = Some(Arc::clone(&connections));
    store.behind = Some(Arc::new(Semaphore::new(3)));
    let mutex = DbMutex::builder(store.clone()).ttl(1_800 * SECOND).build().unwrap();
    let first = runtime();
    let busy = connections.try_acquire().unwrap();
    assert!(first.block_on(async { timeout(20 * MS, mutex.lock("job").acquire()).await }).is_err());
    let second = runtime();
    assert_eq!(second.block_on(mutex.shutdown(SECOND)), [LockId::new("job").unwrap()]);
    drop(busy);
    first.block_on(async { sleep(100 * MS).await });
    assert!(second.block_on(mutex.shutdown(10 * SECOND)).is_empty());
    assert!(!store.is_taken("job"), "nobody has it, and it stays: {:?}", store.row("job"));
}

/// A runtime ends while many requests are queued: each call that is dropped makes room for the next, which is dropped too.
#[test]
fn a_runtime_that_ends_with_many_requests_does_not_overflow_the_stack() {
    for one_id in [false, true] {
        let mut store = Server::new();
        store.limits = if one_id { Limits::new().batch(1_000) } else { Limits::new() };
        store.stuck.store(100, Ordering::SeqCst);
        let mutex = DbMutex::builder(store).build().unwrap();
        let first = runtime();
        for number in 0..5_000 {
            let lock = mutex.lock(format!("job {}", if one_id { 0 } else { number }));
            drop(first.spawn(async move { lock.acquire().await }));
        }
        first.block_on(async { sleep(100 * MS).await });
        drop(first);
    }
}

/// Reads need no place, and take the connections that are kept for renewals.
#[test]
fn reads_in_the_background_delay_no_renewal() {
    let mut store = Server::new();
    store.find = 3 * SECOND;
    store.behind = Some(Arc::new(Semaphore::new(3)));
    let mutex = DbMutex::builder(store.clone()).ttl(6 * SECOND).keep_alive(true).build().unwrap();
    let first = runtime();
    let guard = first.block_on(mutex.lock("kept").acquire()).unwrap();
    // From another runtime, as by an operator's page.
    let second = runtime();
    second.block_on(async {
        let reads: Vec<_> = (0..9)
            .map(|_| {
                let mutex = mutex.clone();
                tokio::spawn(async move { mutex.list(&ListFilter::taken()).await.unwrap() })
            })
            .collect();
        for read in reads {
            read.await.unwrap();
        }
    });
    assert!(guard.is_valid(), "{:?}", guard.lost_reason());
}

/// A store whose hint comes at once, again and again: the service spins without yielding, and the thread that renews is
/// blocked.
#[derive(Debug, Clone)]
struct Hinting(Server, Arc<AtomicUsize>);

#[async_trait]
impl LockStore for Hinting {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        if request.lock_id.as_str() == "job" {
            sleep(3 * SECOND).await;
        }
        self.0.insert_if_absent(request).await
    }
    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.0.delete(request).await
    }
    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.0.renew(request).await
    }
    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.0.purge_expired(older_than).await
    }
    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.0.find(id).await
    }
    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        self.0.list(filter).await
    }
    async fn wait_for_release(&self, _: &LockId, _: Duration) -> Result<(), StoreError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn hints_that_come_at_once_do_not_spin() {
    let hints = Arc::<AtomicUsize>::default();
    let mutex = DbMutex::builder(Hinting(Server::new(), Arc::clone(&hints))).build().unwrap();
    runtime().block_on(async {
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let lock = mutex.lock("job").wait(10 * SECOND);
                tokio::spawn(async move { lock.acquire().await.map(drop) })
            })
            .collect();
        sleep(2 * SECOND).await;
        let hints = hints.load(Ordering::SeqCst);
        assert!(hints < 2_000, "{hints} hints in two seconds");
        for waiter in waiters {
            waiter.abort();
        }
    });
}

/// A thread without a tokio runtime waits for a lock.
#[test]
fn a_thread_without_a_runtime_hears_an_error_and_not_a_panic() {
    let mut store = Server::new();
    store.insert = 50 * MS;
    let mutex = DbMutex::builder(store).build().unwrap();
    let lock = mutex.lock("job");
    let mut acquiring = Box::pin(lock.acquire());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| acquiring.as_mut().poll(&mut context)));
    assert!(polled.is_ok(), "it panics");
}
