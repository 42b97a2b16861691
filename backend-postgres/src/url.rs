use std::path::PathBuf;
use std::str::FromStr;

use db_mutex_core::Invalid;
use db_mutex_sql_support::engine::{ALLOW_UNSUPPORTED_ENGINE, allows_unsupported_engine};
use db_mutex_sql_support::{Parameter, ServerAddress, ServerUrl, invalid};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use crate::places::{Place, Target, places};

pub(crate) const EXAMPLE: &str = "postgres://user:password@host/database";

/// A connection URL: what the driver understands, and the TLS modes that it does not.
#[cfg_attr(not(feature = "_rustls"), allow(dead_code, reason = "a part of it is only for TLS"))]
pub(crate) struct Url {
    /// All but the hosts.
    pub(crate) config: Config,
    /// In the order in which they are tried.
    pub(crate) places: Vec<Place>,
    /// Which of them is taken, if the URL says so.
    pub(crate) target: Option<Target>,
    pub(crate) tls: TlsMode,
    pub(crate) root_certificates: Option<PathBuf>,
    pub(crate) pooler: Pooler,
    /// The driver does not distinguish its default from a value in the URL.
    pub(crate) keepalives_idle_is_given: bool,
    pub(crate) allow_unsupported_engine: bool,
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

/// The parameters that are not passed to the driver.
const OWN_PARAMETERS: [&str; 8] =
    ["sslmode", "sslrootcert", "host", "hostaddr", "port", "target_session_attrs", "pooler", ALLOW_UNSUPPORTED_ENGINE];

/// Whether there is a pooler in front of the server that gives a connection to others between transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// To be found out.
    Auto,
    Yes,
    /// It is an error if there is one.
    No,
}

const SECONDS: &str = "write a number of seconds";

/// The parameters that the driver reads, and what to write instead of an invalid value.
const DRIVER_PARAMETERS: &[(&str, &str)] = &[
    ("user", "write a name"),
    ("password", "write a password"),
    ("dbname", "write a name"),
    ("application_name", "write a name"),
    ("options", "write command-line options for the server"),
    ("connect_timeout", SECONDS),
    ("tcp_user_timeout", SECONDS),
    ("keepalives", "write 0 or 1"),
    ("keepalives_idle", SECONDS),
    ("keepalives_interval", SECONDS),
    ("keepalives_retries", "write a number"),
    ("channel_binding", "write disable, prefer or require"),
    ("sslnegotiation", "write postgres or direct"),
    ("load_balance_hosts", "write disable or random"),
];

