//! The `db-mutex` command: runs a command under a lock, and shows and mends locks.
//!
//! | file | the one idea |
//! |---|---|
//! | `args` | what can be said on the command line |
//! | `exit` | the exit codes |
//! | `database` | which database |
//! | `run` | `db-mutex run`: from the lock to the exit code |
//! | `program` | which command |
//! | `keeper` | a process that is the command's parent, and ends it when the lease is over |
//! | `signals` | the signals that are passed on |
//! | `inspect` | `list`, `show`, `release`, `purge`, `migrate` |
//! | `print` | times and tables for people, JSON for machines |

mod args;
mod database;
mod exit;
mod inspect;
mod keeper;
mod print;
mod program;
mod run;
mod signals;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tokio::runtime::{Builder, Runtime};

use crate::args::{Cli, Command};
use crate::exit::{FAILED, Failure, USAGE};

fn main() -> ExitCode {
    if let Some(code) = keeper::main() {
        return code;
    }
    let outcome = match Cli::try_parse() {
        Ok(cli) => execute(&cli),
        Err(error) => usage(&error),
    };
    ExitCode::from(outcome.unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            print::note(&failure.message);
        }
        failure.code
    }))
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(FAILED, format!("cannot start: {error}")))
}

fn execute(cli: &Cli) -> Result<u8, Failure> {
    if let Command::Run(args) = &cli.command {
        return run::run(cli, args);
    }
    runtime()?.block_on(async {
        match &cli.command {
            Command::Run(args) => run::run(cli, args),
            Command::List(args) => inspect::list(cli, args).await,
            Command::Show(args) => inspect::show(cli, args).await,
            Command::Release(args) => inspect::release(cli, args).await,
            Command::Purge(args) => inspect::purge(cli, args).await,
            Command::Migrate(args) => inspect::migrate(cli, args).await,
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut Cli::command(), "db-mutex", &mut script);
                print::line(String::from_utf8_lossy(&script).trim_end()).map(|()| 0)
            }
            Command::Man => man(),
        }
    })
}

fn man() -> Result<u8, Failure> {
    let failed = |error| Failure::new(FAILED, format!("cannot make the manual page: {error}"));
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
    print::line(String::from_utf8_lossy(&page).trim_end()).map(|()| 0)
}

/// Help and version as clap prints them; a mistake as one line.
fn usage(error: &clap::Error) -> Result<u8, Failure> {
    if !error.use_stderr() {
        return print::line(error.render().to_string().trim_end()).map(|()| 0);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        print::note(error.render().to_string().trim_end());
        return Ok(USAGE);
    }
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.strip_prefix("error: ").unwrap_or(paragraph);
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(Failure::new(USAGE, format!("{line}; see db-mutex --help")))
}
