//! Which database, and how to reach it.

use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use db_mutex::{Connector, DbMutex};

use crate::args::Cli;
use crate::exit::{FAILED, Failure, USAGE};

/// What a command wants to do with the database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It may create the SQLite file or the table.
    Lock,
    /// What is not there is most likely a path that is wrong.
    Look,
}

/// The database that the command line names, not yet connected.
pub(crate) fn connector(cli: &Cli, purpose: Purpose) -> Result<Connector, Failure> {
    let (url, create) = match &cli.url {
        Some(url) if url.is_empty() => {
            return Err(Failure::new(USAGE, "the database url is empty; leave it out for the default"));
        }
        Some(url) => (url.clone(), purpose == Purpose::Lock),
        None => (default_url()?, true),
    };
    Ok(Connector::new(&url)?.table(cli.table.clone()).create_if_missing(create))
}

pub(crate) async fn mutex(cli: &Cli, purpose: Purpose) -> Result<DbMutex, Failure> {
    Ok(connector(cli, purpose)?.connect().await?)
}

/// A file in the user's state folder, so that two crontab lines find each other from any directory.
fn default_url() -> Result<String, Failure> {
    let folder = state_folder()
        .ok_or_else(|| {
            Failure::new(USAGE, "neither XDG_STATE_HOME nor HOME is set; say where with --url sqlite:/path/locks.db")
        })?
        .join("db-mutex");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| {
        Failure::new(
            FAILED,
            format!("cannot create the folder {folder:?} for locks: {error}; say where with --url sqlite:/path"),
        )
    })?;
    match folder.join("locks.db").to_str() {
        Some(path) => Ok(format!("sqlite:{path}")),
        None => {
            Err(Failure::new(USAGE, "the state folder's path is not UTF-8; say where with --url sqlite:/path/locks.db"))
        }
    }
}

/// As the [XDG base directories](https://specifications.freedesktop.org/basedir-spec/latest/) have it: a relative path
/// does not count.
fn state_folder() -> Option<PathBuf> {
    let absolute = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
}
