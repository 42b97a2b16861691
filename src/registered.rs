//! Stores that a program adds: a URL scheme, and how to open its stores.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use crate::store::LockStore;
use crate::{Connector, Invalid, StoreError, TableName};

type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn LockStore>, StoreError>> + Send>>;
type Open = dyn Fn(ConnectRequest) -> Opening + Send + Sync;

static REGISTERED: RwLock<BTreeMap<String, Arc<Open>>> = RwLock::new(BTreeMap::new());

/// A request to open a store: the argument of a function that was [registered](Connector::register) for a URL scheme.
///
/// The [`Connector`] knows nothing about the store, so the store must follow each option, or refuse it with an error.
/// `Debug` shows neither the URL nor the password.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// The whole URL, unchanged. Only its scheme has been checked, which may be in upper case.
    pub url: String,
    /// [`Connector::table`]: where the locks are kept, for example as a prefix of keys.
    pub table: TableName,
    /// [`Connector::create_if_missing`].
    pub create_if_missing: bool,
    /// [`Connector::read_only`].
    pub read_only: bool,
    /// [`Connector::password_if_missing`].
    pub password_if_missing: Option<String>,
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ConnectRequest");
        debug.field("table", &self.table).field("create_if_missing", &self.create_if_missing);
        debug.field("read_only", &self.read_only).finish_non_exhaustive()
    }
}

impl Connector {
    /// Registers a store for a URL scheme, for the whole process: from then on [`connect`](crate::connect()), [`Connector::new`]
    /// and `blocking::connect` accept URLs with that scheme, and call `open` to open the store.
    ///
    /// Call it once, when the program starts. A crate with a store usually has a function `register()` that does so. The
    /// case of the scheme does not matter. To write a store, see [Writing a
    /// store](https://github.com/db-mutex/db-mutex/blob/main/docs/writing-a-store.md).
    ///
    /// `open` is called each time a connector connects, not when the connector is created. There is no time limit: `open`
    /// must end by itself. A store whose connections are tied to a runtime must implement
    /// [`for_background`](crate::store::LockStore::for_background), or it does not work with `blocking::connect`.
    ///
    /// ```
    /// use std::sync::LazyLock;
    /// use db_mutex::testing::MemoryStore;
    /// use db_mutex::{Connector, Error, StoreError, StoreErrorKind};
    ///
    /// // Stands for your database.
    /// static DATABASE: LazyLock<MemoryStore> = LazyLock::new(MemoryStore::new);
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// Connector::register("memory", async |request| {
    ///     if request.read_only {
    ///         return Err(StoreError::new(StoreErrorKind::Config, "memory: has no read-only mode"));
    ///     }
    ///     Ok(DATABASE.clone())
    /// })?;
    ///
    /// let mutex = db_mutex::connect("memory:").await?;
    /// mutex.lock("report").acquire().await?.release().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Invalid::Scheme`] if the scheme is invalid, is already registered, or belongs to a backend of this crate, compiled
    /// in or not. An earlier registration stays.
    ///
    /// An error of `open` is returned by [`connect`](Self::connect) and [`builder`](Self::builder) as
    /// [`Error::Connect`](crate::Error::Connect), even if the reason is the URL. It is shown unchanged, so it must not
    /// contain a password.
    ///
    /// # Cancellation safety
    /// If the future of [`connect`](Self::connect) is dropped, the future of `open` is dropped with it, at any `.await`.
    pub fn register<F, Fut, S>(scheme: &str, open: F) -> Result<(), Invalid>
    where
        F: Fn(ConnectRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<S, StoreError>> + Send + 'static,
        S: LockStore,
    {
        let scheme = validate(scheme)?;
        let open = move |request| -> Opening {
            let opening = open(request);
            Box::pin(async move { Ok(Arc::new(opening.await?) as Arc<dyn LockStore>) })
        };
        let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
        if registered.contains_key(&scheme) {
            return Err(invalid(
                &scheme,
                "it is registered already; register each scheme once, when the program starts",
            ));
        }
        registered.insert(scheme, Arc::new(open));
        Ok(())
    }
}

/// A registered store.
#[derive(Clone)]
pub(crate) struct Registered {
    scheme: String,
    open: Arc<Open>,
}

impl Registered {
    /// Returns the store that is registered for a scheme, in lower case.
    pub(crate) fn find(scheme: &str) -> Option<Self> {
        let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
        registered.get(scheme).map(|open| Self { scheme: scheme.to_owned(), open: open.clone() })
    }

    /// The registered schemes.
    pub(crate) fn schemes() -> Vec<String> {
        REGISTERED.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(crate) async fn open(&self, request: ConnectRequest) -> Result<Arc<dyn LockStore>, StoreError> {
        (self.open)(request).await
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheme)
    }
}

/// The scheme in lower case, if [RFC 3986](https://www.rfc-editor.org/rfc/rfc3986#section-3.1) allows it and it is not ours.
fn validate(scheme: &str) -> Result<String, Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    // Of a whole URL nothing more is repeated: it may have a password in it.
    let valid = scheme.split(|c| !allowed(c)).next().unwrap_or_default();
    if valid != scheme || !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
        let reason = "write a letter, and then letters, digits, `+`, `-` or `.`, without the colon, for example redis";
        return Err(invalid(valid, reason));
    }
    let scheme = scheme.to_ascii_lowercase();
    if crate::connect::is_built_in(&scheme) {
        return Err(invalid(&scheme, "db-mutex has a backend for it; choose another scheme"));
    }
    Ok(scheme)
}

fn invalid(scheme: &str, reason: &str) -> Invalid {
    Invalid::Scheme { scheme: scheme.to_owned(), reason: reason.to_owned() }
}
