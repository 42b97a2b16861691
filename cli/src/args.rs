use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use db_mutex::{TableName, Ttl, WaitLimit};

/// Runs commands under a lock in a database, so that they do not overlap: on one machine, or on many.
#[derive(Debug, Parser)]
#[command(name = "db-mutex", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Durations: 500ms, 90s, 30m, 2h, 1h30m.\n\
    Without --url and DB_MUTEX_URL the locks are in an SQLite file of yours: $XDG_STATE_HOME/db-mutex/locks.db.")]
pub(crate) struct Cli {
    #[arg(help = "The database, as in sqlite:/var/lib/locks.db")]
    #[arg(long, env = "DB_MUTEX_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The table in it
    #[arg(long, value_name = "NAME", default_value_t)]
    pub(crate) table: TableName,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command under a lock
    Run(RunArgs),
    /// List the locks that are taken
    List(ListArgs),
    /// Show who holds a lock, or who had it last
    Show(ShowArgs),
    /// Take a lock away from whoever holds it
    Release(ReleaseArgs),
    /// Remove the rows of locks that have long been free
    Purge(PurgeArgs),
    /// Create the table or bring it up to date
    Migrate(MigrateArgs),
    /// Print a shell's completions
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes:\n  \
    the command's own, or 128 + the signal that ended it\n  \
    75   the lock is held by another, or --wait ran out (-E changes it)\n  \
    0    the lock is held, with --on-held skip\n  \
    124  the lock was lost while the command ran; the command was ended\n  \
    125  db-mutex itself failed: database unreachable, bad table, ...\n  \
    126  the command could not be executed; 127 it was not found\n  \
    64   usage: an invalid option, name or URL\n\n\
    The command sees DB_MUTEX_NAME, DB_MUTEX_FENCE, DB_MUTEX_OWNER and DB_MUTEX_EXPIRES_AT.")]
pub(crate) struct RunArgs {
    /// The name of the lock
    pub(crate) name: String,
    /// How long the lock outlives a crash, or `none` forever; it is renewed meanwhile [default: DB_MUTEX_TTL_SECONDS, else 30m]
    #[arg(long, value_name = "DUR", value_parser = parse_ttl, allow_hyphen_values = true)]
    pub(crate) ttl: Option<Ttl>,
    /// How long to wait for the lock, or `forever` [default: not at all]
    #[arg(long, value_name = "DUR", value_parser = parse_wait, allow_hyphen_values = true)]
    pub(crate) wait: Option<WaitLimit>,
    /// Do not renew the lock: a command that takes longer than the ttl is ended
    #[arg(long)]
    pub(crate) no_renew: bool,
    /// Keep the lock at least so long, even if the command is faster
    #[arg(long, value_name = "DUR", value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) hold_at_least: Option<Duration>,
    /// What to do when the lock is held
    #[arg(long, value_name = "fail|skip", default_value = "fail", hide_default_value = true)]
    pub(crate) on_held: OnHeld,
    /// The exit code when the lock is held
    #[arg(short = 'E', value_name = "CODE", default_value_t = crate::exit::HELD)]
    pub(crate) exit_code_when_held: u8,
    /// When the lock is lost: how long the command has between SIGTERM and SIGKILL [default: 10s, or a third of the ttl]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) kill_after: Option<Duration>,
    /// What to do with processes that the command leaves behind: release the lock under them, wait for them, or end them
    #[arg(long, value_name = "leave|wait|end", default_value = "leave")]
    pub(crate) descendants: Descendants,
    /// How long to go on trying to release the lock when the command has ended
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "30s", allow_hyphen_values = true)]
    pub(crate) release_timeout: Duration,
    /// What others read about this run
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// A line for the shell, instead of a command
    #[arg(short = 'c', value_name = "SHELL LINE", conflicts_with = "command")]
    pub(crate) shell_line: Option<OsString>,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnHeld {
    /// Exit with 75
    Fail,
    /// Exit with 0
    Skip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Descendants {
    /// Release the lock when the command ends
    Leave,
    /// Wait until they have ended too
    Wait,
    /// End them
    End,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Also the locks that are free
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The name of the lock
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The name of the lock
    pub(crate) name: String,
    /// Yes, take it away: its holder may still be at work
    #[arg(long)]
    pub(crate) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// How long a lock must have been free
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "30days", allow_hyphen_values = true)]
    pub(crate) older_than: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Print the SQL instead of running it
    #[arg(long)]
    pub(crate) print: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err("a duration is not negative; write for example 90s or 30m".into());
    }
    humantime::parse_duration(text).map_err(|_| "not a duration; write for example 500ms, 90s, 30m or 2h".into())
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    match text {
        "none" | "never" => Ok(Ttl::NEVER),
        _ => Ttl::new(parse_duration(text)?).map_err(|invalid| invalid.to_string()),
    }
}

fn parse_wait(text: &str) -> Result<WaitLimit, String> {
    match text {
        "forever" => Ok(WaitLimit::Forever),
        _ => parse_duration(text).map(WaitLimit::AtMost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_written_as_people_do() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        for bad in ["", "-1s", "abc", "30", "1 fortnight"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_ttl("none"), Ok(Ttl::NEVER));
        for bad in ["0s", "50ms", "1000years", "-1s"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_wait("forever"), Ok(WaitLimit::Forever));
    }
}
