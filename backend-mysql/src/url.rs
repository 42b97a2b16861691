use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use db_mutex_core::Invalid;
use db_mutex_sql_support::engine::{ALLOW_UNSUPPORTED_ENGINE, allows_unsupported_engine};
use db_mutex_sql_support::{Parameter, Password, ServerAddress, ServerUrl, encode, invalid, shown};
use mysql_async::{Opts, OptsBuilder};

const KEEPALIVE: Duration = Duration::from_secs(15);
const EXAMPLE: &str = "mysql://user:password@host/database";

/// How the connection is protected, in the words of
/// [MySQL's clients](https://dev.mysql.com/doc/refman/8.4/en/connection-options.html#option_general_ssl-mode).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Plain text.
    Disabled,
    /// TLS if the server has it, unverified.
    Preferred,
    /// TLS, unverified.
    Required,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// TLS with a certificate of a known authority for that very host.
    VerifyIdentity,
}

impl SslMode {
    fn of(parameter: &Parameter) -> Result<Self, Invalid> {
        Ok(match normalized(&parameter.value).as_str() {
            "disabled" | "disable" => Self::Disabled,
            "preferred" | "prefer" => Self::Preferred,
            "required" | "require" => Self::Required,
            "verify_ca" => Self::VerifyCa,
            "verify_identity" | "verify_full" => Self::VerifyIdentity,
            _ => return Err(parameter.invalid("write disabled, preferred, required, verify_ca or verify_identity")),
        })
    }
}

/// The parameters that the driver reads, and what to write instead of an invalid value. It has more, which the store
/// decides itself: about TLS, the pool, and what a session is set to.
const DRIVER_PARAMETERS: &[(&str, &str)] = &[
    ("socket", "write the path of a Unix socket"),
    ("compression", "write fast, on, best, or a level from 0 to 9"),
    ("tcp_keepalive", "write a number of milliseconds"),
    ("tcp_nodelay", "write true or false"),
    ("max_allowed_packet", "write a number of bytes"),
    ("enable_cleartext_plugin", "write true or false"),
    ("secure_auth", "write true or false"),
];

/// A URL that was parsed. No `Debug`: the driver's own shows the password.
#[derive(Clone)]
#[cfg_attr(not(feature = "_rustls"), allow(dead_code, reason = "a part of it is only for TLS"))]
pub(crate) struct Url {
    opts: OptsBuilder,
    /// In the order in which they are tried.
    hosts: Vec<(String, u16)>,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_ca: Option<PathBuf>,
    pub(crate) address: ServerAddress,
    pub(crate) allow_unsupported_engine: bool,
}

