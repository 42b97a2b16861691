use std::fmt;
use std::net::Ipv6Addr;

use db_mutex_core::Invalid;

use crate::invalid;
use crate::parameter::{Parameter, ambiguous, shortened};
use crate::percent::decode;

/// The URL of a database server, `scheme://user:password@host:port/database?name=value&…`, split and decoded.
///
/// Special characters are written as `%xx`. A password may contain most of them as they are, but no `/`.
#[derive(Clone, Default)]
pub struct ServerUrl {
    /// The user, if there is one before the `@`.
    pub user: Option<String>,
    /// The password, if there is one.
    pub password: Option<String>,
    /// The hosts, separated by commas in the URL.
    pub hosts: Vec<Host>,
    /// The database, unless it is empty.
    pub database: Option<String>,
    /// What follows the `?`, in order, each name once.
    pub parameters: Vec<Parameter>,
}

/// A host in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A name, an address (an IPv6 address without its brackets), or the folder of a Unix socket.
    pub name: String,
    /// The port, if there is one.
    pub port: Option<u16>,
}

impl ServerUrl {
    /// Splits a URL. `schemes` are in lower case; `example` is a URL that shows the form.
    ///
    /// # Errors
    /// [`Invalid::Url`], which names the part that is wrong. It never contains a password, nor anything that could be a
    /// part of one that was written without `%xx`.
    pub fn parse(url: &str, schemes: &[&str], example: &str) -> Result<Self, Invalid> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| invalid(format!("it has no `://`; write for example {example}")))?;
        if !schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(invalid(format!("its scheme is unknown; write for example {example}")));
        }
        if url.chars().any(char::is_control) {
            return Err(invalid(
                "it contains a control character, such as a line break; remove it, or write it as %xx",
            ));
        }
        let (login, rest) = split_login(rest);
        let parsed = Self::parse_place(rest, login.is_some()).and_then(|parsed| parsed.with_login(login));
        // With an `@` further on, what follows the host may be the rest of a password, of which nothing must be shown.
        let may_be_secret = after_host(rest).contains('@');
        let mut url = match parsed {
            Err(_) if may_be_secret => return Err(ambiguous()),
            parsed => parsed?,
        };
        let password = url.password.clone().unwrap_or_default();
        let has_password = |text: &str| {
            let (longer, shorter) = if text.len() > password.len() { (text, &*password) } else { (&*password, text) };
            shorter.len() > 3 && longer.contains(shorter)
        };
        for parameter in &mut url.parameters {
            parameter.may_be_secret = may_be_secret || has_password(&parameter.name);
            parameter.value_is_secret = has_password(&parameter.value);
        }
        Ok(url)
    }

    fn parse_place(rest: &str, has_login: bool) -> Result<Self, Invalid> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        if database.contains('/') {
            return Err(invalid("its database contains a `/`; remove it, or write %2F"));
        }
        let database = decode("the database", database)?;
        let mut url = Self { database: Some(database).filter(|name| !name.is_empty()), ..Self::default() };
        if !hosts.is_empty() {
            url.hosts = hosts.split(',').map(|host| parse_host(host, has_login)).collect::<Result<_, _>>()?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let parameter = parse_parameter(pair)?;
            if url.parameters.iter().any(|other| other.name.eq_ignore_ascii_case(&parameter.name)) {
                return Err(parameter.conflict("is given twice; write it once"));
            }
            url.parameters.push(parameter);
        }
        Ok(url)
    }

    fn with_login(mut self, login: Option<&str>) -> Result<Self, Invalid> {
        let Some(login) = login else { return Ok(self) };
        let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        self.user = Some(decode("the user", user)?).filter(|user| !user.is_empty());
        self.password = password.map(|password| decode("the password", password)).transpose()?;
        Ok(self)
    }
}

/// It has a password in it.
impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerUrl")
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// The user and password, and the rest.
fn split_login(rest: &str) -> (Option<&str>, &str) {
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let at = authority.rfind('@').or_else(|| {
        // As in libpq, a password may contain a `?`, but not a `/`.
        rest[..rest.find('/').unwrap_or(rest.len())].find('@')
    });
    at.map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]))
}

fn after_host(rest: &str) -> &str {
    &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
}

