//! A [`Layer`] for [tower](https://docs.rs/tower): a service runs under a lock that depends on the request.
//!
//! It fits whatever is made of tower's services: workers of apalis, routes of axum, servers of tonic.
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
//! From the acquisition until the future of the inner service has returned its response. If that future fails, panics or is
//! dropped, the lock is released too. A response that is streamed later, such as a body of HTTP, is sent without the lock.
//!
//! Place a timeout *inside* the layer to limit the work, and *outside* to limit the wait as well.
//!
//! # If the lock is lost
//!
//! Same as with [`Lock::run`]: by default the inner service is run to its end, and with [`OnLost::Drop`](crate::OnLost::Drop)
//! its future is dropped. In both cases [`Error::Lost`] is returned, and a finished response is dropped, because the work may
//! have overlapped another's. If the inner service has failed itself, its error is returned.
//!
//! # Readiness
//!
//! The layer is ready when the inner service is. A request that waits for its lock keeps the place that it has in the inner
//! service, for example in a limit of concurrency; a request that is skipped gives it back at once.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use db_mutex_core::{Error, Guard, Lock, RunError};
use tower_layer::Layer;
use tower_service::Service;

/// The error of a service under a lock: an [`Error`] or the inner service's own. Same as `tower::BoxError`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Runs a service under a lock that depends on the request.
///
/// `Req` is the request, `Res` the response of the service. Cheap to clone.
pub struct LockLayer<Req, Res> {
    parts: Arc<Parts<Req, Res>>,
}

/// A service under a lock, made by [`LockLayer`].
///
/// The inner service has to be [`Clone`], because each request takes the one that is ready with it.
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
    /// Returns a layer whose lock for a request is the one that `lock` returns, with all its options: a
    /// [TTL](Lock::ttl), a [wait limit](Lock::wait), [renewal](Lock::keep_alive) and so on.
    ///
    /// If the lock is held by another holder, the service returns [`Error::Held`]; see [`skip`](Self::skip).
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

    /// Sets that a request whose lock is held is skipped: the default response is returned in place of [`Error::Held`], and
    /// the holder is logged at level `INFO`.
    pub fn skip(self) -> Self
    where
        Res: Default,
    {
        self.skip_with(|_| Res::default())
    }

    /// Same as [`skip`](Self::skip), with a response of your own, which may depend on the [`Error::Held`].
    pub fn skip_with(self, response: impl Fn(&Error) -> Res + Send + Sync + 'static) -> Self {
        let Parts { lock, acquired, .. } = (*self.parts).clone();
        Self { parts: Arc::new(Parts { lock, acquired, skipped: Some(Arc::new(response)) }) }
    }

    /// Sets a function that gets each request and its guard before the service is called. It can give the service what
    /// that needs of the guard: its [fencing token](Guard::fence), its [`cancel_token`](Guard::cancel_token).
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
        // The service that is ready, which a clone of it need not be.
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

// By hand, like the others: the parameters need not be `Clone` or `Debug`.
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
