//! The URL of a database server, and the words about TLS in it.

use std::net::IpAddr;
use std::path::PathBuf;

use db_mutex_core::{StoreError, StoreErrorKind};
use mysql_async::{Opts, OptsBuilder, SslOpts};

/// How much TLS there has to be: the words of the MySQL clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disabled,
    /// TLS where the server has it; nothing is verified.
    Preferred,
    /// TLS; nothing is verified.
    Required,
    /// TLS with a certificate of a known authority, for whatever name.
    VerifyCa,
    /// TLS with a certificate of a known authority for this very host.
    VerifyIdentity,
}

impl SslMode {
    fn of(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "disabled" | "disable" => Self::Disabled,
            "preferred" | "prefer" => Self::Preferred,
            "required" | "require" => Self::Required,
            "verifyca" => Self::VerifyCa,
            "verifyidentity" | "verifyfull" => Self::VerifyIdentity,
            _ => return None,
        })
    }
}

/// A URL that was read. No `Debug`: the driver's own shows the password.
#[derive(Clone)]
pub(crate) struct Url {
    opts: Opts,
    pub(crate) ssl_mode: SslMode,
    ssl_ca: Option<PathBuf>,
}

impl Url {
    pub(crate) fn read(url: &str) -> Result<Self, StoreError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(invalid("it has no `://`; write for example mysql://user:password@host/database"));
        };
        if !["mysql", "mariadb"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(invalid("its scheme is unknown; write mysql:// or mariadb://"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut ssl_mode, mut ssl_ca, mut others) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key.to_ascii_lowercase().replace('-', "_").as_str() {
                "ssl_mode" | "sslmode" => {
                    ssl_mode = Some(SslMode::of(value).ok_or_else(|| {
                        invalid("ssl-mode is none of disabled, preferred, required, verify_ca, verify_identity")
                    })?);
                }
                "ssl_ca" | "sslca" | "sslrootcert" => ssl_ca = Some(PathBuf::from(decoded(value)?)),
                "require_ssl" | "verify_ca" | "verify_identity" | "built_in_roots" => {
                    return Err(invalid("about TLS it takes only ssl-mode=… and ssl-ca=…"));
                }
                _ => others.push(pair),
            }
        }
        let mut plain = format!("mysql://{place}");
        if !others.is_empty() {
            plain = format!("{plain}?{}", others.join("&"));
        }
        // The driver's error is not kept: it may repeat a part of the URL.
        let opts = Opts::from_url(&plain)
            .map_err(|_| invalid("write mysql://user:password@host:port/database, with %xx for special characters"))?;
        if opts.db_name().is_none_or(str::is_empty) {
            return Err(invalid("it names no database; write mysql://user:password@host/database"));
        }
        let ssl_mode = ssl_mode.unwrap_or(if is_near(&opts) { SslMode::Disabled } else { SslMode::VerifyIdentity });
        if ssl_ca.is_some() && ssl_mode == SslMode::Disabled {
            return Err(invalid("ssl-ca needs an ssl-mode that uses TLS, such as verify_identity"));
        }
        Ok(Self { opts, ssl_mode, ssl_ca })
    }

    /// The options of a connection, with TLS or without. `name` is whom the certificate has to be for, if not the host.
    pub(crate) fn opts(&self, tls: bool, name: Option<String>) -> OptsBuilder {
        let mut ssl = SslOpts::default();
        if let Some(file) = &self.ssl_ca {
            ssl = ssl.with_root_certs(vec![file.clone().into()]).with_disable_built_in_roots(true);
        }
        if matches!(self.ssl_mode, SslMode::Preferred | SslMode::Required) {
            ssl = ssl.with_danger_accept_invalid_certs(true);
        }
        ssl = ssl.with_danger_tls_hostname_override(name);
        // Not over the server's Unix socket by itself: what the URL says is where it goes.
        OptsBuilder::from_opts(self.opts.clone()).prefer_socket(false).ssl_opts(tls.then_some(ssl))
    }
}

/// Whether what is sent does not leave the machine.
fn is_near(opts: &Opts) -> bool {
    let host = opts.ip_or_hostname();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    opts.socket().is_some()
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

fn decoded(value: &str) -> Result<String, StoreError> {
    let broken = || invalid("the value of ssl-ca is not a path; write %25 for a percent sign");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.split_at_checked(2).ok_or_else(broken)?;
        let digits_text = std::str::from_utf8(digits.0).map_err(|_| broken())?;
        bytes.push(u8::from_str_radix(digits_text, 16).map_err(|_| broken())?);
        rest = digits.1;
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

fn invalid(reason: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Config, format!("database url is not valid: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        Url::read(url).unwrap_or_else(|error| panic!("{url}: {error}")).ssl_mode
    }

    #[test]
    fn plain_text_leaves_the_machine_only_when_it_is_told_to() {
        for near in ["127.0.0.1", "127.8.9.1:3307", "localhost", "LOCALHOST", "[::1]"] {
            assert_eq!(mode(&format!("mysql://u:p@{near}/db")), SslMode::Disabled, "{near}");
        }
        assert_eq!(mode("mysql://u@far.example/db?socket=%2Frun%2Fmysqld.sock"), SslMode::Disabled);
        for far in ["10.0.0.1", "db.example", "localhost.example", "128.0.0.1", "[2001:db8::1]"] {
            assert_eq!(mode(&format!("mariadb://u:p@{far}/db")), SslMode::VerifyIdentity, "{far}");
        }
        assert_eq!(mode("mysql://u:p@db.example/db?ssl-mode=disabled"), SslMode::Disabled);
    }

    #[test]
    fn the_words_of_the_clients_are_understood() {
        for (words, expected) in [
            ("ssl-mode=REQUIRED", SslMode::Required),
            ("ssl_mode=verify-ca", SslMode::VerifyCa),
            ("sslmode=verify-full", SslMode::VerifyIdentity),
            ("SSL-MODE=VERIFY_IDENTITY", SslMode::VerifyIdentity),
            ("ssl-mode=Preferred", SslMode::Preferred),
        ] {
            assert_eq!(mode(&format!("mysql://u:p@host/db?{words}")), expected, "{words}");
        }
    }

    #[test]
    fn a_bad_url_is_explained_and_never_repeated() {
        for bad in [
            "mysql:u:s3cret@host/db",
            "redis://u:s3cret@host/db",
            "mysql://u:s3cret@host",
            "mysql://u:s3cret@host/",
            "mysql://u:s3cret@host/db?ssl-mode=s3cret",
            "mysql://u:s3cret@host/db?require_ssl=true",
            "mysql://u:s3cret@host/db?unknown=s3cret",
            "mysql://u:s3cret@host:port/db",
            "mysql://u:s3cret@host/db?ssl-mode=disabled&ssl-ca=s3cret",
        ] {
            let error = Url::read(bad).err().unwrap_or_else(|| panic!("{bad} was accepted"));
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
            assert_eq!(error.kind(), StoreErrorKind::Config);
        }
    }

    #[test]
    fn a_path_is_decoded() {
        assert_eq!(decoded("%2Fetc%2fca.pem").unwrap(), "/etc/ca.pem");
        assert_eq!(decoded("/etc/ca.pem").unwrap(), "/etc/ca.pem");
        assert!(decoded("%zz").is_err());
        assert!(decoded("%2").is_err());
    }
}