fn parse_host(text: &str, has_login: bool) -> Result<Host, Invalid> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(|| invalid("its host has a `[` without a `]`"))?;
            let address = decode("the host", address)?;
            // `fe80::1%eth0` has the name of a network interface.
            let (digits, _) = address.split_once('%').unwrap_or((&address, ""));
            if digits.parse::<Ipv6Addr>().is_err() {
                return Err(invalid("its host in brackets is not an IPv6 address; write for example [::1]"));
            }
            let port = match port.strip_prefix(':') {
                None if port.is_empty() => None,
                Some(port) => Some(port),
                None => return Err(invalid("its host has something other than a port after the `]`")),
            };
            (address, port)
        }
        None => {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            if port.is_some_and(|port| port.contains(':')) {
                return Err(invalid(
                    "its host contains more than one `:`; write an IPv6 address in brackets, as [::1]",
                ));
            }
            let name = decode("the host", name)?;
            if name.is_empty() {
                return Err(invalid("it has an empty host; write for example localhost"));
            }
            if name.contains(char::is_whitespace) {
                return Err(invalid("its host contains a space; remove it"));
            }
            (name, port)
        }
    };
    Ok(Host { name, port: port.map(|port| parse_port(port, has_login)).transpose()? })
}

fn parse_port(text: &str, has_login: bool) -> Result<u16, Invalid> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        // `user:password` without a host looks like a host with a port.
        _ if !has_login => Err(invalid("its port is invalid; write a number from 1 to 65535")),
        _ => Err(invalid(format!("its port is {}; write a number from 1 to 65535", shortened(text)))),
    }
}

