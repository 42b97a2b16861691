//! The command line.

use std::path::PathBuf;

use crate::spec::Failure;

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) only: Vec<String>,
    /// How many leases and waiters.
    pub(crate) many: usize,
    pub(crate) rows: usize,
    pub(crate) servers: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) django: Vec<String>,
    pub(crate) command: Option<PathBuf>,
    /// As it was typed.
    pub(crate) line: String,
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let arguments: Vec<String> = arguments.collect();
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let mut options = Self {
            quick,
            rounds: if quick { 3 } else { 5 },
            seconds: if quick { 0.25 } else { 0.5 },
            only: Vec::new(),
            many: 10_000,
            rows: 1_000_000,
            servers: PathBuf::new(),
            work: PathBuf::new(),
            out: PathBuf::new(),
            django: Vec::new(),
            command: None,
            line: String::new(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument == "--quick" {
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--rounds" => options.rounds = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                "--only" => options.only.push(value),
                "--many" => options.many = value.parse()?,
                "--rows" => options.rows = value.parse()?,
                "--servers" => options.servers = value.into(),
                "--work" => options.work = value.into(),
                "--out" => options.out = value.into(),
                "--django" => options.django.push(value),
                "--command" => options.command = Some(value.into()),
                "--line" => options.line = value,
                _ => return Err(format!("there is no option {argument:?}").into()),
            }
        }
        Ok(options)
    }

    /// Whether a name contains what was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}
