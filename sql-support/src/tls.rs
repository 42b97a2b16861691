//! The provider of cryptography, and the certificate authorities.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Returns the process's default provider if the application has installed one; otherwise aws-lc if it is compiled in, else
/// ring.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(compiled_in()))
}

/// Installs [`provider`] as the process's default if there is none, for a driver that uses no other.
pub fn install_provider() {
    if CryptoProvider::get_default().is_none() {
        // An error means that another thread was faster, which does as well.
        let _ = compiled_in().install_default();
    }
}

/// Ring is compiled in by default, so aws-lc is used where it was enabled.
#[cfg(feature = "tls-aws-lc-rs")]
fn compiled_in() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(not(feature = "tls-aws-lc-rs"))]
fn compiled_in() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// Returns the certificate authorities in a PEM file, or those that the operating system trusts. `parameter` is the URL
/// parameter that names the file.
///
/// # Errors
/// When the file cannot be read, or there is no usable certificate.
pub fn authorities(parameter: &str, file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let authorities = match file {
        Some(file) => in_file(parameter, file)?,
        None => of_the_system(),
    };
    if !authorities.is_empty() {
        return Ok(authorities);
    }
    let message = match file {
        Some(file) => format!("{parameter} {file:?} contains no certificate; name a PEM file"),
        None => {
            format!("the system trusts no certificate authority; install ca-certificates, or name one with {parameter}")
        }
    };
    Err(StoreError::new(Kind::Config, message))
}

fn in_file(parameter: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        StoreError::new(Kind::Config, format!("{parameter} {file:?} cannot be read as PEM certificates"))
            .with_source(error)
    };
    let reader = BufReader::new(File::open(file).map_err(|error| failed(error.into()))?);
    let read = CertificateDer::pem_reader_iter(reader).collect::<Result<Vec<_>, _>>();
    let authorities = read.map_err(|error| failed(error.to_string().into()))?;
    for authority in &authorities {
        RootCertStore::empty().add(authority.clone()).map_err(|error| failed(error.into()))?;
    }
    Ok(authorities)
}

/// Without those that rustls does not understand: a single one must not make all connections fail.
fn of_the_system() -> Vec<CertificateDer<'static>> {
    let mut authorities = rustls_native_certs::load_native_certs().certs;
    authorities.retain(|authority| RootCertStore::empty().add(authority.clone()).is_ok());
    authorities
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_of_no_use_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let contents = [
            ("empty.pem", ""),
            ("text.pem", "no certificate"),
            ("broken.pem", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
            ("nonsense.pem", "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n"),
        ];
        for (name, content) in contents {
            fs::write(folder.path().join(name), content).unwrap();
        }
        for name in ["missing.pem", "empty.pem", "text.pem", "broken.pem", "nonsense.pem"] {
            let error = authorities("ssl-ca", Some(&folder.path().join(name))).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            let message = error.to_string();
            assert!(message.contains("ssl-ca") && message.contains(name), "{message}");
        }
    }

    #[test]
    fn the_process_has_no_default_provider_unless_one_is_installed() {
        let _ = provider();
        assert!(CryptoProvider::get_default().is_none());
        install_provider();
        assert!(CryptoProvider::get_default().is_some());
        install_provider();
    }
}
