use std::ffi::OsString;
use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files that a connection works on, even if their names now lead to other files.
///
/// SQLite continues to use a file or a write-ahead log that was deleted or replaced. Two processes would then hold one lock
/// in two files. So each operation first checks whether the names still lead to the same files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    database: Option<FileId>,
    wal: Option<FileId>,
}

type FileId = (u64, u64);

impl Identity {
    /// The files that the names mean now.
    pub(crate) fn of(path: &Path) -> Self {
        Self { database: file_id(path), wal: file_id(&wal_of(path)) }
    }
}

/// The write-ahead log of a file.
pub(crate) fn wal_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push("-wal");
    name.into()
}

fn file_id(path: &Path) -> Option<FileId> {
    metadata(path).ok().map(|file| (file.dev(), file.ino()))
}
