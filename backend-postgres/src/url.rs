use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use db_mutex_core::Invalid;
use db_mutex_sql_support::{Parameter, ServerAddress, ServerUrl, invalid};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

const EXAMPLE: &str = "postgres://user:password@host/database";

/// A connection URL: what the driver understands, and the TLS modes that it does not.
#[cfg_attr(not(feature = "_rustls"), allow(dead_code, reason = "a part of it is only for TLS"))]
pub(crate) struct Url {
    pub(crate) config: Config,
    pub(crate) tls: TlsMode,
    pub(crate) root_certificates: Option<PathBuf>,
    /// The driver does not tell its default from a value in the URL.
    pub(crate) keepalives_idle_is_given: bool,
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

const SECONDS: &str = "write a number of seconds";

/// The parameters that the driver reads, and what to write instead of an invalid value.
const DRIVER_PARAMETERS: &[(&str, &str)] = &[
    ("user", "write a name"),
    ("password", "write a password"),
    ("dbname", "write a name"),
    ("host", "write host names, separated by commas"),
    ("hostaddr", "write IP addresses, separated by commas"),
    ("port", "write numbers from 1 to 65535, separated by commas"),
    ("application_name", "write a name"),
    ("options", "write command-line options for the server"),
    ("connect_timeout", SECONDS),
    ("tcp_user_timeout", SECONDS),
    ("keepalives", "write 0 or 1"),
    ("keepalives_idle", SECONDS),
    ("keepalives_interval", SECONDS),
    ("keepalives_retries", "write a number"),
    ("target_session_attrs", "write any or read-write"),
    ("channel_binding", "write disable, prefer or require"),
    ("sslnegotiation", "write postgres or direct"),
    ("load_balance_hosts", "write disable or random"),
];

impl Url {
    /// Parses a URL. No error contains a password.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let url = ServerUrl::parse(text, &["postgres", "postgresql"], EXAMPLE)?;
        let (mut mode, mut root_certificates, mut of_the_system) = (None, None, false);
        let mut driver_parameters = Vec::new();
        for parameter in &url.parameters {
            match parameter.name.as_str() {
                "sslmode" => mode = Some(TlsMode::of(parameter)?),
                "sslrootcert" if parameter.value == "system" => of_the_system = true,
                "sslrootcert" if parameter.value.is_empty() => {
                    return Err(parameter.invalid("write the path of a PEM file, or system"));
                }
                "sslrootcert" => root_certificates = Some(PathBuf::from(&parameter.value)),
                "sslcert" | "sslkey" | "sslcrl" | "sslpassword" => {
                    return Err(parameter.conflict("is not supported; connect a pool of your own with it"));
                }
                _ => driver_parameters.push(conninfo(parameter)?),
            }
        }
        // Each was accepted alone.
        let mut config =
            Config::from_str(&driver_parameters.join(" ")).map_err(|_| invalid("its parameters conflict"))?;
        add_login_and_place(&mut config, &url);
        check_place(&config)?;
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
        if cfg!(not(feature = "_rustls")) && !matches!(tls, TlsMode::Disable | TlsMode::Prefer) {
            return Err(db_mutex_sql_support::tls_is_not_compiled_in("sslmode=disable"));
        }
        config.ssl_mode(match tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer if cfg!(feature = "_rustls") => SslMode::Prefer,
            TlsMode::Prefer => SslMode::Disable,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        let keepalives_idle_is_given = url.parameters.iter().any(|parameter| parameter.name == "keepalives_idle");
        Ok(Self { config, tls, root_certificates, keepalives_idle_is_given })
    }

    /// Where the URL leads.
    pub(crate) fn address(&self) -> ServerAddress {
        let config = &self.config;
        let named = config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        });
        let mut names: Vec<_> = named.collect();
        if names.is_empty() {
            names = config.get_hostaddrs().iter().map(IpAddr::to_string).collect();
        }
        let port = |number: usize| {
            let ports = config.get_ports();
            ports.get(number).or(ports.first()).copied().unwrap_or(5432)
        };
        let hosts = names.into_iter().enumerate().map(|(number, name)| (name, port(number))).collect();
        let mut address = ServerAddress::new("postgres", hosts, config.get_dbname().unwrap_or_default());
        address.user = config.get_user().map(str::to_owned);
        // As with libpq, an empty one is none.
        address.has_password = config.get_password().is_some_and(|password| !password.is_empty());
        address
    }
}

impl TlsMode {
    fn of(parameter: &Parameter) -> Result<Self, Invalid> {
        match parameter.value.as_str() {
            "disable" => Ok(Self::Disable),
            "allow" | "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            _ => Err(parameter.invalid("write disable, prefer, require, verify-ca or verify-full")),
        }
    }
}

