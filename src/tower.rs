//! A [`Layer`] for [tower](https://docs.rs/tower) that runs a service under a lock. The lock depends on the request.
//!
//! It works with everything that uses tower services: apalis workers, axum routes, tonic servers.
//!
//! ```
//! use db_mutex::{DbMutex, testing::MemoryStore, tower::LockLayer};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! struct Import {
//!     shop: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let mutex = DbMutex::new(MemoryStore::new())?;
//! let locks = mutex.clone();
//! let mut service = ServiceBuilder::new()
//!     .layer(LockLayer::new(move |import: &Import| locks.lock(format!("import-{}", import.shop))))
//!     .service(service_fn(async |import: Import| Ok::<_, std::io::Error>(import.shop.len())));
//!
//! let rows = service.ready().await?.call(Import { shop: "north".into() }).await?;
//! assert_eq!(rows, 5);
//!
//! // While another holder has the lock, the service is not called.
//! let guard = mutex.lock("import-north").acquire().await?;
//! let error = service.ready().await?.call(Import { shop: "north".into() }).await.unwrap_err();
//! assert!(error.downcast_ref().is_some_and(db_mutex::Error::is_held));
//! guard.release().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # How long the lock is held
//!
//! The lock is held until the future of the inner service completes, returns an error, panics or is dropped. A response
//! body that is streamed afterwards is sent without the lock.
//!
//! A timeout *inside* this layer limits the work; one *outside* limits the wait for the lock as well.
//!
//! # If the lock is lost
//!
//! Same as with [`Lock::run`]: by default the inner service continues to its end; with
//! [`OnLost::Drop`](crate::OnLost::Drop) its future is dropped. Both return [`Error::Lost`], even if there is a response,
//! because the work may have overlapped another holder's. If the inner service returns an error, that is returned instead.
//!
//! # Readiness
//!
//! The service is ready when the inner service is. A request that waits for its lock keeps its slot in the inner service, for
//! example in a concurrency limit. A request that is skipped frees its slot at once.
//!
//! # Errors
//!
//! The error type is [`BoxError`], as with tower's own layers. What happens to an error depends on what is around this layer:
//! - **axum**: a route must not return errors. Put `axum::error_handling::HandleErrorLayer` around this layer.
//! - **tonic**: a server turns errors into a status only if they are a `tonic::Status` or caused by one. Any other error resets
//!   the stream, and clients see an internal error. Convert it around this layer, for example with
//!   `ServiceBuilder::map_err`: [`Error::Held`] into `Status::aborted`, the others into `Status::unavailable`.
//! - **apalis**: the task has failed, and is retried if its worker retries. To skip a task whose lock is held, use
//!   [`skip`](LockLayer::skip).
//!
//! The [examples] include an axum server and an apalis worker.
//!
//! [examples]: https://github.com/db-mutex/db-mutex/tree/main/examples

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use db_mutex_core::{Error, Guard, Lock, RunError};
use tower_layer::Layer;
use tower_service::Service;

/// The error of a [`LockService`]: an [`Error`], or the error of the inner service. The same type as `tower::BoxError`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A layer that runs a service under a lock.
///
/// `Req` is the type of the requests, `Res` that of the responses. Cheap to clone.
pub struct LockLayer<Req, Res> {
    parts: Arc<Parts<Req, Res>>,
}

/// A service that runs another one under a lock: what [`LockLayer`] returns.
///
/// The inner service must be [`Clone`]: a request takes the instance that is ready, and leaves a clone.
pub struct LockService<S, Req, Res> {
    inner: S,
    parts: Arc<Parts<Req, Res>>,
}

struct Parts<Req, Res> {
    lock: Arc<dyn Fn(&Req) -> Lock + Send + Sync>,
    acquired: Option<Acquired<Req>>,
    skipped: Option<Skipped<Res>>,
}

type Acquired<Req> = Arc<dyn Fn(&mut Req, &Guard) + Send + Sync>;
type Skipped<Res> = Arc<dyn Fn(&Error) -> Res + Send + Sync>;

impl<Req, Res> LockLayer<Req, Res> {
    /// Returns a layer that runs each request under the lock that `lock` returns for it. The lock brings its options: its
    /// [TTL](Lock::ttl), [wait limit](Lock::wait), [renewal](Lock::keep_alive) and so on.
    ///
    /// If another holder has the lock, the service returns [`Error::Held`], unless [`skip`](Self::skip) is set.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use db_mutex::{DbMutex, testing::MemoryStore, tower::LockLayer};
    /// # fn layer(mutex: DbMutex) -> LockLayer<u32, ()> {
    /// LockLayer::new(move |account: &u32| {
    ///     mutex
    ///         .lock(format!("account-{account}"))
    ///         .ttl(Duration::from_secs(30))
    ///         .keep_alive(true)
    ///         .wait(Duration::from_secs(5))
    /// })
    /// # }
    /// ```
    pub fn new(lock: impl Fn(&Req) -> Lock + Send + Sync + 'static) -> Self {
        Self { parts: Arc::new(Parts { lock: Arc::new(lock), acquired: None, skipped: None }) }
    }

