//! A directory of files, for the processes of one machine: a file for each lock id.
//!
//! - A file is replaced by renaming, so a reader sees the old value or the new one, even if a process dies in between.
//! - Writers exclude one another with `flock` on one file of the directory, which the kernel unlocks when a process dies. A writer
//!   that meets another waits for a second at most.
//! - The clock is the machine's. On a network file system there would be several, and `flock` may not exclude other machines.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use db_mutex_core::store::cas::{CompareAndSwap, Entry, Loaded, Page, Swapped, machine_clock};
use db_mutex_core::store::{LockId, async_trait};
use db_mutex_core::{StoreError, StoreErrorKind};
use rustix::fs::{FlockOperation, flock};

/// Locks in a directory. The version of a value is the value.
#[derive(Debug, Clone)]
pub struct Files(pub(crate) PathBuf);

impl Files {
    /// Makes the directory if it is not there.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Replaces or removes a file that still has the expected contents.
    async fn replace(&self, id: &LockId, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<Swapped, StoreError> {
        let (directory, file) = (self.0.clone(), self.0.join(crate::names::name(id)));
        let (expected, value) = (expected.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
        let replace = move || {
            let _locked = lock(&directory)?;
            if read(&file)? != expected {
                return Ok(Swapped::Changed);
            }
            write(&directory, &file, value.as_deref()).map(|()| Swapped::Done)
        };
        in_the_background(replace).await
    }
}

/// Replaces a file, or removes it, so that it survives a crash. The directory must be locked.
pub(crate) fn write(directory: &Path, file: &Path, value: Option<&[u8]>) -> Result<(), StoreError> {
    match value {
        Some(value) => {
            let new = directory.join(".new");
            let written = File::create(&new).and_then(|mut file| file.write_all(value).and_then(|()| file.sync_all()));
            written.map_err(|error| failed("write", error).undone())?;
            fs::rename(new, file).map_err(|error| failed("rename", error))?;
        }
        None => fs::remove_file(file).map_err(|error| failed("remove", error))?,
    }
    File::open(directory).and_then(|it| it.sync_all()).map_err(|error| failed("write", error))
}

/// Waits for other writers, who are at it for as long as the disk takes.
pub(crate) fn lock(directory: &Path) -> Result<File, StoreError> {
    let file = File::create(directory.join(".lock")).map_err(|error| failed("open", error).undone())?;
    let started = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if started.elapsed() > Duration::from_secs(1) {
            return Err(StoreError::new(StoreErrorKind::Busy, "another process has locked the directory; try again"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(file)
}

pub(crate) fn read(file: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(file) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", error).undone()),
    }
}

fn failed(what: &str, error: io::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, format!("could not {what} a file of locks")).with_source(error)
}

pub(crate) async fn in_the_background<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
) -> Result<R, StoreError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(StoreError::new(StoreErrorKind::Other, "the work has ended").with_source(error)))
}

#[async_trait]
impl CompareAndSwap for Files {
    type Version = Vec<u8>;

    async fn load(&self, id: &LockId) -> Result<Loaded<Vec<u8>>, StoreError> {
        let file = self.0.join(crate::names::name(id));
        let value = in_the_background(move || read(&file)).await?;
        Ok(Loaded::new(value.map(|value| Entry::new(value.clone(), value)), machine_clock()))
    }

    async fn swap(&self, id: &LockId, expected: Option<&Vec<u8>>, value: &[u8]) -> Result<Swapped, StoreError> {
        self.replace(id, expected.map(Vec::as_slice), Some(value)).await
    }

    async fn remove(&self, id: &LockId, expected: &Vec<u8>) -> Result<Swapped, StoreError> {
        self.replace(id, Some(expected), None).await
    }

    async fn scan(&self, _from: Option<&str>) -> Result<Page<Vec<u8>>, StoreError> {
        let directory = self.0.clone();
        let values = in_the_background(move || read_all(&directory)).await?;
        let entries = values.into_iter().map(|value| Entry::new(value.clone(), value)).collect();
        Ok(Page::last(entries, machine_clock()))
    }
}

pub(crate) fn read_all(directory: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut values = Vec::new();
    for file in fs::read_dir(directory).map_err(|error| failed("list", error))? {
        let file = file.map_err(|error| failed("list", error))?;
        // Files of our own begin with a dot; one that is gone was removed meanwhile.
        if !file.file_name().as_encoded_bytes().starts_with(b".") {
            values.extend(read(&file.path())?);
        }
    }
    Ok(values)
}
