use std::fmt;

/// The server, the database and the user that a URL names, without its password.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerAddress {
    /// `postgres` or `mysql`.
    pub scheme: &'static str,
    /// The hosts with their ports, in the order in which they are tried: names, addresses, or paths of Unix sockets.
    pub hosts: Vec<(String, u16)>,
    /// The database.
    pub database: String,
    /// The user, unless the URL leaves it to the driver's default.
    pub user: Option<String>,
    /// Whether the URL has a password.
    pub has_password: bool,
}

impl ServerAddress {
    /// An address without a user and without a password.
    #[must_use]
    pub fn new(scheme: &'static str, hosts: Vec<(String, u16)>, database: impl Into<String>) -> Self {
        Self { scheme, hosts, database: database.into(), user: None, has_password: false }
    }
}

/// As a URL, `scheme://host:port/database`, without user and password.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        for (number, (host, port)) in self.hosts.iter().enumerate() {
            let separator = if number > 0 { "," } else { "" };
            write!(f, "{separator}{}", shown(host, *port))?;
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A host as in a URL: `host:port`, an IPv6 address in brackets, the path of a Unix socket alone.
#[must_use]
pub fn shown(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false if host.starts_with('/') => host.to_owned(),
        false => format!("{host}:{port}"),
    }
}

/// A password. `Debug` does not show it.
#[derive(Clone)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_the_login() {
        let hosts = vec![("db.example".into(), 5432), ("::1".into(), 5433), ("/run/pg".into(), 5432)];
        let mut address = ServerAddress::new("postgres", hosts, "app");
        address.user = Some("s3cret".into());
        assert_eq!(address.to_string(), "postgres://db.example:5432,[::1]:5433,/run/pg/app");
        assert!(!format!("{address:?}{:?}", Password("s3cret".into())).contains("s3cret"));
    }
}