fn parse_parameter(pair: &str) -> Result<Parameter, Invalid> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let name = decode("the name of a parameter", name)?;
    let is_name = !name.is_empty()
        && name.len() <= 40
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
    if !is_name {
        return Err(invalid("one of its parameters has no valid name; write name=value, with & between them"));
    }
    if !pair.contains('=') {
        return Err(invalid(format!("parameter `{name}` has no value; write {name}=value")));
    }
    let value = decode(&format!("parameter `{name}`"), value)?;
    Ok(Parameter { name, value, may_be_secret: false, value_is_secret: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> ServerUrl {
        ServerUrl::parse(url, &["db"], "db://host/database").unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[track_caller]
    fn refused(url: &str, says: &str) {
        let message = ServerUrl::parse(url, &["db"], "db://host/database").unwrap_err().to_string();
        assert!(message.contains(says), "{url} is refused with {message:?}, which does not say {says:?}");
        assert!(!message.contains("s3cret"), "{message}");
    }

    fn host(name: &str, port: Option<u16>) -> Host {
        Host { name: name.into(), port }
    }

    #[test]
    fn the_parts_are_told_apart() {
        let url = parse("DB://ann%40b:p%2Fw%40d@db.example:33/my%20db?one=1&two=%26x=y");
        assert_eq!(url.user.as_deref(), Some("ann@b"));
        assert_eq!(url.password.as_deref(), Some("p/w@d"));
        assert_eq!(url.hosts, [host("db.example", Some(33))]);
        assert_eq!(url.database.as_deref(), Some("my db"));
        let parameters: Vec<_> = url.parameters.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect();
        assert_eq!(parameters, [("one", "1"), ("two", "&x=y")]);
    }

    #[test]
    fn parts_may_be_missing() {
        let url = parse("db:///?x=1");
        assert_eq!((url.user, url.password, url.hosts.len(), url.database), (None, None, 0, None));
        assert_eq!(parse("db://ann@h/d").password, None);
        assert_eq!(parse("db://ann:@h/d").password.as_deref(), Some(""));
        assert_eq!(parse("db://h?x=1").parameters.len(), 1);
        assert_eq!(parse("db://h/d?").parameters.len(), 0);
    }

    #[test]
    fn ipv6_addresses_lose_their_brackets() {
        assert_eq!(parse("db://u@[::1]:33/d").hosts, [host("::1", Some(33))]);
        assert_eq!(parse("db://[2001:db8::1]/d").hosts, [host("2001:db8::1", None)]);
        assert_eq!(parse("db://u@[fe80::1%25eth0],h2:34/d").hosts, [host("fe80::1%eth0", None), host("h2", Some(34))]);
        refused("db://u:s3cret@[::1/d", "without a `]`");
        refused("db://u:s3cret@[::x]/d", "not an IPv6 address");
        refused("db://u:s3cret@[::1]33/d", "after the `]`");
        refused("db://u:s3cret@::1/d", "in brackets");
    }

    #[test]
    fn passwords_may_contain_most_characters_as_they_are() {
        for password in ["a?b", "a@b", "a:b", "a#b", "a&b=c", "a[b]", "ü"] {
            let url = parse(&format!("db://u:{password}@h:33/d?x=1"));
            assert_eq!(url.password.as_deref(), Some(password));
            assert_eq!(url.hosts, [host("h", Some(33))]);
        }
    }

    #[test]
    fn schemes_are_checked() {
        refused("db:u:s3cret@h/d", "`://`");
        refused("redis://u:s3cret@h/d", "scheme is unknown");
        refused("s3cret://h/d", "scheme is unknown");
    }

    #[test]
    fn bad_hosts_are_named() {
        refused("db://u:s3cret@:33/d", "empty host");
        refused("db://u:s3cret@a,,b/d", "empty host");
        refused("db://u:s3cret@a b/d", "space");
        refused("db://u:s3cret@%zz/d", "the host");
    }

    #[test]
    fn bad_ports_are_named() {
        for port in ["port", "0", "65536", "-1", "+1", "", "33x"] {
            refused(&format!("db://u:s3cret@h:{port}/d"), &format!("port is {port:?}"));
        }
        // Here it may be a password.
        refused("db://u:s3cret/d", "port is invalid");
    }

    #[test]
    fn bad_databases_are_named() {
        refused("db://u:s3cret@h/a/b", "database contains a `/`");
        refused("db://u:s3cret@h/%", "the database");
    }

    #[test]
    fn bad_parameters_are_named() {
        refused("db://u:s3cret@h/d?x", "parameter `x` has no value");
        refused("db://u:s3cret@h/d?x=%z", "parameter `x` has a `%`");
        refused("db://u:s3cret@h/d?x=1&y=2&x=s3cret", "parameter `x` is given twice");
        refused("db://u:s3cret@h/d?=s3cret", "no valid name");
        refused("db://u:s3cret@h/d?a b=s3cret", "no valid name");
    }

    #[test]
    fn bad_encodings_of_the_login_are_named() {
        refused("db://s3cret%@h/d", "the user");
        refused("db://u:s3cret%4@h/d", "the password");
    }

    #[test]
    fn control_characters_are_refused() {
        refused("db://u:s3cret@h/d\n", "control character");
    }

    #[test]
    fn parts_of_a_password_are_not_taken_for_parameters() {
        refused("db://u:p/s3cret@h/d", "%40");
        refused("db://u:p/s3cret=1@h/d?x", "%40");
        refused("db://u:s3cret/p?x=%@h/d", "%40");
        let url = parse("db://u:p@s?s3cret=1@h/d");
        for error in [url.parameters[0].unknown(["x"]), url.parameters[0].invalid("x"), url.parameters[0].conflict("x")]
        {
            assert!(error.to_string().contains("%40") && !error.to_string().contains("s3cret"), "{error}");
        }
        assert_eq!(parse("db://u@h/d?x=a@b").parameters[0].value, "a@b");
    }

    #[test]
    fn the_password_or_a_part_of_it_is_not_shown_in_another_place() {
        let url = parse("db://u:s3cret@h/d?mode=as3cret&as3cret=1&x=maybe");
        assert!(url.parameters[0].invalid("write on").to_string().contains("`mode` has an invalid value; write on"));
        assert!(!url.parameters[1].unknown(["x"]).to_string().contains("s3cret"));
        let part = parse("db://u:a-s3cret-b@h/d?mode=s3cret").parameters[0].invalid("write on").to_string();
        assert!(part.contains("`mode` has an invalid value"), "{part}");
        assert!(url.parameters[2].invalid("write on").to_string().contains("maybe"));
        assert!(parse("db://u:a@h/d?x=maybe").parameters[0].invalid("write on").to_string().contains("maybe"));
    }

    #[test]
    fn debug_shows_no_password() {
        let shown = format!("{:?}", parse("db://u:s3cret@h/d?x=s3cret"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
