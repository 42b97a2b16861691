use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use db_mutex::{TableName, Ttl, WaitLimit};

use crate::help;
use crate::print;

/// Runs commands under a lock in a database, so that they do not overlap, on one machine or many.
#[derive(Debug, Parser)]
#[command(name = "db-mutex", version, max_term_width = 100)]
#[command(after_help = help::MAIN)]
pub(crate) struct Cli {
    #[arg(
        help = "The database, such as sqlite:/var/lib/locks.db or postgres://user@host/database [env: DB_MUTEX_URL]"
    )]
    #[arg(long, value_name = "URL", global = true, help_heading = help::DATABASE, conflicts_with = "url_file")]
    pub(crate) url: Option<String>,
    #[arg(
        help = "A file whose first line is the URL, which keeps passwords off command lines [env: DB_MUTEX_URL_FILE]"
    )]
    #[arg(long, value_name = "FILE", global = true, help_heading = help::DATABASE)]
    pub(crate) url_file: Option<PathBuf>,
    /// The table of locks
    #[arg(long, value_name = "NAME", default_value_t, global = true, help_heading = help::DATABASE)]
    pub(crate) table: TableName,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command under a lock
    Run(RunArgs),
    /// List the locks that are held, or resting until --hold-at-least is over
    List(ListArgs),
    /// Show who holds a lock, or who held it last
    Show(ShowArgs),
    /// Wait until a lock is free, without acquiring it
    Wait(WaitArgs),
    /// Release a lock regardless of who holds it
    Release(ReleaseArgs),
    /// Remove the rows of locks that have been free for a long time
    Purge(PurgeArgs),
    /// Create the table of locks, or bring it up to date
    Migrate(MigrateArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    Man(ManArgs),
}

#[derive(Debug, Args)]
#[command(
    override_usage = "db-mutex run [OPTIONS] NAME -- CMD [ARG]...\n       db-mutex run [OPTIONS] NAME -c 'SHELL LINE'"
)]
#[command(after_help = help::RUN)]
pub(crate) struct RunArgs {
    /// The name of the lock
    pub(crate) name: String,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,

    /// How long the lock stays held after a crash, at least 1s, or `none` for forever; it is renewed while the command runs
    /// [default: DB_MUTEX_TTL_SECONDS, else 30m]
    #[arg(long, value_name = "DUR", value_parser = parse_ttl, allow_hyphen_values = true, help_heading = help::LOCK)]
    pub(crate) ttl: Option<Ttl>,
    /// Hold the lock at least this long, even if the command finishes sooner
    #[arg(long, value_name = "DUR", value_parser = parse_duration, allow_hyphen_values = true, help_heading = help::LOCK)]
    pub(crate) hold_at_least: Option<Duration>,
    /// Do not renew the lock: terminate a command that takes longer than the TTL
    #[arg(long, help_heading = help::LOCK)]
    pub(crate) no_renew: bool,
    /// A description of this run, which `list` and `show` print
    #[arg(long, value_name = "TEXT", help_heading = help::LOCK)]
    pub(crate) label: Option<String>,

    /// Run this shell command line instead of CMD
    #[arg(short = 'c', value_name = "SHELL LINE", conflicts_with = "command", help_heading = help::COMMAND)]
    pub(crate) shell_line: Option<OsString>,
    /// What to do with processes that the command leaves running: `leave` them, `wait` for them, or `end` them
    #[arg(long, value_name = "leave|wait|end", default_value = "leave", help_heading = help::COMMAND)]
    #[arg(hide_possible_values = true)]
    pub(crate) descendants: Descendants,

    /// How long to wait for the lock, including the time to connect, or `forever` [default: do not wait]
    #[arg(long, value_name = "DUR", value_parser = parse_wait, allow_hyphen_values = true, help_heading = help::HELD)]
    pub(crate) wait: Option<WaitLimit>,
    /// What to do if the lock is held: `fail` with exit code 75, or `skip` silently with exit code 0
    #[arg(long, value_name = "fail|skip", default_value = "fail", hide_possible_values = true, help_heading = help::HELD)]
    pub(crate) on_held: OnHeld,
    /// The exit code if the lock is held
    #[arg(short = 'E', value_name = "CODE", default_value_t = crate::exit::HELD, help_heading = help::HELD)]
    pub(crate) exit_code_when_held: u8,

    /// The time between SIGTERM and SIGKILL for the command [default: 10s, or a third of the TTL if that is less]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, allow_hyphen_values = true, help_heading = help::LOST)]
    pub(crate) kill_after: Option<Duration>,

    /// How long to try to release the lock after the command has ended
    #[arg(long, value_name = "DUR", value_parser = parse_duration, allow_hyphen_values = true, help_heading = help::ENDS)]
    #[arg(default_value = "30s")]
    pub(crate) release_timeout: Duration,
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
    /// They keep running; the lock is released
    Leave,
    /// The lock is held until they have ended
    Wait,
    /// They are ended
    End,
}

#[derive(Debug, Args)]
#[command(after_help = help::LIST)]
pub(crate) struct ListArgs {
    /// Include locks that are free
    #[arg(long)]
    pub(crate) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep watching: redraw the table on a terminal; elsewhere, print it again at each change
    #[arg(long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
#[command(after_help = help::SHOW)]
pub(crate) struct ShowArgs {
    /// The name of the lock
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = help::WAIT)]
pub(crate) struct WaitArgs {
    /// The name of the lock
    pub(crate) name: String,
    /// How long to wait, including the time to connect [default: forever]
    #[arg(long, value_name = "DUR", value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = help::RELEASE)]
pub(crate) struct ReleaseArgs {
    /// The name of the lock
    pub(crate) name: String,
    /// Confirm: the holder may still be running
    #[arg(long)]
    pub(crate) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// The minimum time that a lock has been free
    #[arg(long, value_name = "DUR", value_parser = parse_duration, default_value = "30days", allow_hyphen_values = true)]
    pub(crate) older_than: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Print the SQL instead of running it
    #[arg(long)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command to document [default: db-mutex itself]
    #[arg(value_name = "COMMAND")]
    pub(crate) about: Option<String>,
    /// Write all pages into this folder instead, and create it if it is missing
    #[arg(long, value_name = "DIR", conflicts_with = "about")]
    pub(crate) dir: Option<PathBuf>,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err("a duration cannot be negative; write for example 90s or 30m".into());
    }
    humantime::parse_duration(text).map_err(|_| "not a duration; write for example 500ms, 90s, 30m or 2h".into())
}

/// The shortest TTL of a run. It is longer than that of a lock in a program, because a run has more processes, and each may
/// have to wait on a busy machine.
const SHORTEST_TTL: Duration = Duration::from_secs(1);

/// Refuses a TTL so short that a lock would be lost only because the machine is busy.
pub(crate) fn refuse_short_ttl(ttl: Duration) -> Result<(), String> {
    if ttl >= SHORTEST_TTL {
        return Ok(());
    }
    let why = "a busy machine may need as long to renew the lock or to end the command";
    Err(format!("the ttl of a run is at least {}: {why}", print::span(SHORTEST_TTL)))
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    match text {
        "none" | "never" => Ok(Ttl::NEVER),
        _ => {
            let ttl = parse_duration(text)?;
            refuse_short_ttl(ttl)?;
            Ttl::new(ttl).map_err(|invalid| invalid.to_string())
        }
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
        assert!(parse_ttl("1s").is_ok());
        for bad in ["0s", "50ms", "100ms", "999ms", "1000years", "-1s"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_wait("forever"), Ok(WaitLimit::Forever));
    }
}
