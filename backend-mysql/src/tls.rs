//! TLS through rustls. The driver sets it up, and uses the process's default provider of cryptography.

use std::error::Error as StdError;

use db_mutex_core::StoreError;
use db_mutex_sql_support::tls::{authorities, install_provider};
use mysql_async::{Error, SslOpts};
use rustls::{CertificateError, Error as TlsError};

use crate::url::{SslMode, Url};

/// Reads the certificate authorities, and returns the options for what the URL asks for; `None` is plain text.
pub(crate) fn ssl_opts(url: &Url) -> Result<Option<SslOpts>, StoreError> {
    if url.ssl_mode == SslMode::Disabled {
        return Ok(None);
    }
    install_provider();
    let ssl = SslOpts::default();
    Ok(Some(match url.ssl_mode {
        // The driver's built-in authorities are not asked, but it insists on having some.
        SslMode::Disabled | SslMode::Preferred | SslMode::Required => {
            check_file(url)?;
            ssl.with_danger_accept_invalid_certs(true)
        }
        SslMode::VerifyCa | SslMode::VerifyIdentity => {
            let authorities = authorities("ssl-ca", url.ssl_ca.as_deref())?;
            let authorities = authorities.into_iter().map(|authority| authority.to_vec().into());
            ssl.with_root_certs(authorities.collect()).with_disable_built_in_roots(true)
        }
    }))
}

/// A file that is named has to be there, even if nothing is verified with it.
fn check_file(url: &Url) -> Result<(), StoreError> {
    url.ssl_ca.as_deref().map_or(Ok(()), |file| authorities("ssl-ca", Some(file)).map(drop))
}

/// A name of the certificate that the handshake refused for the name alone.
pub(crate) fn presented_name(error: &Error) -> Option<String> {
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
