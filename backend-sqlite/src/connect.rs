use std::fs::{File, metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use db_mutex_core::{StoreError, StoreErrorKind as Kind, TableName};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::{place_error, store_error};
use crate::identity::wal_of;
use crate::migrate::{check, migrate};
use crate::row::one_row;

/// Where the locks are kept, and how to get there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The file, or `:memory:`.
    pub(crate) path: PathBuf,
    pub(crate) table: TableName,
    pub(crate) busy_timeout: Duration,
    pub(crate) create_if_missing: bool,
    pub(crate) read_only: bool,
}

impl Place {
    pub(crate) fn is_memory(&self) -> bool {
        self.path == Path::new(":memory:")
    }

    /// Opens the database, as a connection that other processes can work beside, with the table in it. Opening waits that long
    /// for other writers; the connection itself waits for none.
    pub(crate) fn open(&self, wait: Duration) -> Result<Connection, StoreError> {
        let connection = self.open_and_wait(wait)?;
        connection.busy_timeout(Duration::ZERO).map_err(|error| store_error(&self.path, error))?;
        Ok(connection)
    }

    fn open_and_wait(&self, wait: Duration) -> Result<Connection, StoreError> {
        let path = &self.path;
        let failed = |error| store_error(path, error);
        if !self.is_memory() {
            self.refuse_what_cannot_be_a_lock_file()?;
        }
        if self.read_only && !self.is_memory() {
            return self.open_to_read(wait);
        }
        self.create()?;
        // Not SQLITE_OPEN_URI: a file may be called what it likes.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(wait).map_err(failed)?;
        // Closing must not move the log into the file and delete it: it may be another's by then (see `identity`), and a
        // short-lived process would wait for the disk each time.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(32);
        if connection.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
            return Err(place_error(path, Kind::ReadOnly, "is read-only; make the file and its folder writable"));
        }
        if !self.is_memory() {
            self.use_wal(&connection, wait)?;
        }
        migrate(&mut connection, path, self.table.as_str())?;
        Ok(connection)
    }

    /// Creates an empty file, with the permissions that the umask allows. SQLite itself creates 0644 at most, which a group
    /// could not share; the log and the shared memory get the permissions of the file.
    fn create(&self) -> Result<(), StoreError> {
        if self.is_memory() || !self.create_if_missing {
            return Ok(());
        }
        match File::create_new(&self.path) {
            // What is wrong beyond that is SQLite's to find.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !self.path.exists() => {
                let what = "may not be created; make its folder writable";
                Err(place_error(&self.path, Kind::Config, what).with_source(error))
            }
            _ => Ok(()),
        }
    }

    /// Opens a file that is there, for someone who may not be allowed to write to it or to its folder.
    fn open_to_read(&self, wait: Duration) -> Result<Connection, StoreError> {
        let failed = |error| store_error(&self.path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        connection.busy_timeout(wait).map_err(failed)?;
        let has_table = match self.has_table(&connection) {
            // Where there is no log, SQLite would have to create one. Without a log, everything is in the file itself.
            Err(_) if !wal_of(&self.path).exists() => {
                let uri = format!("file:{}?immutable=1", uri_path(&self.path));
                let flags = flags | OpenFlags::SQLITE_OPEN_URI;
                connection = Connection::open_with_flags(uri, flags).map_err(failed)?;
                self.has_table(&connection)?
            }
            checked => checked?,
        };
        if has_table {
            return Ok(connection);
        }
        let mut none = Connection::open_in_memory().map_err(failed)?;
        migrate(&mut none, &self.path, self.table.as_str()).map(|()| none)
    }

    /// Whether the table is there. An empty database has none yet: the process that created it was interrupted. A database without
    /// the table, but with others, is more likely the wrong one.
    fn has_table(&self, connection: &Connection) -> Result<bool, StoreError> {
        let failed = |error| store_error(&self.path, error);
        let mut tables = connection.prepare("SELECT 1 FROM sqlite_master").map_err(failed)?;
        if !tables.exists(()).map_err(failed)? {
            return Ok(false);
        }
        check(connection, &self.path, self.table.as_str()).map(|()| true)
    }

    fn refuse_what_cannot_be_a_lock_file(&self) -> Result<(), StoreError> {
        let path = &self.path;
        if path.as_os_str().is_empty() {
            return Err(StoreError::new(Kind::Config, "the lock file has no name; give a path"));
        }
        if path.is_dir() {
            return Err(place_error(path, Kind::Config, "is a folder; name a file in it"));
        }
        let folder = folder_of(path);
        if !folder.is_dir() {
            let what = format!("cannot be made: there is no folder {folder:?}; create it first");
            return Err(place_error(path, Kind::Config, what));
        }
        if !self.create_if_missing && !path.exists() {
            return Err(place_error(
                path,
                Kind::Config,
                "does not exist, so no lock was ever acquired in it; check the path",
            ));
        }
        if metadata(path).is_ok_and(|file| file.nlink() > 1) {
            let what = "has several names (hard links), and SQLite's log belongs to a name: users of two names would not \
                        exclude each other; remove the other links, or use symbolic ones";
            return Err(place_error(path, Kind::Config, what));
        }
        match network_file_system(folder) {
            Some(kind) => {
                let what =
                    format!("lies on {kind}, where SQLite's locks do not hold; use a local disk, or a database server");
                Err(place_error(path, Kind::Config, what))
            }
            None => Ok(()),
        }
    }

    /// Turns the write-ahead log on, which lets readers and a writer work side by side. It outlives a crash of any
    /// process, and `synchronous = NORMAL` is enough for exclusion: a power cut ends all the holders on the machine too.
    fn use_wal(&self, connection: &Connection, wait: Duration) -> Result<(), StoreError> {
        let failed = |error| store_error(&self.path, error);
        let give_up = Instant::now() + wait;
        let mode = loop {
            // Changing the mode needs the file alone, and SQLite does not always wait for that by itself.
            match pragma(connection, "PRAGMA journal_mode = WAL") {
                Err(error) if is_busy(&error) && Instant::now() < give_up => thread::sleep(Duration::from_millis(2)),
                answer => break answer.map_err(failed)?,
            }
        };
        if !mode.eq_ignore_ascii_case("wal") {
            let what = format!("cannot use a write-ahead log (its journal mode stays {mode:?}); use a local disk");
            return Err(place_error(&self.path, Kind::Config, what));
        }
        // Each process that comes alone reads all of the log, which none before it has moved into the file on closing. So the
        // first request of each does, if it has become long: see `goes_on`.
        connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 64").map_err(failed)
    }
}

/// A path as a part of a URI.
fn uri_path(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn pragma(connection: &Connection, sql: &str) -> rusqlite::Result<String> {
    one_row(&mut connection.prepare(sql)?, (), |row| row.get(0))?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The name of a file system that is shared between machines: SQLite's file locks and shared memory
/// [do not work there](https://sqlite.org/wal.html#overview).
#[cfg(target_os = "linux")]
fn network_file_system(folder: &Path) -> Option<&'static str> {
    // The magic numbers of statfs(2).
    match u32::try_from(rustix::fs::statfs(folder).ok()?.f_type).ok()? {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x0102_1997 => Some("9p"),
        0x6573_5546 => Some("FUSE"),
        0x5346_414f => Some("AFS"),
        0x00c3_6400 => Some("Ceph"),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_folder: &Path) -> Option<&'static str> {
    None
}
