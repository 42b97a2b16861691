use std::fmt;
use std::net::IpAddr;

use db_mutex_core::Invalid;
use db_mutex_sql_support::{Parameter, ServerUrl, invalid};

/// Where a server may be: one of the hosts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// A name, an address, or the folder of a Unix socket.
    pub(crate) host: Option<String>,
    /// Where the name leads, if the URL says so.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Place {
    /// The name or else the address.
    pub(crate) fn name(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.address.map_or_else(String::new, |address| address.to_string()))
    }

    pub(crate) fn is_socket(&self) -> bool {
        self.address.is_none() && self.host.as_deref().is_some_and(|host| host.starts_with('/'))
    }

    /// Whether no one else can listen: a Unix socket or a loopback address.
    pub(crate) fn stays_on_this_machine(&self) -> bool {
        let named = self.host.as_deref().is_none_or(|host| {
            host.starts_with('/')
                || host.eq_ignore_ascii_case("localhost")
                || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        named && self.address.is_none_or(|address| address.is_loopback())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match name.contains(':') {
            _ if self.is_socket() => f.write_str(&name),
            true => write!(f, "[{name}]:{}", self.port),
            false => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Which of several servers is taken, in the words of
/// [libpq](https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The first that lets us in.
    Any,
    /// One whose sessions accept writes.
    ReadWrite,
    /// One that is not a standby.
    Primary,
}

impl Target {
    pub(crate) fn of(parameter: &Parameter) -> Result<Self, Invalid> {
        match parameter.value.as_str() {
            "any" => Ok(Self::Any),
            "read-write" => Ok(Self::ReadWrite),
            "primary" => Ok(Self::Primary),
            "read-only" | "standby" | "prefer-standby" => {
                Err(parameter.invalid("locks need a server that accepts writes, so write read-write or primary"))
            }
            _ => Err(parameter.invalid("write read-write, primary or any")),
        }
    }
}

const HOSTS: &str = "write host names, separated by commas";

/// The hosts of a URL. As in libpq, the parameters `host` and `port` take precedence over what stands before the database, and
/// one port is for all hosts.
pub(crate) fn places(url: &ServerUrl) -> Result<Vec<Place>, Invalid> {
    let parameter = |name: &str| url.parameters.iter().find(|parameter| parameter.name == name);
    let hosts = match parameter("host") {
        Some(list) => {
            each(list, HOSTS, |host| Some(without_brackets(host).to_owned()).filter(|host| !host.is_empty()))?
        }
        None => url.hosts.iter().map(|host| host.name.clone()).collect(),
    };
    let addresses = match parameter("hostaddr") {
        Some(list) => {
            each(list, "write IP addresses, separated by commas", |address| without_brackets(address).parse().ok())?
        }
        None => Vec::new(),
    };
    let ports = match parameter("port") {
        Some(list) => each(list, "write numbers from 1 to 65535, separated by commas", port)?,
        None if url.hosts.iter().all(|host| host.port.is_none()) => Vec::new(),
        None => url.hosts.iter().map(|host| host.port.unwrap_or(DEFAULT_PORT)).collect(),
    };
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(invalid(format!("it names no host; write for example {}", crate::url::EXAMPLE)));
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        let (hosts, addresses) = (hosts.len(), addresses.len());
        return Err(invalid(format!("it has {hosts} hosts and {addresses} hostaddr; write as many of both")));
    }
    if ports.len() > 1 && ports.len() != count {
        let ports = ports.len();
        return Err(invalid(format!("it has {ports} ports for {count} hosts; write one port, or one for each host")));
    }
    let place = |number: usize| Place {
        host: hosts.get(number).cloned(),
        address: addresses.get(number).copied(),
        port: ports.get(number).or(ports.first()).copied().unwrap_or(DEFAULT_PORT),
    };
    Ok((0..count).map(place).collect())
}

const DEFAULT_PORT: u16 = 5432;

fn each<T>(list: &Parameter, advice: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Invalid> {
    list.value.split(',').map(|one| read(one).ok_or_else(|| list.invalid(advice))).collect()
}

/// As in libpq, an empty one is the default.
fn port(text: &str) -> Option<u16> {
    if text.is_empty() {
        return Some(DEFAULT_PORT);
    }
    text.parse().ok().filter(|port| *port > 0)
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As text: name, address and port of each.
    #[track_caller]
    fn read(url: &str) -> Vec<String> {
        let url = ServerUrl::parse(url, &["postgres"], "postgres://h/d").unwrap();
        let places = places(&url).unwrap();
        let text = |place: &Place| match (&place.host, place.address) {
            (Some(_), Some(address)) => format!("{place} at {address}"),
            _ => place.to_string(),
        };
        places.iter().map(text).collect()
    }

    #[track_caller]
    fn refused(url: &str, says: &str) {
        let url = ServerUrl::parse(url, &["postgres"], "postgres://h/d").unwrap();
        let message = places(&url).unwrap_err().to_string();
        assert!(message.contains(says), "{message:?} does not say {says:?}");
    }

    #[test]
    fn hosts_stand_before_the_database() {
        assert_eq!(read("postgres://u@h1:1,[::1],h3:3/d"), ["h1:1", "[::1]:5432", "h3:3"]);
        assert_eq!(read("postgres://h1,[fe80::2]:33/d"), ["h1:5432", "[fe80::2]:33"]);
        assert_eq!(read("postgres://u@%2Frun%2Fpg:33,h/d"), ["/run/pg", "h:5432"]);
    }

    #[test]
    fn parameters_take_precedence() {
        assert_eq!(read("postgres:///d?host=a,[::1],/run"), ["a:5432", "[::1]:5432", "/run"]);
        assert_eq!(read("postgres://h1:1,h2:2/d?host=a,b"), ["a:1", "b:2"]);
        assert_eq!(read("postgres://h1:1,h2:2/d?port=3"), ["h1:3", "h2:3"]);
        assert_eq!(read("postgres://h1,h2,h3/d?port=1,,3"), ["h1:1", "h2:5432", "h3:3"]);
        assert_eq!(read("postgres:///d?hostaddr=127.0.0.1,::1&port=7"), ["127.0.0.1:7", "[::1]:7"]);
        assert_eq!(read("postgres://h1,h2/d?hostaddr=10.0.0.1,::1"), ["h1:5432 at 10.0.0.1", "h2:5432 at ::1"]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        refused("postgres:///d", "names no host");
        refused("postgres://h1,h2,h3/d?port=1,2", "2 ports for 3 hosts");
        refused("postgres://h1:1,h2:2/d?host=a,b,c", "2 ports for 3 hosts");
        refused("postgres://h1,h2/d?hostaddr=127.0.0.1", "2 hosts and 1 hostaddr");
        refused("postgres:///d?host=a,,b", "separated by commas");
        for port in ["x", "0", "1,0", "65536"] {
            refused(&format!("postgres://h/d?port={port}"), "`port` is");
        }
        refused("postgres:///d?hostaddr=h", "write IP addresses");
    }

    #[test]
    fn every_word_of_libpq_is_known() {
        let target = |word: &str| {
            let url = format!("postgres://h/d?target_session_attrs={word}");
            let url = ServerUrl::parse(&url, &["postgres"], "postgres://h/d").unwrap();
            Target::of(&url.parameters[0]).map_err(|error| error.to_string())
        };
        assert_eq!(target("any"), Ok(Target::Any));
        assert_eq!(target("read-write"), Ok(Target::ReadWrite));
        assert_eq!(target("primary"), Ok(Target::Primary));
        for word in ["read-only", "standby", "prefer-standby"] {
            let refusal = target(word).unwrap_err();
            assert!(refusal.contains(word) && refusal.contains("accepts writes"), "{refusal}");
        }
        assert!(target("x").unwrap_err().contains("write read-write, primary or any"));
    }
}
