use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use db_mutex_core::StoreError;
use mysql_async::{Conn, Error, OptsBuilder, Pool, PoolConstraints, PoolOpts};
#[cfg(feature = "_rustls")]
use mysql_async::{DriverError, SslOpts};

use crate::error::store_error;
use crate::session::Session;
#[cfg(feature = "_rustls")]
use crate::tls::{presented_name, ssl_opts};
#[cfg(feature = "_rustls")]
use crate::url::SslMode;
use crate::url::Url;

/// The pool that requests take their connections from. Clones share it.
#[derive(Clone)]
pub(crate) struct Connections {
    current: Arc<Mutex<Generation>>,
    /// How connections of our own are made; `None` on an application's pool, which is not replaced.
    own: Option<OptsBuilder>,
}

/// A pool, and how often it was replaced.
#[derive(Clone)]
struct Generation {
    number: u64,
    pool: Pool,
}

impl Connections {
    pub(crate) fn own(opts: OptsBuilder) -> Self {
        Self::of(Pool::new(opts.clone()), Some(opts))
    }

    pub(crate) fn borrowed(pool: Pool) -> Self {
        Self::of(pool, None)
    }

    fn of(pool: Pool, own: Option<OptsBuilder>) -> Self {
        Self { current: Arc::new(Mutex::new(Generation { number: 0, pool })), own }
    }

    /// The same server, over a few connections that are not lent out to others; `None` on an application's pool.
    pub(crate) fn apart(&self) -> Option<Self> {
        let few = PoolOpts::new().with_constraints(PoolConstraints::new(0, 3)?).with_reset_connection(false);
        Some(Self::own(self.own.clone()?.pool_opts(few)))
    }

    /// A connection, and with which pool it came.
    pub(crate) async fn get(&self) -> Result<(Conn, u64), Error> {
        let Generation { number, pool } = self.current().clone();
        Ok((pool.get_conn().await?, number))
    }

    /// Whether the next connection is a new one once [`leave`](Self::leave) was called.
    pub(crate) fn are_replaced(&self) -> bool {
        self.own.is_some()
    }

    /// Leaves the connections of that pool: one of them has failed, so all are suspect.
    pub(crate) fn leave(&self, number: u64) {
        let Some(own) = &self.own else { return };
        let mut current = self.current();
        if current.number == number {
            *current = Generation { number: number + 1, pool: Pool::new(own.clone()) };
        }
    }

    /// Nothing that can panic runs under this mutex.
    fn current(&self) -> MutexGuard<'_, Generation> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the first connection, and returns it with the options for more.
pub(crate) async fn first_connection(url: &Url, pool_size: usize) -> Result<(Conn, OptsBuilder), StoreError> {
    // Ours alone, and always set: no reset, which would cost a round trip each time.
    let constraints = PoolConstraints::new(pool_size, pool_size).unwrap_or_default();
    let pool = PoolOpts::new().with_constraints(constraints).with_reset_connection(false);
    protected_connection(url, url.opts().pool_opts(pool).setup(vec![Session::setup()])).await
}

#[cfg(feature = "_rustls")]
async fn protected_connection(url: &Url, plain: OptsBuilder) -> Result<(Conn, OptsBuilder), StoreError> {
    let ssl = ssl_opts(url)?;
    let with = |ssl: Option<SslOpts>| plain.clone().ssl_opts(ssl);
    let opts = with(ssl.clone());
    let error = match Conn::new(opts.clone()).await {
        Ok(connection) => return Ok((connection, opts)),
        Err(error) => error,
    };
    let opts = match (url.ssl_mode, &error) {
        (SslMode::Preferred, Error::Driver(DriverError::NoClientSslFlagFromServer)) => with(None),
        // The driver cannot verify the authority alone. It verifies it first, and then the name: so the name that the
        // certificate does have is asked for.
        (SslMode::VerifyCa, _) if presented_name(&error).is_some() => {
            with(ssl.map(|ssl| ssl.with_danger_tls_hostname_override(presented_name(&error))))
        }
        _ => return Err(store_error(error)),
    };
    let connection = Conn::new(opts.clone()).await.map_err(store_error)?;
    Ok((connection, opts))
}

/// A URL that asks for TLS was refused before.
#[cfg(not(feature = "_rustls"))]
async fn protected_connection(_: &Url, plain: OptsBuilder) -> Result<(Conn, OptsBuilder), StoreError> {
    let connection = Conn::new(plain.clone()).await.map_err(store_error)?;
    Ok((connection, plain))
}
