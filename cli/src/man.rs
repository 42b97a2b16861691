//! `db-mutex man`: a manual page for each command, made from its definition.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::args::{Cli, ManArgs};
use crate::exit::{FAILED, Failure, USAGE};
use crate::print;

/// Prints one page, or writes all of them into a folder.
pub(crate) fn man(args: &ManArgs) -> Result<u8, Failure> {
    let pages = pages()?;
    if let Some(folder) = &args.dir {
        return write_all(folder, &pages).map(|()| 0);
    }
    let wanted = args.about.as_ref().map_or_else(|| "db-mutex".to_owned(), |about| format!("db-mutex-{about}"));
    let Some((_, page)) = pages.iter().find(|(name, _)| *name == wanted) else {
        let known: Vec<_> = pages.iter().filter_map(|(name, _)| name.strip_prefix("db-mutex-")).collect();
        let about = args.about.as_deref().unwrap_or_default();
        return Err(Failure::new(USAGE, format!("there is no command {about:?}; there are {}", known.join(", "))));
    };
    print::line(page.trim_end()).map(|()| 0)
}

fn write_all(folder: &Path, pages: &[(String, String)]) -> Result<(), Failure> {
    fs::create_dir_all(folder)
        .map_err(|error| Failure::new(FAILED, format!("cannot create the folder {folder:?}: {error}")))?;
    for (name, page) in pages {
        let file = folder.join(format!("{name}.1"));
        fs::write(&file, page).map_err(|error| Failure::new(FAILED, format!("cannot write {file:?}: {error}")))?;
    }
    Ok(())
}

/// The name and the text of each page.
fn pages() -> Result<Vec<(String, String)>, Failure> {
    let mut main = Cli::command();
    main.build();
    let mut pages = vec![page("db-mutex", &main, &main)?];
    for command in commands(&main) {
        pages.push(page(&format!("db-mutex-{}", command.get_name()), command, &main)?);
    }
    Ok(pages)
}

/// All but `help`, which the pages are instead of.
fn commands(main: &Command) -> impl Iterator<Item = &Command> {
    main.get_subcommands().filter(|command| command.get_name() != "help")
}

fn page(name: &str, command: &Command, main: &Command) -> Result<(String, String), Failure> {
    let failed = |error| Failure::new(FAILED, format!("cannot make the manual page: {error}"));
    let mut text = Vec::new();
    let usage = command.clone().render_usage().to_string();
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let command = command.clone().name(name.to_owned()).display_name(name.to_owned()).after_help("");
    let command = command.version(main.get_version().unwrap_or_default().to_owned());
    let has_commands = command.has_subcommands();
    let man = Man::new(command).title(name.to_uppercase());
    man.render_title(&mut text).map_err(failed)?;
    man.render_name_section(&mut text).map_err(failed)?;
    synopsis(&usage).to_writer(&mut text).map_err(failed)?;
    man.render_description_section(&mut text).map_err(failed)?;
    man.render_options_section(&mut text).map_err(failed)?;
    if has_commands {
        man.render_subcommands_section(&mut text).map_err(failed)?;
    }
    for (heading, lines) in sections(&notes) {
        let mut section = Roff::new();
        section.control("SH", [heading]).control("nf", []);
        for line in lines {
            section.text([roman(line)]);
        }
        section.control("fi", []).to_writer(&mut text).map_err(failed)?;
    }
    see_also(name, main).to_writer(&mut text).map_err(failed)?;
    man.render_version_section(&mut text).map_err(failed)?;
    let text = String::from_utf8(text)
        .map_err(|error| Failure::new(FAILED, format!("cannot make the manual page: {error}")))?;
    Ok((name.to_owned(), text))
}

/// The usage as the help has it, one form a line.
fn synopsis(usage: &str) -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["SYNOPSIS"]).control("nf", []);
    for line in usage.lines() {
        section.text([roman(line.trim_start_matches("Usage:").trim())]);
    }
    section.control("fi", []);
    section
}

/// What follows the options in the help, each paragraph under the heading that manual pages have for it.
fn sections(notes: &str) -> Vec<(&'static str, Vec<&str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for paragraph in notes.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let is = |beginning: &str| paragraph.starts_with(beginning);
        let (heading, skipped) = match () {
            () if is("Exit codes:\n") => ("EXIT STATUS", 1),
            () if is("Exit codes:") => ("EXIT STATUS", 0),
            () if is("Environment") => ("ENVIRONMENT", 0),
            () if is("Example") => ("EXAMPLES", 1),
            () => ("NOTES", 0),
        };
        let lines = paragraph.lines().skip(skipped);
        match sections.last_mut() {
            Some((last, others)) if *last == heading => others.extend(std::iter::once("").chain(lines)),
            _ => sections.push((heading, lines.collect())),
        }
    }
    sections
}

fn see_also(name: &str, main: &Command) -> Roff {
    let others = commands(main).map(|command| format!("db-mutex-{}", command.get_name()));
    let others = std::iter::once("db-mutex".to_owned()).chain(others).filter(|other| other != name);
    let mut line = Vec::new();
    for other in others {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(other), roman("(1)")]);
    }
    let mut section = Roff::new();
    section.control("SH", ["SEE ALSO"]).text(line);
    section
}
