//! `LockLayer`: services that run under a lock.

use std::future::{pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use db_mutex::admin::{ListFilter, LockRow};
use db_mutex::store::{DeleteRequest, Deleted, InsertRequest, Inserted, Limits, LockStore, RenewRequest, Renewed};
use db_mutex::testing::{ManualClock, MemoryStore};
use db_mutex::tower::{BoxError, LockLayer, LockService};
use db_mutex::{DbMutex, Error, Fence, LockId, OnLost, StoreError};
use tower::{Layer, Service, ServiceExt, service_fn};

fn mutex() -> DbMutex {
    DbMutex::new(MemoryStore::new()).expect("a mutex in memory")
}

/// The request is the lock id.
fn layer<Res>(mutex: &DbMutex) -> LockLayer<&'static str, Res> {
    let mutex = mutex.clone();
    LockLayer::new(move |id: &&str| mutex.lock(id))
}

async fn is_free(mutex: &DbMutex, id: &str) -> bool {
    // A guard that was dropped is released in the background.
    match mutex.lock(id).wait(Duration::from_secs(10)).acquire().await {
        Ok(guard) => guard.release().await.is_ok(),
        Err(_) => false,
    }
}

fn is_held(error: &BoxError) -> bool {
    error.downcast_ref().is_some_and(Error::is_held)
}

fn is_lost(error: &BoxError) -> bool {
    error.downcast_ref().is_some_and(Error::is_lost)
}

fn failure() -> BoxError {
    "the service has failed".into()
}

