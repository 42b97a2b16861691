use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::args::RunArgs;
use crate::exit::{Failure, NOT_EXECUTABLE, NOT_FOUND, USAGE};

/// What to run, known to exist: a command that cannot run must not cost a lock.
#[derive(Debug)]
pub(crate) struct Program {
    /// Contains a `/`, so that nothing searches `PATH` again.
    pub(crate) file: PathBuf,
    /// The name under which the command was asked for, and its arguments.
    pub(crate) arguments: Vec<OsString>,
}

impl Program {
    pub(crate) fn find(args: &RunArgs) -> Result<Self, Failure> {
        let arguments = match (&args.shell_line, args.command.is_empty()) {
            (Some(line), _) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
            (None, false) => args.command.clone(),
            (None, true) => {
                return Err(Failure::new(USAGE, "no command was given; write it after `--`, or a shell line after -c"));
            }
        };
        Ok(Self { file: find_executable(&arguments[0])?, arguments })
    }
}

/// Looks a command up as a shell does: by its path if it has a `/`, else in `PATH`.
fn find_executable(name: &OsStr) -> Result<PathBuf, Failure> {
    let not_found = || Failure::new(NOT_FOUND, format!("the command {name:?} was not found; check its name and PATH"));
    if name.is_empty() {
        return Err(not_found());
    }
    let candidates: Vec<PathBuf> = if name.as_encoded_bytes().contains(&b'/') {
        vec![name.into()]
    } else {
        let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        // An empty part of PATH is the current folder.
        let here = |folder: PathBuf| if folder.as_os_str().is_empty() { ".".into() } else { folder };
        env::split_paths(&path).map(|folder| here(folder).join(name)).collect()
    };
    if let Some(found) = candidates.iter().find(|file| file.is_file() && access(*file, AccessFlags::X_OK).is_ok()) {
        return Ok(found.clone());
    }
    match candidates.iter().find(|file| file.exists()) {
        Some(file) => Err(Failure::new(NOT_EXECUTABLE, format!("{file:?} cannot be executed; {}", hint(file)))),
        None => Err(not_found()),
    }
}

fn hint(file: &Path) -> &'static str {
    if file.is_dir() { "it is a folder" } else { "make it executable with chmod +x" }
}
