use db_mutex_core::StoreError;
#[cfg(feature = "_rustls")]
use mysql_async::DriverError;
use mysql_async::{Conn, OptsBuilder, PoolConstraints, PoolOpts};
#[cfg(feature = "_rustls")]
use mysql_async::{Error, SslOpts};

use crate::error::store_error;
use crate::session::Session;
#[cfg(feature = "_rustls")]
use crate::tls::{presented_name, ssl_opts};
#[cfg(feature = "_rustls")]
use crate::url::SslMode;
use crate::url::Url;

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