#[tokio::test]
async fn requests_with_the_same_lock_exclude_each_other() {
    let mutex = mutex();
    let (at_work, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let service = {
        let (mutex, most) = (mutex.clone(), Arc::clone(&most));
        LockLayer::new(move |id: &&str| mutex.lock(id).wait(Duration::from_secs(60))).layer(service_fn(move |_| {
            let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
            async move {
                most.fetch_max(at_work.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                at_work.fetch_sub(1, SeqCst);
                Ok::<_, BoxError>(())
            }
        }))
    };
    let requests: Vec<_> = (0..20).map(|_| tokio::spawn(service.clone().oneshot("import"))).collect();
    for request in requests {
        request.await.unwrap().unwrap();
    }
    assert_eq!(most.load(SeqCst), 1);
}

#[tokio::test]
async fn the_lock_is_held_while_the_service_works() {
    let mutex = mutex();
    let inside = mutex.clone();
    let service = layer(&mutex).layer(service_fn(move |id| {
        let inside = inside.clone();
        async move { Ok::<_, BoxError>(inside.lock(id).try_acquire().await.is_err()) }
    }));
    assert!(service.oneshot("import").await.unwrap());
    assert!(is_free(&mutex, "import").await);
}

#[tokio::test]
async fn a_held_lock_is_an_error_and_the_service_is_not_called() {
    let mutex = mutex();
    let mut service = layer(&mutex)
        .layer(service_fn(|id| ready(if id == "held" { panic!("called") } else { Ok::<_, BoxError>(()) })));
    let guard = mutex.lock("held").acquire().await.unwrap();
    let error = service.ready().await.unwrap().call("held").await.unwrap_err();
    assert!(is_held(&error), "{error}");
    service.ready().await.unwrap().call("another").await.unwrap();
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_held_lock_is_skipped_with_the_default_response() {
    let mutex = mutex();
    let service = layer(&mutex).skip().layer(service_fn(|_| ready(Ok::<_, BoxError>(Some(42)))));
    let guard = mutex.lock("import").acquire().await.unwrap();
    assert_eq!(service.clone().oneshot("import").await.unwrap(), None);
    guard.release().await.unwrap();
    assert_eq!(service.oneshot("import").await.unwrap(), Some(42));
}

#[tokio::test]
async fn a_held_lock_is_skipped_with_a_response_that_names_the_holder() {
    let mutex = mutex();
    let service = layer(&mutex)
        .skip_with(|held| held.to_string())
        .layer(service_fn(|_| ready(Ok::<_, BoxError>("done".to_owned()))));
    let guard = mutex.lock("import").label("by hand").acquire().await.unwrap();
    let response = service.oneshot("import").await.unwrap();
    assert!(response.contains("by hand"), "{response}");
    guard.release().await.unwrap();
}

#[tokio::test]
async fn only_a_held_lock_is_skipped() {
    let mutex = mutex();
    let service = layer(&mutex).skip().layer(service_fn(|_| ready(Ok::<_, BoxError>(()))));
    let error = service.oneshot("").await.unwrap_err();
    assert!(error.downcast_ref().is_some_and(Error::is_invalid), "{error}");
}

#[tokio::test]
async fn an_error_of_the_service_is_returned_and_the_lock_released() {
    let mutex = mutex();
    let service = layer(&mutex).skip().layer(service_fn(|_| ready(Err::<(), _>(failure()))));
    let error = service.oneshot("import").await.unwrap_err();
    assert_eq!(error.to_string(), failure().to_string());
    assert!(is_free(&mutex, "import").await);
}

#[tokio::test]
async fn a_panic_of_the_service_releases_the_lock() {
    let mutex = mutex();
    let service = layer(&mutex).layer(service_fn(async |_| -> Result<(), BoxError> { panic!("on purpose") }));
    assert!(tokio::spawn(service.oneshot("import")).await.unwrap_err().is_panic());
    assert!(is_free(&mutex, "import").await);
}

#[tokio::test]
async fn a_future_that_is_dropped_releases_the_lock() {
    let mutex = mutex();
    let (started, mut has_started) = tokio::sync::mpsc::channel(1);
    let service = layer(&mutex).layer(service_fn(move |_| {
        let started = started.clone();
        async move {
            started.send(()).await.unwrap();
            pending::<Result<(), BoxError>>().await
        }
    }));
    let request = tokio::spawn(service.oneshot("import"));
    has_started.recv().await.unwrap();
    assert!(mutex.lock("import").try_acquire().await.unwrap_err().is_held());
    request.abort();
    assert!(is_free(&mutex, "import").await);
}

#[tokio::test]
async fn the_request_gets_what_it_needs_of_the_guard() {
    let mutex = mutex();
    let locks = mutex.clone();
    let service = LockLayer::new(move |_: &Option<Fence>| locks.lock("import"))
        .on_acquired(|request, guard| *request = Some(guard.fence()))
        .layer(service_fn(|request| ready(Ok::<Option<Fence>, BoxError>(request))));
    let first = service.clone().oneshot(None).await.unwrap();
    let second = service.oneshot(None).await.unwrap();
    assert!(first.is_some() && first < second, "{first:?} {second:?}");
}

/// A service during whose work the lock is released by force.
fn disturbed(
    mutex: &DbMutex,
    response: impl Fn() -> Result<(), BoxError> + Clone + Send + 'static,
) -> impl Service<&'static str, Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static {
    let mutex = mutex.clone();
    service_fn(move |id| {
        let (mutex, response) = (mutex.clone(), response.clone());
        async move {
            assert!(matches!(mutex.force_release(id).await, Ok(true)));
            response()
        }
    })
}

#[tokio::test]
async fn a_response_without_the_lock_is_an_error() {
    let mutex = mutex();
    let error = layer(&mutex).skip().layer(disturbed(&mutex, || Ok(()))).oneshot("import").await.unwrap_err();
    assert!(is_lost(&error), "{error}");
}

#[tokio::test]
async fn an_error_of_the_service_hides_that_the_lock_was_lost() {
    let mutex = mutex();
    let error = layer(&mutex).layer(disturbed(&mutex, || Err(failure()))).oneshot("import").await.unwrap_err();
    assert_eq!(error.to_string(), failure().to_string());
}

#[tokio::test]
async fn the_service_is_dropped_when_the_lock_is_lost_if_the_lock_says_so() {
    let (mutex, clock) = db_mutex::testing::mutex();
    let lock = mutex.lock("import").ttl(Duration::from_secs(30)).on_lost(OnLost::Drop);
    let dropped = Arc::new(Mutex::new(()));
    let service = LockLayer::new(move |_: &()| lock.clone()).layer({
        let dropped = Arc::clone(&dropped);
        service_fn(move |()| {
            let (dropped, clock) = (Arc::clone(&dropped), clock.clone());
            async move {
                clock.advance(Duration::from_secs(60));
                let _dropped = dropped;
                pending::<Result<(), BoxError>>().await
            }
        })
    });
    let error = service.oneshot(()).await.unwrap_err();
    assert!(is_lost(&error), "{error}");
    assert_eq!(Arc::strong_count(&dropped), 1);
}

/// A service that may be called once after it was ready, and whose clones are not ready.
struct Once {
    is_ready: bool,
    answers_pending: usize,
}

impl Clone for Once {
    fn clone(&self) -> Self {
        Self { is_ready: false, answers_pending: self.answers_pending }
    }
}

impl Service<()> for Once {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.answers_pending > 0 {
            self.answers_pending -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        ready(Ok(()))
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_called() {
    let mutex = mutex();
    let layer = LockLayer::new(move |&()| mutex.lock("import"));
    let mut service = layer.layer(Once { is_ready: false, answers_pending: 2 });
    assert!(matches!(std::future::poll_fn(|cx| Poll::Ready(service.poll_ready(cx))).await, Poll::Pending));
    for _ in 0..3 {
        service.ready().await.unwrap().call(()).await.unwrap();
    }
}

#[test]
fn layers_and_services_can_be_shared_and_printed() {
    fn shared<T: Clone + Send + Sync + std::fmt::Debug>() {}
    // With any type of request and response.
    struct NotClone(#[expect(dead_code)] std::cell::Cell<u8>);
    shared::<LockLayer<NotClone, NotClone>>();
    shared::<LockService<(), NotClone, NotClone>>();
}

/// A store that says once that the lock is held, and then hangs.
#[derive(Debug)]
struct Hanging {
    memory: MemoryStore,
    answers: AtomicUsize,
}

impl Hanging {
    async fn answer(&self) {
        if self.answers.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            pending::<()>().await;
        }
    }
}

#[db_mutex::store::async_trait]
impl LockStore for Hanging {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        self.answer().await;
        self.memory.insert_if_absent(request).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        self.memory.delete(request).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        self.memory.renew(request).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        self.memory.purge_expired(older_than).await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        self.memory.find(id).await
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        self.memory.list(filter).await
    }

    fn limits(&self) -> Limits {
        Limits::new().call(Duration::from_secs(3))
    }
}

/// What the database said once is no reason to skip when that lease is over.
#[tokio::test]
async fn a_database_that_hangs_is_not_a_held_lock() {
    // The store's clock stands still: the lease does not end there.
    let memory = MemoryStore::with_clock(ManualClock::new());
    let store = Hanging { memory, answers: AtomicUsize::new(2) };
    let mutex = DbMutex::builder(store).build().unwrap();
    let _ = mutex.lock("import").ttl(Duration::from_secs(1)).acquire().await.unwrap().into_owner_token();
    let locks = mutex.clone();
    let layer = LockLayer::new(move |id: &&str| locks.lock(id).wait(Duration::from_secs(2))).skip();
    let service = layer.layer(service_fn(async |_| Ok::<_, BoxError>("called")));
    let error = service.oneshot("import").await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Error::Store { .. })), "{error}");
}
