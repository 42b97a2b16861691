//! How long the command takes to start, beside flock(1) and beside nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::servers::Servers;
use crate::options::Options;
use crate::results::{Cell, Results, Round, Spread};
use crate::spec::Failure;

/// One after the other in turn, so that all meet the same moments.
pub(super) fn round(options: &Options, servers: &Servers, results: &mut Results) -> Result<(), Failure> {
    let Some(program) = &options.command else { return Ok(()) };
    if !options.wants("command") {
        return Ok(());
    }
    let times = if options.quick { 20 } else { 60 };
    let sqlite = servers.url("sqlite", "command")?;
    let lock = options.work.join("flock");
    let flock = lock.display().to_string();
    let mut commands = vec![
        ("nothing", command("true", &[], "")),
        ("flock", command("flock", &[&flock, "true"], "")),
        ("sqlite", command(program, &["run", "x", "--", "true"], &sqlite)),
    ];
    for server in ["postgres", "mariadb", "mysql"] {
        if servers.has(server) {
            commands.push((server, command(program, &["run", "x", "--", "true"], &servers.url(server, "")?)));
        }
    }
    let mut taken = vec![Vec::new(); commands.len()];
    for turn in 0..=times {
        for ((name, command), taken) in commands.iter_mut().zip(&mut taken) {
            let begun = Instant::now();
            let status = command.status()?;
            if !status.success() {
                return Err(format!("the command with {name} ended with {status}").into());
            }
            // The first creates the file or the table.
            if turn > 0 {
                taken.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    for ((name, _), mut taken) in commands.iter().zip(taken) {
        taken.sort_by(f64::total_cmp);
        let p50 = Spread::of(taken.iter().copied()).map_or(f64::NAN, |spread| spread.median);
        let at = |part: f64| taken.get((taken.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
        let round = Round { per_second: 1e6 / p50, p50, p99: at(0.99), p999: at(0.999), ..Round::default() };
        cell(results, name).rounds.push(round);
    }
    Ok(())
}

/// The URL has a password, so it is not an argument.
fn command(program: impl AsRef<Path>, arguments: &[&str], url: &str) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    if !url.is_empty() {
        command.env("DB_MUTEX_URL", url);
    }
    command
}

fn cell<'a>(results: &'a mut Results, server: &str) -> &'a mut Cell {
    let at = results.commands.iter().position(|cell| cell.server == server).unwrap_or_else(|| {
        results.commands.push(Cell {
            kind: "command".into(),
            server: server.into(),
            subject: "command".into(),
            tasks: 1,
            processes: 1,
            rounds: Vec::new(),
            failures: Vec::new(),
        });
        results.commands.len() - 1
    });
    &mut results.commands[at]
}

/// The size of the program, and how long it took to build from nothing, which `scripts/bench` has noted beside it.
pub(super) fn sizes(options: &Options, results: &mut Results) -> Result<(), Failure> {
    let Some(program) = &options.command else { return Ok(()) };
    results.numbers.insert("bytes of the command".into(), fs::metadata(program)?.len() as f64);
    let noted = program.with_file_name("seconds-of-a-cold-build");
    if let Ok(seconds) = fs::read_to_string(noted) {
        results.numbers.insert("seconds of a cold build".into(), seconds.trim().parse()?);
    }
    Ok(())
}