impl Url {
    /// Parses a URL. No error contains a password.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let url = ServerUrl::parse(text, &["mysql", "mariadb"], EXAMPLE)?;
        let (mut ssl_mode, mut ssl_ca, mut driver_parameters) = (None, None, Vec::new());
        let mut allow_unsupported_engine = false;
        for parameter in &url.parameters {
            match normalized(&parameter.name).as_str() {
                "ssl_mode" | "sslmode" => ssl_mode = Some(SslMode::of(parameter)?),
                "ssl_ca" | "sslca" | "sslrootcert" if parameter.value.is_empty() => {
                    return Err(parameter.invalid("write the path of a PEM file"));
                }
                "ssl_ca" | "sslca" | "sslrootcert" => ssl_ca = Some(parameter),
                ALLOW_UNSUPPORTED_ENGINE => allow_unsupported_engine = allows_unsupported_engine(parameter)?,
                _ => driver_parameters.push(driver_parameter(parameter)?),
            }
        }
        if url.hosts.is_empty() {
            return Err(invalid(format!("it names no host; write for example {EXAMPLE}")));
        }
        if url.database.is_none() {
            return Err(invalid(format!("it names no database; write for example {EXAMPLE}")));
        }
        // The driver reads the parameters alone: it would leave an IPv6 address in its brackets.
        let opts = driver_opts(&driver_parameters).ok_or_else(|| invalid("its parameters conflict"))?;
        if let (Some(_), [_, _, ..]) = (opts.socket(), &url.hosts[..]) {
            return Err(invalid("it names a `socket` and more than one host; write one host, or no socket"));
        }
        let is_near = opts.socket().is_some() || url.hosts.iter().all(|host| is_this_machine(&host.name));
        let ssl_mode = ssl_mode.unwrap_or(if is_near { SslMode::Disabled } else { SslMode::VerifyIdentity });
        if let (Some(ssl_ca), SslMode::Disabled) = (ssl_ca, ssl_mode) {
            return Err(ssl_ca.conflict("needs an ssl-mode that uses TLS; add for example ssl-mode=verify_identity"));
        }
        if cfg!(not(feature = "_rustls")) && !matches!(ssl_mode, SslMode::Disabled | SslMode::Preferred) {
            return Err(db_mutex_sql_support::tls_is_not_compiled_in("ssl-mode=disabled"));
        }
        let hosts: Vec<_> = url.hosts.iter().map(|host| (host.name.clone(), host.port.unwrap_or(3306))).collect();
        let places = match opts.socket() {
            Some(path) => vec![(path.to_owned(), 3306)],
            None => hosts.clone(),
        };
        let mut address = ServerAddress::new("mysql", places, url.database.clone().unwrap_or_default());
        address.user = url.user.clone();
        address.has_password = url.password.is_some();
        // A peer that is gone without a word is noticed some time.
        let keepalive = opts.tcp_keepalive().unwrap_or(KEEPALIVE);
        let opts = OptsBuilder::from_opts(opts)
            .tcp_keepalive(Some(keepalive))
            .user(url.user)
            .pass(url.password)
            .db_name(url.database)
            // Not over the server's Unix socket unless the URL names it: what the URL says is where it goes.
            .prefer_socket(false);
        Ok(Self {
            opts,
            hosts,
            ssl_mode,
            ssl_ca: ssl_ca.map(|parameter| PathBuf::from(&parameter.value)),
            address,
            allow_unsupported_engine,
        })
    }

    /// The URL with this password if it has none.
    pub(crate) fn with_password(mut self, password: Option<Password>) -> Self {
        if let (false, Some(Password(password))) = (self.address.has_password, password) {
            self.opts = self.opts.pass(Some(password));
        }
        self
    }

    /// For each host how it is shown, and the options of a connection to it, except for TLS.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (String, OptsBuilder)> {
        let named = |((shown_host, shown_port), (host, port)): (&(String, u16), &(String, u16))| {
            (shown(shown_host, *shown_port), self.opts.clone().ip_or_hostname(host.as_str()).tcp_port(*port))
        };
        self.address.hosts.iter().zip(&self.hosts).map(named)
    }
}

/// Checks a parameter and returns it as the driver writes it.
fn driver_parameter(parameter: &Parameter) -> Result<String, Invalid> {
    let normalized = normalized(&parameter.name);
    let known = DRIVER_PARAMETERS.iter().find(|(name, _)| *name == normalized);
    let Some((name, advice)) = known else {
        let of_the_driver = DRIVER_PARAMETERS.iter().map(|(name, _)| *name);
        return Err(
            parameter.unknown(["ssl-mode", "ssl-ca", ALLOW_UNSUPPORTED_ENGINE].into_iter().chain(of_the_driver))
        );
    };
    let pair = format!("{name}={}", encode(&parameter.value));
    match driver_opts(std::slice::from_ref(&pair)) {
        Some(_) if !parameter.value.is_empty() => Ok(pair),
        _ => Err(parameter.invalid(advice)),
    }
}

fn driver_opts(parameters: &[String]) -> Option<Opts> {
    Opts::from_url(&format!("mysql://localhost/?{}", parameters.join("&"))).ok()
}