/// Checks a parameter and returns it in the form `name='value'`, which the driver reads too.
fn conninfo(parameter: &Parameter) -> Result<String, Invalid> {
    let known = DRIVER_PARAMETERS.iter().find(|(name, _)| *name == parameter.name);
    let Some((name, advice)) = known else {
        let of_the_driver = DRIVER_PARAMETERS.iter().map(|(name, _)| *name);
        return Err(parameter.unknown(["sslmode", "sslrootcert"].into_iter().chain(of_the_driver)));
    };
    let value = match *name {
        "host" => parameter.value.split(',').map(without_brackets).collect::<Vec<_>>().join(","),
        "port" if parameter.value.split(',').any(|port| port == "0") => return Err(parameter.invalid(advice)),
        _ => parameter.value.clone(),
    };
    let pair = format!("{name}='{}'", value.replace('\\', r"\\").replace('\'', r"\'"));
    match Config::from_str(&pair) {
        Ok(_) => Ok(pair),
        Err(_) => Err(parameter.invalid(advice)),
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Adds what stands before the parameters. As with libpq, a parameter of the same meaning takes precedence, except that
/// hosts are tried one after the other.
fn add_login_and_place(config: &mut Config, url: &ServerUrl) {
    if let (None, Some(user)) = (config.get_user(), &url.user) {
        config.user(user);
    }
    if let (None, Some(password)) = (config.get_password(), &url.password) {
        config.password(password);
    }
    if let (None, Some(database)) = (config.get_dbname(), &url.database) {
        config.dbname(database);
    }
    let ports_are_given = !config.get_ports().is_empty();
    for host in &url.hosts {
        config.host(&host.name);
        if host.port.is_some() || !ports_are_given {
            config.port(host.port.unwrap_or(5432));
        }
    }
}

fn check_place(config: &Config) -> Result<(), Invalid> {
    let (hosts, addresses, ports) = (config.get_hosts().len(), config.get_hostaddrs().len(), config.get_ports().len());
    if hosts == 0 && addresses == 0 {
        return Err(invalid(format!("it names no host; write for example {EXAMPLE}")));
    }
    if hosts > 0 && addresses > 0 && hosts != addresses {
        return Err(invalid(format!("it has {hosts} hosts and {addresses} hostaddr; write as many of both")));
    }
    if ports > 1 && ports != hosts.max(addresses) {
        let hosts = hosts.max(addresses);
        return Err(invalid(format!("it has {ports} ports for {hosts} hosts; write one port, or one for each host")));
    }
    // The driver's default is the name of the user: two users would have different locks.
    if config.get_dbname().is_none_or(str::is_empty) {
        return Err(invalid(format!("it names no database; write for example {EXAMPLE}")));
    }
    Ok(())
}

/// Whether nobody can listen: every host is a Unix socket or a loopback address.
fn stays_on_this_machine(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    });
    named && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
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

    #[track_caller]
    fn refused(url: &str, says: &str) {
        let message = Url::parse(url).map(|url| url.tls).unwrap_err().to_string();
        assert!(message.contains(says), "{url} is refused with {message:?}, which does not say {says:?}");
        assert!(!message.contains("s3cret"), "{message}");
    }

    fn config(url: &str) -> Config {
        Url::parse(url).map(|url| url.config).unwrap()
    }

    #[test]
    fn what_the_driver_is_told() {
        let config =
            config("PostgreSQL://a%40b:p%27%5C%25w@h1:1,[::1],h3:3/d%2Fb?application_name=it%27s%5C&connect_timeout=3");
        assert_eq!(config.get_user(), Some("a@b"));
        assert_eq!(config.get_password(), Some(&br"p'\%w"[..]));
        assert_eq!(config.get_hosts(), ["h1", "::1", "h3"].map(|name| Host::Tcp(name.into())));
        assert_eq!(config.get_ports(), [1, 5432, 3]);
        assert_eq!(config.get_dbname(), Some("d/b"));
        assert_eq!(config.get_application_name(), Some(r"it's\"));
        assert_eq!(config.get_connect_timeout(), Some(&std::time::Duration::from_secs(3)));
    }

    #[test]
    fn places_may_be_parameters() {
        assert_eq!(config("postgres:///d?host=%2Frun%2Fpg").get_hosts(), [Host::Unix("/run/pg".into())]);
        assert_eq!(config("postgres://u@%2Frun%2Fpg:33/d").get_hosts(), [Host::Unix("/run/pg".into())]);
        assert_eq!(config("postgres://?host=[::1]&dbname=d").get_hosts(), [Host::Tcp("::1".into())]);
        assert_eq!(config("postgres://h/d?port=33").get_ports(), [33]);
        assert_eq!(config("postgres://h/d?dbname=other").get_dbname(), Some("other"));
    }

    #[test]
    fn the_address_is_that_of_the_driver() {
        let address = |url: &str| Url::parse(url).map(|url| url.address()).unwrap();
        assert_eq!(address("postgres://u:s3cret@h1,[::1]:33/d").to_string(), "postgres://h1:5432,[::1]:33/d");
        assert_eq!(address("postgres://h/x?dbname=d&port=33").to_string(), "postgres://h:33/d");
        assert_eq!(address("postgres:///d?host=/run/pg&user=u").user.as_deref(), Some("u"));
        assert_eq!(address("postgres:///d?hostaddr=127.0.0.1").to_string(), "postgres://127.0.0.1:5432/d");
        assert!(address("postgres://u:p@h/d").has_password && address("postgres://u@h/d?password=p").has_password);
        assert!(!address("postgres://u:@h/d").has_password && !address("postgres://u@h/d").has_password);
    }

    #[test]
    fn a_missing_place_is_refused() {
        refused("postgres://u:s3cret@/d", "names no host");
        refused("postgres:///d", "names no host");
        refused("postgres://u:s3cret@h", "names no database");
        refused("postgres://u:s3cret@h/?dbname=", "names no database");
        refused("postgres://h1:1,h2:2/d?port=3", "3 ports for 2 hosts");
        refused("postgres://h1,h2/d?hostaddr=127.0.0.1", "2 hosts and 1 hostaddr");
    }

    #[test]
    fn a_bad_part_is_named() {
        refused("postgres:u:s3cret@h/d", "`://`");
        refused("mysql://u:s3cret@h/d", "scheme");
        refused("postgres://u:s3cret@h:port/d", "port is \"port\"");
        refused("postgres://u:s3cret%zz@h/d", "the password");
    }

    #[test]
    fn an_unknown_parameter_is_named() {
        refused(
            "postgres://u:s3cret@h/d?nonsense=s3cret",
            "unknown parameter `nonsense`; the known ones are sslmode, ",
        );
        refused("postgres://u:s3cret@h/d?SSLMODE=disable", "unknown parameter `SSLMODE`");
        refused("postgres://u:s3cret@h/d?sslcert=s3cret", "`sslcert` is not supported");
    }

    #[test]
    fn a_bad_value_is_shown_with_what_is_allowed() {
        for (pair, says) in [
            ("sslmode=maybe", "`sslmode` is \"maybe\"; write disable, prefer, require, verify-ca or verify-full"),
            ("sslmode=", "`sslmode` is \"\""),
            ("sslrootcert=", "`sslrootcert` is \"\"; write the path"),
            ("sslrootcert=%zz", "`sslrootcert` has a `%`"),
            ("port=x", "`port` is \"x\"; write numbers"),
            ("port=0", "`port` is \"0\"; write numbers"),
            ("hostaddr=h", "`hostaddr` is \"h\"; write IP addresses"),
            ("connect_timeout=5s", "`connect_timeout` is \"5s\"; write a number of seconds"),
            ("tcp_user_timeout=x", "`tcp_user_timeout` is \"x\""),
            ("keepalives=x", "`keepalives` is \"x\"; write 0 or 1"),
            ("keepalives_idle=x", "`keepalives_idle` is \"x\""),
            ("keepalives_interval=x", "`keepalives_interval` is \"x\""),
            ("keepalives_retries=x", "`keepalives_retries` is \"x\""),
            ("target_session_attrs=x", "`target_session_attrs` is \"x\"; write any or read-write"),
            ("channel_binding=x", "`channel_binding` is \"x\""),
            ("sslnegotiation=x", "`sslnegotiation` is \"x\"; write postgres or direct"),
            ("load_balance_hosts=x", "`load_balance_hosts` is \"x\""),
        ] {
            refused(&format!("postgres://u:s3cret@h/d?{pair}"), says);
        }
    }

    /// A parameter that is not in the table is refused, so the table must not lag behind the driver.
    #[test]
    fn every_parameter_of_the_table_is_the_drivers() {
        for (name, _) in DRIVER_PARAMETERS {
            let error = Config::from_str(&format!("{name}=x")).err().map(|error| format!("{error:?}"));
            assert!(error.is_none_or(|error| !error.contains("UnknownOption")), "{name}");
        }
    }

    #[cfg(not(feature = "_rustls"))]
    #[test]
    fn without_tls_a_url_that_asks_for_it_is_refused() {
        for parameters in ["", "?sslmode=verify-full", "?sslmode=require"] {
            refused(&format!("postgres://u:s3cret@db.example/d{parameters}"), "feature `tls-ring`");
        }
        for word in ["disable", "prefer"] {
            mode(&format!("postgres://u:s3cret@db.example/d?sslmode={word}"));
        }
    }
}
