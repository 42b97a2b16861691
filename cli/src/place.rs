//! Where the locks are: the URL, or the default file.

use std::env;
use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use db_mutex::{Connector, TableName};
use nix::unistd::{User, geteuid};

use crate::args::Cli;
use crate::exit::{FAILED, Failure, USAGE};
use crate::held::{self, Origin};
use crate::secrets;

const URL: &str = "DB_MUTEX_URL";
const URL_FILE: &str = "DB_MUTEX_URL_FILE";

/// The database of the locks, not yet connected.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) connector: Connector,
    pub(crate) origin: Origin,
    pub(crate) table: TableName,
}

impl Place {
    /// The place that the command line names, or the environment, or the default file; in this order.
    pub(crate) fn of(cli: &Cli) -> Result<Self, Failure> {
        let (url, origin) = match named_url(cli)? {
            Some(named) => named,
            None => (default_url()?, Origin::Default),
        };
        let connector = Connector::new(&url)?.table(cli.table.clone());
        Ok(Self { connector, origin, table: cli.table.clone() })
    }

    /// Refuses a database that other processes cannot see.
    pub(crate) fn refuse_memory(&self) -> Result<(), Failure> {
        if self.connector.path() == Some(Path::new(":memory:")) {
            let message = "sqlite::memory: is a database of one process, so it excludes no one; name a file";
            return Err(Failure::new(USAGE, message));
        }
        Ok(())
    }

    /// Adds a missing password, from where the database's own clients look for it.
    pub(crate) fn with_password(mut self) -> Self {
        if let Some(password) = self.connector.address().and_then(|address| secrets::password_for(&address)) {
            self.connector = self.connector.password_if_missing(password);
        }
        self
    }

    /// Whether it is the default file, and does not exist: then no lock was ever acquired in it.
    pub(crate) fn is_untouched_default(&self) -> bool {
        self.origin == Origin::Default && self.connector.path().is_some_and(|path| !path.exists())
    }

    /// Creates the folder of the default file. No other user needs to enter it.
    pub(crate) fn create_default_folder(&self) -> Result<(), Failure> {
        let (Origin::Default, Some(file)) = (self.origin, self.connector.path()) else { return Ok(()) };
        let folder = file.parent().unwrap_or(file);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            let what = format!("cannot create the folder of the default lock file {file:?}: {error}; {OTHER_PLACE}");
            Failure::new(USAGE, what)
        })
    }

    /// Where it is, for people: never with a password.
    pub(crate) fn shown(&self) -> String {
        let place = match (self.connector.address(), self.connector.path()) {
            (Some(address), _) => address.to_string(),
            (None, path) => {
                let path = path.unwrap_or(Path::new(""));
                format!(
                    "{:?}",
                    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.into())
                )
            }
        };
        match self.table == TableName::default() {
            true => place,
            false => format!("{place}, table {}", self.table),
        }
    }
}

/// The URL that is named somewhere, and where.
fn named_url(cli: &Cli) -> Result<Option<(String, Origin)>, Failure> {
    if let Some(url) = &cli.url {
        return not_empty(url.clone(), "--url").map(|url| Some((url, Origin::Argument)));
    }
    if let Some(file) = &cli.url_file {
        return url_in(file, "--url-file").map(|url| Some((url, Origin::File)));
    }
    match (env::var_os(URL), env::var_os(URL_FILE)) {
        (Some(_), Some(_)) => {
            let message = format!("{URL} and {URL_FILE} are both set; unset one, or name the database with --url");
            Err(Failure::new(USAGE, message))
        }
        (Some(url), None) => match url.into_string() {
            Ok(url) => not_empty(url, URL).map(|url| Some((url, Origin::Environment))),
            Err(_) => Err(Failure::new(USAGE, format!("{URL} is not UTF-8; write special characters as %xx"))),
        },
        (None, Some(file)) => url_in(Path::new(&file), URL_FILE).map(|url| Some((url, Origin::Environment))),
        (None, None) => held::refuse_another_place().map(|()| None),
    }
}

fn not_empty(url: String, source: &str) -> Result<String, Failure> {
    if url.is_empty() {
        let message = format!("the database url is empty ({source}); name one, or leave it out for the default file");
        return Err(Failure::new(USAGE, message));
    }
    Ok(url)
}

/// The first line of a file, as systemd's credentials and Docker's secrets are written.
fn url_in(file: &Path, source: &str) -> Result<String, Failure> {
    const LONGEST: u64 = 64 * 1024;
    let mut line = Vec::new();
    let mut read = || BufReader::new(File::open(file)?.take(LONGEST)).read_until(b'\n', &mut line);
    read().map_err(|error| Failure::new(FAILED, format!("cannot read the file {file:?} of {source}: {error}")))?;
    let line = String::from_utf8(line)
        .map_err(|_| Failure::new(USAGE, format!("the file {file:?} of {source} is not UTF-8")))?;
    let url = line.trim_end_matches(['\r', '\n']);
    if url.is_empty() {
        let message = format!("the first line of the file {file:?} of {source} is empty; write the url there");
        return Err(Failure::new(USAGE, message));
    }
    Ok(url.to_owned())
}

const OTHER_PLACE: &str = "name another with --url sqlite:/path/locks.db";

/// A file in the user's state folder, so that all processes of this user share it, from any directory, shell or timer. It
/// does not depend on `HOME` or `XDG_STATE_HOME`, which a shell sets and cron does not.
fn default_url() -> Result<String, Failure> {
    let uid = geteuid();
    let home = match User::from_uid(uid) {
        Ok(Some(user)) if user.dir.is_absolute() => user.dir,
        Ok(_) => {
            let message = format!(
                "there is no default lock file: user {uid} has no home in the password database; \
                 say where with --url sqlite:/path/locks.db"
            );
            return Err(Failure::new(USAGE, message));
        }
        Err(error) => {
            let message = format!(
                "there is no default lock file: cannot read user {uid} in the password database: {error}; \
                 say where with --url sqlite:/path/locks.db"
            );
            return Err(Failure::new(USAGE, message));
        }
    };
    let file: PathBuf = home.join(".local/state/db-mutex/locks.db");
    match file.to_str() {
        Some(path) => Ok(format!("sqlite:{path}")),
        None => {
            Err(Failure::new(USAGE, format!("the path of the default lock file {file:?} is not UTF-8; {OTHER_PLACE}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_url_in_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        for (text, url) in
            [("sqlite:a.db", "sqlite:a.db"), ("sqlite:a.db\n", "sqlite:a.db"), ("sqlite:a\r\nmore\n", "sqlite:a")]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(url_in(&file, "--url-file").unwrap(), url);
        }
        for text in [&b""[..], b"\nsqlite:a.db\n", b"\xff\n"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(url_in(&file, "--url-file").unwrap_err().code, USAGE);
        }
        assert_eq!(url_in(folder.path(), "--url-file").unwrap_err().code, FAILED);
    }
}