impl Url {
    /// Parses a URL. No error contains a password.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let url = ServerUrl::parse(text, &["postgres", "postgresql"], EXAMPLE)?;
        let (mut mode, mut root_certificates, mut of_the_system, mut target) = (None, None, false, None);
        let (mut driver_parameters, mut allow_unsupported_engine, mut pooler) = (Vec::new(), false, Pooler::Auto);
        for parameter in &url.parameters {
            match parameter.name.as_str() {
                "sslmode" => mode = Some(TlsMode::of(parameter)?),
                "pooler" => pooler = Pooler::of(parameter)?,
                "sslrootcert" if parameter.value == "system" => of_the_system = true,
                "sslrootcert" if parameter.value.is_empty() => {
                    return Err(parameter.invalid("write the path of a PEM file, or system"));
                }
                "sslrootcert" => root_certificates = Some(PathBuf::from(&parameter.value)),
                "sslcert" | "sslkey" | "sslcrl" | "sslpassword" => {
                    return Err(parameter.conflict("is not supported; connect a pool of your own with it"));
                }
                ALLOW_UNSUPPORTED_ENGINE => allow_unsupported_engine = allows_unsupported_engine(parameter)?,
                "target_session_attrs" => target = Some(Target::of(parameter)?),
                "host" | "hostaddr" | "port" => {}
                _ => driver_parameters.push(conninfo(parameter)?),
            }
        }
        let places = places(&url)?;
        // Each was accepted alone.
        let mut config =
            Config::from_str(&driver_parameters.join(" ")).map_err(|_| invalid("its parameters conflict"))?;
        add_login(&mut config, &url);
        // The driver's default is the name of the user: two users would have different locks.
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(invalid(format!("it names no database; write for example {EXAMPLE}")));
        }
        let names_an_authority = root_certificates.is_some() || of_the_system;
        let tls = match mode {
            // A named authority is meant to be asked. As libpq does it; except that libpq refuses `system` here, whose
            // authorities certify anyone, and takes an authority alone for `prefer`, which verifies nothing.
            Some(TlsMode::Require) if of_the_system => TlsMode::VerifyFull,
            Some(TlsMode::Require) if names_an_authority => TlsMode::VerifyCa,
            Some(mode) => mode,
            None if places.iter().all(Place::stays_on_this_machine) && !names_an_authority => TlsMode::Prefer,
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
        Ok(Self {
            config,
            places,
            target,
            tls,
            root_certificates,
            pooler,
            keepalives_idle_is_given,
            allow_unsupported_engine,
        })
    }

    /// Where the URL leads.
    pub(crate) fn address(&self) -> ServerAddress {
        let config = &self.config;
        let hosts = self.places.iter().map(|place| (place.name(), place.port)).collect();
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

impl Pooler {
    fn of(parameter: &Parameter) -> Result<Self, Invalid> {
        match parameter.value.as_str() {
            "auto" => Ok(Self::Auto),
            "yes" => Ok(Self::Yes),
            "no" => Ok(Self::No),
            _ => Err(parameter.invalid("write auto, yes or no")),
        }
    }
}

/// Checks a parameter and returns it in the form `name='value'`, which the driver reads too.
fn conninfo(parameter: &Parameter) -> Result<String, Invalid> {
    let known = DRIVER_PARAMETERS.iter().find(|(name, _)| *name == parameter.name);
    let Some((name, advice)) = known else {
        let of_the_driver = DRIVER_PARAMETERS.iter().map(|(name, _)| *name);
        return Err(parameter.unknown(OWN_PARAMETERS.into_iter().chain(of_the_driver)));
    };
    let pair = format!("{name}='{}'", parameter.value.replace('\\', r"\\").replace('\'', r"\'"));
    match Config::from_str(&pair) {
        Ok(_) => Ok(pair),
        Err(_) => Err(parameter.invalid(advice)),
    }
}

/// Adds what stands before the parameters. As in libpq, a parameter of the same meaning takes precedence.
fn add_login(config: &mut Config, url: &ServerUrl) {
    if let (None, Some(user)) = (config.get_user(), &url.user) {
        config.user(user);
    }
    if let (None, Some(password)) = (config.get_password(), &url.password) {
        config.password(password);
    }
    if let (None, Some(database)) = (config.get_dbname(), &url.database) {
        config.dbname(database);
    }
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
    fn whether_there_is_a_pooler_may_be_said() {
        let pooler = |url: &str| Url::parse(url).map(|url| url.pooler).unwrap();
        assert_eq!(pooler("postgres://u@localhost/d"), Pooler::Auto);
        for (word, meaning) in [("auto", Pooler::Auto), ("yes", Pooler::Yes), ("no", Pooler::No)] {
            assert_eq!(pooler(&format!("postgres://u@localhost/d?pooler={word}")), meaning);
        }
    }

    #[test]
    fn what_the_driver_is_told() {
        let config =
            config("PostgreSQL://a%40b:p%27%5C%25w@h1:1,[::1],h3:3/d%2Fb?application_name=it%27s%5C&connect_timeout=3");
        assert_eq!(config.get_user(), Some("a@b"));
        assert_eq!(config.get_password(), Some(&br"p'\%w"[..]));
        assert!(config.get_hosts().is_empty() && config.get_ports().is_empty(), "each attempt has one");
        assert_eq!(config.get_dbname(), Some("d/b"));
        assert_eq!(config.get_application_name(), Some(r"it's\"));
        assert_eq!(config.get_connect_timeout(), Some(&std::time::Duration::from_secs(3)));
    }

    #[test]
    fn a_database_may_be_a_parameter() {
        assert_eq!(config("postgres://h/d?dbname=other").get_dbname(), Some("other"));
    }

    #[test]
    fn the_target_is_read() {
        let target = |url: &str| Url::parse(url).map(|url| url.target).unwrap();
        assert_eq!(target("postgres://h1,h2/d"), None);
        assert_eq!(target("postgres://h1,h2/d?target_session_attrs=primary"), Some(Target::Primary));
    }

    #[test]
    fn the_address_names_all_hosts() {
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
        refused("postgres://h1,h2,h3/d?port=1,2", "2 ports for 3 hosts");
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
            ("pooler=transaction", "`pooler` is \"transaction\"; write auto, yes or no"),
            ("pooler=", "`pooler` is \"\"; write auto, yes or no"),
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
            ("target_session_attrs=x", "`target_session_attrs` is \"x\"; write read-write, primary or any"),
            ("target_session_attrs=standby", "`target_session_attrs` is \"standby\"; locks need a server"),
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
