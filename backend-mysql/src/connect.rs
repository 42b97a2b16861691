use std::error::Error as StdError;

use db_mutex_core::StoreError;
use mysql_async::{Conn, DriverError, Error, OptsBuilder, PoolConstraints, PoolOpts};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{CertificateError, Error as TlsError};

use crate::error::store_error;
use crate::session::Session;
use crate::url::{SslMode, Url};

/// Finds out how the server is to be spoken to, by a first connection, and answers that and the options for more.
pub(crate) async fn first_connection(url: &Url, pool_size: usize) -> Result<(Conn, OptsBuilder), StoreError> {
    if url.ssl_mode != SslMode::Disabled && CryptoProvider::get_default().is_none() {
        // Where two providers are compiled in, the driver would panic for want of a default. An error says that somebody
        // has just installed another, which does as well.
        let _ = ring::default_provider().install_default();
    }
    let set = |opts: OptsBuilder| {
        // Ours alone, and always set: no reset, which would cost a round trip each time.
        let constraints = PoolConstraints::new(pool_size, pool_size).unwrap_or_default();
        let pool = PoolOpts::new().with_constraints(constraints).with_reset_connection(false);
        opts.pool_opts(pool).setup(vec![Session::setup()])
    };
    let opts = set(url.opts(url.ssl_mode != SslMode::Disabled, None));
    let error = match Conn::new(opts.clone()).await {
        Ok(connection) => return Ok((connection, opts)),
        Err(error) => error,
    };
    let opts = match (url.ssl_mode, &error) {
        (SslMode::Preferred, Error::Driver(DriverError::NoClientSslFlagFromServer)) => set(url.opts(false, None)),
        // The driver cannot verify the authority alone. It verifies it first, and then the name: so the name that the
        // certificate does have is asked for.
        (SslMode::VerifyCa, _) if presented_name(&error).is_some() => set(url.opts(true, presented_name(&error))),
        _ => return Err(store_error(error)),
    };
    let connection = Conn::new(opts.clone()).await.map_err(store_error)?;
    Ok((connection, opts))
}

/// A name of the certificate that the handshake refused for the name alone.
fn presented_name(error: &Error) -> Option<String> {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = source {
        let tls = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()?.downcast_ref::<TlsError>());
        if let Some(TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) = tls {
            return presented.iter().find_map(|name| name_in(name));
        }
        source = error.source();
    }
    None
}

/// The name in `DnsName("db.example")` or `IpAddress(127.0.0.1)`; a host in it if it has a wildcard.
fn name_in(presented: &str) -> Option<String> {
    let (_, rest) = presented.split_once('(')?;
    let name = rest.strip_suffix(')')?.trim_matches('"');
    Some(name.replacen('*', "any", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        assert_eq!(name_in("DnsName(\"db.example\")").as_deref(), Some("db.example"));
        assert_eq!(name_in("DnsName(\"*.example\")").as_deref(), Some("any.example"));
        assert_eq!(name_in("IpAddress(127.0.0.1)").as_deref(), Some("127.0.0.1"));
    }
}
