//! Passwords that are not in the URL: from where the clients of PostgreSQL and MySQL look for them.
//!
//! PostgreSQL: `PGPASSWORD`, then the file `PGPASSFILE` or `~/.pgpass`, as
//! [libpq](https://www.postgresql.org/docs/current/libpq-pgpass.html) reads it. MySQL and MariaDB: `MYSQL_PWD`.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use db_mutex::ServerAddress;
use nix::unistd::{User, geteuid};

use crate::print;

/// The password for a server whose URL has none, if there is one.
pub(crate) fn password_for(address: &ServerAddress) -> Option<String> {
    if address.has_password {
        return None;
    }
    match address.scheme {
        "postgres" => variable("PGPASSWORD").or_else(|| from_file(&password_file()?, address)),
        _ => variable("MYSQL_PWD"),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn password_file() -> Option<PathBuf> {
    if let Some(file) = env::var_os("PGPASSFILE").filter(|file| !file.is_empty()) {
        return Some(file.into());
    }
    let home = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = home.or_else(|| User::from_uid(geteuid()).ok().flatten().map(|user| user.dir))?;
    Some(home.join(".pgpass"))
}

fn from_file(file: &Path, address: &ServerAddress) -> Option<String> {
    let metadata = fs::metadata(file).ok()?;
    if !metadata.is_file() {
        print::note(&format!("the password file {file:?} is ignored: it is not a plain file"));
        return None;
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        print::note(&format!("the password file {file:?} is ignored: others can read it; run chmod 0600 on it"));
        return None;
    }
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) => {
            print::note(&format!("the password file {file:?} is ignored: {error}"));
            return None;
        }
    };
    // The driver's default.
    let user = address.user.clone().or_else(|| User::from_uid(geteuid()).ok().flatten().map(|user| user.name));
    find(&String::from_utf8_lossy(&text), address, &user.unwrap_or_default())
}

/// The password of the first line that matches. The driver has one for all hosts, and no host must get another's.
fn find(text: &str, address: &ServerAddress, user: &str) -> Option<String> {
    let of_host = |(host, port): &(String, u16)| {
        let host = if is_default_socket(host) { "localhost" } else { host };
        let wanted = [host, &port.to_string(), &address.database, user];
        text.lines().find_map(|line| password_in(line, &wanted)).filter(|password| !password.is_empty())
    };
    let passwords: Vec<_> = address.hosts.iter().map(of_host).collect();
    let first = passwords.first().cloned().flatten();
    first.filter(|first| passwords.iter().all(|other| other.as_ref() == Some(first)))
}

fn is_default_socket(host: &str) -> bool {
    ["/var/run/postgresql", "/run/postgresql", "/tmp"].contains(&host)
}

/// The password in a line `host:port:database:user:password`, if the first four match. `\` takes the special meaning from
/// a `:` or `\` that follows.
fn password_in(line: &str, wanted: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let (raw, field, after) = split_field(rest)?;
        if raw != "*" && field != *wanted {
            return None;
        }
        rest = after;
    }
    Some(unescaped(rest))
}

/// The first field as it is written, what it means, and what follows its `:`.
fn split_field(text: &str) -> Option<(&str, String, &str)> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((&text[..at], unescaped(&text[..at]), &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut letters = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(letter) = letters.next() {
        plain.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(hosts: &[(&str, u16)]) -> ServerAddress {
        ServerAddress::new("postgres", hosts.iter().map(|(host, port)| ((*host).into(), *port)).collect(), "app")
    }

    fn password(text: &str) -> Option<String> {
        find(text, &address(&[("db.example", 5432)]), "ann")
    }

    #[track_caller]
    fn assert_found(text: &str, expected: Option<&str>) {
        assert_eq!(password(text).as_deref(), expected, "{text}");
    }

    #[test]
    fn all_four_fields_have_to_match() {
        assert_found("db.example:5432:app:ann:s3cret", Some("s3cret"));
        for other in ["db.other:5432:app:ann:x", "db.example:1:app:ann:x", "db.example:5432:other:ann:x"] {
            assert_found(other, None);
        }
        assert_found("db.example:5432:app:bob:x", None);
        assert_found("DB.example:5432:app:ann:x", None);
    }

    #[test]
    fn a_star_matches_all_and_the_first_line_counts() {
        assert_found("*:*:*:*:s3cret", Some("s3cret"));
        assert_found("*:*:other:*:x\n*:*:app:*:one\n*:*:*:*:two\n", Some("one"));
        assert_found(r"\*:*:*:*:x", None);
        assert_found("*x:*:*:*:x", None);
    }

    #[test]
    fn a_backslash_takes_the_meaning_away() {
        assert_found(r"*:*:*:*:a\:b\\c\d", Some(r"a:b\cd"));
        assert_found("*:*:*:*:a:b", Some("a:b"));
        let six = address(&[("::1", 33)]);
        assert_eq!(find(r"\:\:1:33:app:ann:six", &six, "ann").as_deref(), Some("six"));
        assert_eq!(find("::1:33:app:ann:six", &six, "ann"), None);
    }

    #[test]
    fn comments_and_broken_lines_are_skipped() {
        assert_found("# *:*:*:*:x\n\n*:*:*\nnonsense\n*:*:*:*:s3cret\r\n", Some("s3cret"));
        assert_found("*:*:*:*:", None);
        assert_found("", None);
    }

    #[test]
    fn a_socket_in_the_usual_folder_is_localhost() {
        let socket = address(&[("/run/postgresql", 5432)]);
        assert_eq!(find("localhost:5432:app:ann:s3cret", &socket, "ann").as_deref(), Some("s3cret"));
    }

    #[test]
    fn no_host_gets_the_password_of_another() {
        let two = address(&[("one", 5432), ("two", 5432)]);
        assert_eq!(find("one:*:*:*:s3cret\ntwo:*:*:*:other", &two, "ann"), None);
        assert_eq!(find("one:*:*:*:s3cret", &two, "ann"), None);
        assert_eq!(find("*:*:*:*:s3cret", &two, "ann").as_deref(), Some("s3cret"));
    }
}
