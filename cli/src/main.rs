//! The `db-mutex` command: runs a command under a lock, and inspects and manages locks.
//!
//! | file | the one idea |
//! |---|---|
//! | `args` | the command line |
//! | `help`, `man` | the rest of the help, and the manual pages |
//! | `exit` | the exit codes |
//! | `place` | which database: the URL, or the default file |
//! | `secrets` | the password for a URL without one |
//! | `database` | connecting to it, within a limit |
//! | `held` | the locks of the commands around this one |
//! | `acquire` | waiting for a lock on a server that is short of connections |
//! | `run` | `db-mutex run`: from the lock to the exit code |
//! | `program` | finding the command |
//! | `supervise` | supervising the command while it runs |
//! | `release` | releasing the lock when the command has ended |
//! | `keeper` | the command's parent process, which terminates it when the lease is over |
//! | `signals` | the signals that are passed on |
//! | `terminal` | restoring the terminal |
//! | `inspect` | `list`, `show`, `release`, `purge`, `migrate` |
//! | `watch` | `list --watch` and `wait` |
//! | `print` | times and tables for people, JSON for machines |

mod acquire;
mod args;
mod database;
mod exit;
mod held;
mod help;
mod inspect;
mod keeper;
mod man;
mod place;
mod print;
mod program;
mod release;
mod run;
mod secrets;
mod signals;
mod supervise;
mod terminal;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::args::{Cli, Command};
use crate::exit::{FAILED, Failure};
use crate::run::Preparation;

fn main() -> ExitCode {
    if let Some(code) = keeper::main() {
        return code;
    }
    // It may be something else that is called so; what was prepared is then undone.
    let prepared = std::env::args_os().skip(1).any(|argument| argument == "run").then(Preparation::begin);
    let outcome = match Cli::try_parse() {
        Ok(cli) => execute(&cli, prepared),
        Err(error) => help::usage(&error),
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

fn execute(cli: &Cli, prepared: Option<Result<Preparation, Failure>>) -> Result<u8, Failure> {
    if let Command::Run(args) = &cli.command {
        return run::run(cli, args, prepared.unwrap_or_else(Preparation::begin)?);
    }
    if let Some(Ok(prepared)) = prepared {
        prepared.undo()?;
    }
    runtime()?.block_on(async {
        match &cli.command {
            Command::Run(args) => run::run(cli, args, Preparation::begin()?),
            Command::List(args) => inspect::list(cli, args).await,
            Command::Show(args) => inspect::show(cli, args).await,
            Command::Release(args) => inspect::release(cli, args).await,
            Command::Purge(args) => inspect::purge(cli, args).await,
            Command::Migrate(args) => inspect::migrate(cli, args).await,
            Command::Wait(args) => watch::wait(cli, args).await,
            Command::Completions { shell } => help::completions(*shell),
            Command::Man(args) => man::man(args),
        }
    })
}