/// As MySQL's option files do, `-` is the same as `_`.
fn normalized(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// Whether what is sent does not leave the machine.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")).ssl_mode
    }

    fn opts(url: &str) -> Opts {
        let url = Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        url.servers().next().unwrap().1.into()
    }

    #[track_caller]
    fn refused(url: &str, says: &str) {
        let message = Url::parse(url).err().unwrap_or_else(|| panic!("{url} was accepted")).to_string();
        assert!(message.contains(says), "{url} is refused with {message:?}, which does not say {says:?}");
        assert!(!message.contains("s3cret"), "{message}");
    }

    #[test]
    fn only_what_stays_on_this_machine_may_be_plain_without_a_word() {
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
    fn what_the_driver_is_told() {
        let opts = opts("MariaDB://a%40b:p%2F%25w@db.example:33/d%2Fb?socket=%2Frun%2Fa%26b&tcp-nodelay=false");
        assert_eq!(opts.user(), Some("a@b"));
        assert_eq!(opts.pass(), Some("p/%w"));
        assert_eq!((opts.ip_or_hostname(), opts.tcp_port()), ("db.example", 33));
        assert_eq!(opts.db_name(), Some("d/b"));
        assert_eq!(opts.socket(), Some("/run/a&b"));
        assert!(!opts.tcp_nodelay());
        assert!(!opts.prefer_socket());
    }

    #[test]
    fn ipv6_addresses_lose_their_brackets() {
        let opts = opts("mysql://root@[::1]:3307/db");
        assert_eq!((opts.ip_or_hostname(), opts.tcp_port()), ("::1", 3307));
    }

    #[test]
    fn a_missing_place_is_refused() {
        refused("mysql://u:s3cret@host", "names no database");
        refused("mysql://u:s3cret@host/", "names no database");
        refused("mysql://u:s3cret@/db", "names no host");
    }

    #[test]
    fn several_hosts_are_kept_in_order() {
        let url = Url::parse("mysql://u:p@h1,[::1]:3307,h3:3308/db").unwrap();
        let servers: Vec<_> = url.servers().map(|(shown, opts)| (shown, Opts::from(opts))).collect();
        let places: Vec<_> =
            servers.iter().map(|(shown, opts)| (shown.as_str(), opts.ip_or_hostname(), opts.tcp_port())).collect();
        assert_eq!(places, [("h1:3306", "h1", 3306), ("[::1]:3307", "::1", 3307), ("h3:3308", "h3", 3308)]);
        assert_eq!(url.address.to_string(), "mysql://h1:3306,[::1]:3307,h3:3308/db");
        refused("mysql://u:s3cret@h1,h2/db?socket=%2Frun%2Fs", "more than one host");
        refused("mysql://u:s3cret@h1,/db", "empty host");
    }

    /// Or the password would leave the machine in plain text.
    #[test]
    fn one_host_that_is_far_is_enough_for_tls() {
        assert_eq!(mode("mysql://u:p@localhost,db.example/db"), SslMode::VerifyIdentity);
        assert_eq!(mode("mysql://u:p@localhost:1,[::1],127.0.0.1/db"), SslMode::Disabled);
    }

    #[test]
    fn a_bad_part_is_named() {
        refused("mysql:u:s3cret@host/db", "`://`");
        refused("redis://u:s3cret@host/db", "scheme");
        refused("mysql://u:s3cret@host:port/db", "port is \"port\"");
        refused("mysql://u:s3cret%zz@host/db", "the password");
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        refused("mysql://u:s3cret@h/d?unknown=s3cret", "unknown parameter `unknown`; the known ones are ssl-mode, ");
        for of_the_store in ["require_ssl=true", "verify_ca=false", "pool_max=1", "client_found_rows=true"] {
            refused(&format!("mysql://u:s3cret@h/d?{of_the_store}"), "unknown parameter `");
        }
    }

    #[test]
    fn a_bad_value_is_shown_with_what_is_allowed() {
        for (pair, says) in [
            (
                "ssl-mode=maybe",
                "`ssl-mode` is \"maybe\"; write disabled, preferred, required, verify_ca or verify_identity",
            ),
            ("ssl-mode=", "`ssl-mode` is \"\""),
            ("ssl-ca=", "`ssl-ca` is \"\"; write the path"),
            ("ssl-ca=%zz", "`ssl-ca` has a `%`"),
            ("socket=", "`socket` is \"\""),
            ("compression=much", "`compression` is \"much\"; write fast"),
            ("tcp_keepalive=10s", "`tcp_keepalive` is \"10s\"; write a number of milliseconds"),
            ("tcp_nodelay=perhaps", "`tcp_nodelay` is \"perhaps\"; write true or false"),
            ("max-allowed-packet=1M", "`max-allowed-packet` is \"1M\""),
            ("enable_cleartext_plugin=1", "`enable_cleartext_plugin` is \"1\""),
            ("secure_auth=1", "`secure_auth` is \"1\""),
        ] {
            refused(&format!("mysql://u:s3cret@h/d?{pair}"), says);
        }
    }

    #[test]
    fn an_authority_without_tls_is_refused() {
        refused("mysql://u:s3cret@h/d?ssl-mode=disabled&ssl-ca=s3cret", "`ssl-ca` needs an ssl-mode");
        refused("mysql://u:s3cret@localhost/d?ssl-ca=s3cret", "`ssl-ca` needs an ssl-mode");
    }

    #[cfg(not(feature = "_rustls"))]
    #[test]
    fn without_tls_a_url_that_asks_for_it_is_refused() {
        for parameters in ["", "?ssl-mode=verify_identity", "?ssl-mode=required"] {
            refused(&format!("mysql://u:s3cret@db.example/d{parameters}"), "feature `tls-ring`");
        }
        for word in ["disabled", "preferred"] {
            mode(&format!("mysql://u:s3cret@db.example/d?ssl-mode={word}"));
        }
    }
}
