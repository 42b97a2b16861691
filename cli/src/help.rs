//! What the help and the manual pages say beyond the options.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::Cli;
use crate::exit::{FAILED, Failure, USAGE};
use crate::print;

pub(crate) const DATABASE: &str = "Database";
pub(crate) const LOCK: &str = "Lock";
pub(crate) const COMMAND: &str = "Command";
pub(crate) const HELD: &str = "When the lock is held";
pub(crate) const LOST: &str = "When the lock is lost";
pub(crate) const ENDS: &str = "When the command ends";

pub(crate) const MAIN: &str = "\
The database is the one of --url or --url-file, else of DB_MUTEX_URL or DB_MUTEX_URL_FILE, else the
SQLite file ~/.local/state/db-mutex/locks.db in the user's home (from the password database, not
from HOME). If the URL of a server has no password, it is taken from PGPASSWORD, PGPASSFILE or
~/.pgpass for PostgreSQL, and from MYSQL_PWD for MySQL and MariaDB.

Durations: 500ms, 90s, 30m, 2h, 1h30m.

Examples:
  db-mutex run nightly-report -- make-report --all
  db-mutex list
  db-mutex show nightly-report";

pub(crate) const RUN: &str = "\
Exit codes:
  the command's own, or death by the signal that ended the command
  75   the lock is held, or was not free within --wait (-E changes it)
  0    the lock is held, with --on-held skip
  124  the lock was lost while the command ran; the command was terminated
  125  db-mutex itself failed, for example because the database is unreachable
  126  the command could not be executed
  127  the command was not found
  64   usage: an invalid option, name or URL

Environment of the command: DB_MUTEX_NAME, DB_MUTEX_FENCE, DB_MUTEX_OWNER, DB_MUTEX_EXPIRES_AT, and
DB_MUTEX_HELD, which lists the locks that it runs under. DB_MUTEX_URL is passed on unchanged.

Examples:
  An hourly job that is skipped while the previous run is still working:
    db-mutex run hourly-import --on-held skip -- /usr/local/bin/import
  A pipeline that waits up to an hour for its lock, which stays held for two minutes after a crash:
    db-mutex run backup --ttl 2m --wait 1h -c 'dump | gzip > backup.gz'";

pub(crate) const LIST: &str = "\
Exit codes: 0; 125 if the database cannot be read; 64 for a usage error.
Only needs the right to read.";

pub(crate) const SHOW: &str = "\
Exit codes: 0; 1 if the lock is not known; 125 if the database cannot be read; 64 for a usage error.
Only needs the right to read.";

pub(crate) const WAIT: &str = "\
Exit codes: 0 if the lock is free; 75 if it was not free within --timeout; 125 if the database
cannot be read; 64 for a usage error. Only needs the right to read.

Another process may acquire the lock at once. To run something while no other process does, use
db-mutex run --wait.

Example:
  db-mutex wait nightly-report --timeout 1h && deploy";

pub(crate) const RELEASE: &str = "\
The holder notices at its next renewal, and may work until then. Make sure that it has stopped.

Exit codes: 0; 1 if there was nothing to release; 125 if the database failed; 64 for a usage error.";

/// Help and version as clap prints them; a mistake as one line.
pub(crate) fn usage(error: &clap::Error) -> Result<u8, Failure> {
    if !error.use_stderr() {
        return print::line(error.render().to_string().trim_end()).map(|()| 0);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        print::note(error.render().to_string().trim_end());
        return Ok(USAGE);
    }
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    if let Some(line) = with_dashes(error, &arguments) {
        return Err(Failure::new(USAGE, format!("the command has to follow `--`; write `{line}`")));
    }
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.strip_prefix("error: ").unwrap_or(paragraph);
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(Failure::new(USAGE, format!("{line}; see db-mutex --help")))
}

/// The command line with the `--` that is missing in `db-mutex run job sleep 5`.
fn with_dashes(error: &clap::Error, arguments: &[String]) -> Option<String> {
    let Some(ContextValue::String(unexpected)) = error.get(ContextKind::InvalidArg) else { return None };
    let run = arguments.iter().position(|argument| argument == "run")?;
    if error.kind() != ErrorKind::UnknownArgument || unexpected.starts_with('-') || arguments.iter().any(|a| a == "--")
    {
        return None;
    }
    // The name of the lock may be the same word.
    let command = (run + 2..arguments.len()).find(|&at| arguments[at] == *unexpected)?;
    let join = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let mut options = arguments[..command].to_vec();
    // A URL may have a password in it.
    for at in 0..options.len() {
        if options[at].starts_with("--url=") {
            options[at] = "--url=URL".into();
        } else if at > 0 && options[at - 1] == "--url" {
            options[at] = "URL".into();
        }
    }
    Some(format!("db-mutex {} -- {}", join(&options), join(&arguments[command..])))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `db-mutex completions`
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "db-mutex", &mut script);
    let mut script = String::from_utf8(script)
        .map_err(|error| Failure::new(FAILED, format!("cannot make the completions: {error}")))?;
    if shell == clap_complete::Shell::Bash {
        // clap_complete takes the dash in our name for the border of a subcommand, in one of two places: commands would have
        // no completions.
        script = script.replace("db__subcmd__mutex", "db__mutex");
    }
    print::line(script.trim_end()).map(|()| 0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn guessed(words: &[&str]) -> Option<String> {
        let error = Cli::try_parse_from(words).unwrap_err();
        with_dashes(&error, &words[1..].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_missing_separator_is_guessed() {
        for (words, line) in [
            (&["db-mutex", "run", "job", "sleep", "5"][..], "db-mutex run job -- sleep 5"),
            (&["db-mutex", "run", "job", "job", "-x"], "db-mutex run job -- job -x"),
            (&["db-mutex", "run", "--ttl", "5m", "job", "echo", "a b"], "db-mutex run --ttl 5m job -- echo 'a b'"),
            (
                &["db-mutex", "run", "job", "--wait", "1s", "echo", "it's"],
                r"db-mutex run job --wait 1s -- echo 'it'\''s'",
            ),
        ] {
            assert_eq!(guessed(words).as_deref(), Some(line));
        }
        for url in [&["--url", "sqlite:s3cret"][..], &["--url=sqlite:s3cret"]] {
            let line = guessed(&[&["db-mutex"], url, &["run", "job", "x"]].concat()).unwrap();
            assert!(line.contains("URL run job -- x") && !line.contains("s3cret"), "{line}");
        }
        assert_eq!(guessed(&["db-mutex", "run", "job", "--bad", "--", "x"]), None);
        assert_eq!(guessed(&["db-mutex", "show", "job", "x"]), None);
    }
}
