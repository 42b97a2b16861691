use std::path::PathBuf;
use std::str::FromStr;

use db_mutex_core::Invalid;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// A connection URL, taken apart: what the driver understands, and the TLS words that it does not.
pub(crate) struct Url {
    pub(crate) config: Config,
    pub(crate) tls: TlsMode,
    pub(crate) root_certificates: Option<PathBuf>,
}

/// How the connection is protected, in the words of
/// [libpq](https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// Plain text.
    Disable,
    /// TLS if the server has it, unverified.
    Prefer,
    /// TLS, unverified.
    Require,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// TLS with a certificate of a known authority for that very host.
    VerifyFull,
}

impl Url {
    /// Takes a URL apart. No error repeats any of it, for it may have a password in it.
    pub(crate) fn parse(url: &str) -> Result<Self, Invalid> {
        // A password may have a `?` in it, which begins no parameters: the driver looks for the `@` first.
        let login = url.find('@').unwrap_or(0);
        let (address, query) = match url[login..].find('?') {
            Some(at) => (&url[..login + at], &url[login + at + 1..]),
            None => (url, ""),
        };
        let (mut mode, mut root_certificates, mut of_the_system, mut rest) = (None, None, false, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value.parse()?),
                Some(("sslrootcert", "system")) => (root_certificates, of_the_system) = (None, true),
                Some(("sslrootcert", path)) => {
                    (root_certificates, of_the_system) = (Some(PathBuf::from(decoded(path)?)), false);
                }
                Some((key @ ("sslcert" | "sslkey" | "sslcrl" | "sslpassword"), _)) => {
                    return Err(invalid(format!(
                        "its parameter {key} is not supported; connect a pool of your own with it"
                    )));
                }
                _ => rest.push(parameter),
            }
        }
        let rest = if rest.is_empty() { address.to_owned() } else { format!("{address}?{}", rest.join("&")) };
        let mut config = Config::from_str(&rest).map_err(|_| {
            invalid("it is not of the form postgres://user:password@host:port/database?parameter=value")
        })?;
        let names_an_authority = root_certificates.is_some() || of_the_system;
        let tls = match mode {
            // Who names an authority wants it to be asked. As libpq does it; except that libpq refuses `system` here,
            // where anybody can have a certificate, and takes an authority alone for `prefer`, which asks nobody.
            Some(TlsMode::Require) if of_the_system => TlsMode::VerifyFull,
            Some(TlsMode::Require) if names_an_authority => TlsMode::VerifyCa,
            Some(mode) => mode,
            None if stays_on_this_machine(&config) && !names_an_authority => TlsMode::Prefer,
            None => TlsMode::VerifyFull,
        };
        config.ssl_mode(match tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        Ok(Self { config, tls, root_certificates })
    }
}

impl FromStr for TlsMode {
    type Err = Invalid;

    fn from_str(mode: &str) -> Result<Self, Invalid> {
        match mode {
            "disable" => Ok(Self::Disable),
            "allow" | "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(invalid("its sslmode is unknown; write disable, prefer, require, verify-ca or verify-full")),
        }
    }
}

fn invalid(reason: impl Into<String>) -> Invalid {
    Invalid::Url { reason: reason.into() }
}

/// Whether nobody can listen: every host is a Unix socket or a loopback address.
fn stays_on_this_machine(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        #[cfg(unix)]
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
    });
    named && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

/// Undoes percent-encoding in the value of a parameter.
fn decoded(value: &str) -> Result<String, Invalid> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
        match digits {
            [Some(high), Some(low)] => bytes.extend(u8::try_from(high * 16 + low)),
            _ => return Err(invalid("a `%` in its sslrootcert is not followed by two hexadecimal digits")),
        }
    }
    String::from_utf8(bytes).map_err(|_| invalid("its sslrootcert is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> TlsMode {
        Url::parse(url).map(|url| url.tls).unwrap()
    }

    #[test]
    fn only_what_stays_on_this_machine_may_be_plain_without_a_word() {
        for local in
            ["postgres://u@localhost/d", "postgres://u@127.0.0.1/d", "postgres://u@[::1]/d", "postgres:///d?host=/run"]
        {
            assert_eq!(mode(local), TlsMode::Prefer, "{local}");
        }
        for remote in [
            "postgres://u@db.example.org/d",
            "postgres://u@10.0.0.1/d",
            "postgres://u@localhost,db.example.org/d",
            "postgres://u@localhost/d?hostaddr=10.0.0.1",
        ] {
            assert_eq!(mode(remote), TlsMode::VerifyFull, "{remote}");
        }
        assert_eq!(mode("postgres://u@db.example.org/d?sslmode=disable"), TlsMode::Disable);
    }

    #[test]
    fn the_words_are_those_of_libpq() {
        assert_eq!(mode("postgres://u@h/d?sslmode=require"), TlsMode::Require);
        assert_eq!(mode("postgres://u@h/d?sslmode=require&sslrootcert=/ca.pem"), TlsMode::VerifyCa);
        assert_eq!(mode("postgres://u@h/d?connect_timeout=3&sslmode=verify-ca"), TlsMode::VerifyCa);
        assert_eq!(mode("postgres://u:a?b@localhost/d?sslmode=require"), TlsMode::Require);
        assert_eq!(mode("postgres://u@h/d?sslmode=require&sslrootcert=system"), TlsMode::VerifyFull);
        assert_eq!(mode("postgres://u@localhost/d?sslrootcert=/ca.pem"), TlsMode::VerifyFull);
        let url = Url::parse("postgres://u@h/d?sslrootcert=/a%20b.pem").unwrap();
        assert_eq!(url.root_certificates.unwrap(), PathBuf::from("/a b.pem"));
    }

    #[test]
    fn a_bad_url_is_refused_and_not_repeated() {
        for bad in [
            "postgres://u:s3cret@h/d?sslmode=maybe",
            "postgres://u:s3cret@h:port/d",
            "postgres://u:s3cret@h/d?sslcert=x",
            "postgres://u:s3cret@h/d?sslrootcert=%zz",
            "postgres://u:s3cret@h/d?nonsense=1",
        ] {
            let message = Url::parse(bad).map(|url| url.tls).unwrap_err().to_string();
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