    /// Skips requests whose lock is held: the service returns the default response instead of [`Error::Held`], and logs the
    /// holder at level `INFO`.
    pub fn skip(self) -> Self
    where
        Res: Default,
    {
        self.skip_with(|_| Res::default())
    }

    /// Same as [`skip`](Self::skip), with the response that `response` returns for the [`Error::Held`].
    pub fn skip_with(self, response: impl Fn(&Error) -> Res + Send + Sync + 'static) -> Self {
        let Parts { lock, acquired, .. } = (*self.parts).clone();
        Self { parts: Arc::new(Parts { lock, acquired, skipped: Some(Arc::new(response)) }) }
    }

    /// Sets a function that is called with each request and its guard before the inner service is. It can add to the request
    /// what the service needs of the guard: the [fencing token](Guard::fence), the [`cancel_token`](Guard::cancel_token).
    ///
    /// ```
    /// # use db_mutex::{DbMutex, Fence, tower::LockLayer};
    /// # struct Extensions;
    /// # impl Extensions { fn insert(&mut self, _: Fence) {} }
    /// # struct Request(Extensions);
    /// # impl Request { fn extensions_mut(&mut self) -> &mut Extensions { &mut self.0 } }
    /// # fn layer(mutex: DbMutex) -> LockLayer<Request, ()> {
    /// LockLayer::new(move |_: &Request| mutex.lock("import"))
    ///     .on_acquired(|request, guard| _ = request.extensions_mut().insert(guard.fence()))
    /// # }
    /// ```
    pub fn on_acquired(self, function: impl Fn(&mut Req, &Guard) + Send + Sync + 'static) -> Self {
        let Parts { lock, skipped, .. } = (*self.parts).clone();
        Self { parts: Arc::new(Parts { lock, acquired: Some(Arc::new(function)), skipped }) }
    }
}

impl<S, Req, Res> Layer<S> for LockLayer<Req, Res> {
    type Service = LockService<S, Req, Res>;

    fn layer(&self, inner: S) -> Self::Service {
        LockService { inner, parts: Arc::clone(&self.parts) }
    }
}

impl<S, Req, Res> Service<Req> for LockService<S, Req, Res>
where
    S: Service<Req, Response = Res> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    type Response = Res;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Res, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // Call the instance that is ready: a clone of it need not be.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let lock = (self.parts.lock)(&request);
        let parts = Arc::clone(&self.parts);
        Box::pin(async move { parts.run(lock, inner, request).await })
    }
}

impl<Req, Res> Parts<Req, Res> {
    async fn run<S>(&self, lock: Lock, mut inner: S, mut request: Req) -> Result<Res, BoxError>
    where
        S: Service<Req, Response = Res>,
        S::Error: Into<BoxError>,
    {
        let outcome = lock
            .run(async move |guard| {
                if let Some(acquired) = &self.acquired {
                    acquired(&mut request, guard);
                }
                inner.call(request).await
            })
            .await;
        match outcome {
            Ok(output) => output.map_err(Into::into),
            Err(RunError::Acquire(error @ Error::Held { .. })) if let Some(skipped) = &self.skipped => {
                tracing::info!("skipped: {error}");
                Ok(skipped(&error))
            }
            // The caller learns why the work failed, rather than that it was also unprotected.
            Err(RunError::Lost { lock_id, reason, output: Some(Err(error)) }) => {
                tracing::warn!(%lock_id, %reason, "the lock was lost; the service has failed otherwise");
                Err(error.into())
            }
            Err(error) => Err(Error::from(error).into()),
        }
    }
}

// By hand, like those below: the parameters need not be `Clone` or `Debug`.
impl<Req, Res> Clone for Parts<Req, Res> {
    fn clone(&self) -> Self {
        Self { lock: Arc::clone(&self.lock), acquired: self.acquired.clone(), skipped: self.skipped.clone() }
    }
}

impl<Req, Res> Clone for LockLayer<Req, Res> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<S: Clone, Req, Res> Clone for LockService<S, Req, Res> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), parts: Arc::clone(&self.parts) }
    }
}

impl<Req, Res> fmt::Debug for LockLayer<Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockLayer").field("skips", &self.parts.skipped.is_some()).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, Req, Res> fmt::Debug for LockService<S, Req, Res> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
