//! The locks that the commands around this one hold, from the environment.
//!
//! Each `run` adds an entry to `DB_MUTEX_HELD`: where its URL came from, a hash of the database and table, the fencing
//! token and the name of the lock, as in `environment:3f0c…:1790000000000000:nightly%20report`. Entries are separated by
//! spaces. With it, a nested `run` detects that it would wait for itself, or that it is about to use another database.

use std::env;
use std::ffi::OsStr;
use std::fs::metadata;
use std::os::unix::fs::MetadataExt;

use db_mutex::Fence;

use crate::database::Connected;
use crate::exit::{Failure, HELD as HELD_CODE, USAGE};
use crate::place::Place;

/// The variable.
pub(crate) const HELD: &str = "DB_MUTEX_HELD";

/// Where a URL came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `--url`
    Argument,
    /// `--url-file`
    File,
    /// `DB_MUTEX_URL` or `DB_MUTEX_URL_FILE`, which the command inherits.
    Environment,
    /// None was given.
    Default,
}

impl Origin {
    const ALL: [Self; 4] = [Self::Argument, Self::File, Self::Environment, Self::Default];

    fn as_str(self) -> &'static str {
        match self {
            Self::Argument => "argument",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Default => "default",
        }
    }
}

/// A lock that a command around this one holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    origin: Origin,
    database: u64,
    fence: i64,
    name: String,
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        let origin = parts.next()?;
        Some(Self {
            origin: Origin::ALL.into_iter().find(|known| known.as_str() == origin)?,
            database: u64::from_str_radix(parts.next()?, 16).ok()?,
            fence: parts.next()?.parse().ok()?,
            name: decode(parts.next()?)?,
        })
    }

    fn to_text(&self) -> String {
        let Self { origin, database, fence, name } = self;
        format!("{}:{database:016x}:{fence}:{}", origin.as_str(), encode(name))
    }
}

/// The locks around this process, the innermost last. What cannot be read as an entry is not ours, and is left out.
fn parse(variable: Option<&OsStr>) -> Vec<Entry> {
    let text = variable.and_then(OsStr::to_str).unwrap_or_default();
    text.split(' ').filter_map(Entry::parse).collect()
}

fn around() -> Vec<Entry> {
    parse(env::var_os(HELD).as_deref())
}

/// The value of the variable for the command of a `run` that has acquired the lock.
pub(crate) fn with_entry(place: &Place, name: &str, fence: Fence) -> String {
    let entry = Entry { origin: place.origin, database: identity(place), fence: fence.get(), name: name.to_owned() };
    let around = env::var(HELD).unwrap_or_default();
    format!("{around} {}", entry.to_text()).trim_start().to_owned()
}

/// Refuses the default file to a command inside a `run` whose database was given in a way that is not inherited. Otherwise
/// the two would silently not exclude each other.
pub(crate) fn refuse_another_place() -> Result<(), Failure> {
    match around().last() {
        Some(Entry { origin: Origin::Default, .. }) | None => Ok(()),
        Some(Entry { name, .. }) => {
            let message = format!(
                "this runs under the lock `{name}` of a database that was not named here; \
                 name the same one with --url or --url-file, or export DB_MUTEX_URL for both"
            );
            Err(Failure::new(USAGE, message))
        }
    }
}

/// Refuses a lock that a command around this one holds, because it is not released before this one has ended.
pub(crate) async fn refuse_to_wait_for_itself(connected: &Connected, name: &str) -> Result<(), Failure> {
    let database = identity(&connected.place);
    let own: Vec<_> = around().into_iter().filter(|entry| entry.database == database && entry.name == name).collect();
    if own.is_empty() {
        return Ok(());
    }
    let Some(row) = connected.mutex.find(name).await? else { return Ok(()) };
    if !row.is_taken() || own.iter().all(|entry| entry.fence != row.fence.get()) {
        return Ok(());
    }
    let message =
        format!("lock `{name}` is held by the command around this one ({}), so it would wait for itself", row.holder);
    Err(Failure::new(HELD_CODE, message))
}

/// A number for a database and table, the same in each process and build: for SQLite of the file, for a server of its
/// address. It reveals nothing about the path, host or database.
fn identity(place: &Place) -> u64 {
    let text = match (place.connector.address(), place.connector.path()) {
        (Some(address), _) => address.to_string().to_ascii_lowercase(),
        (None, path) => match path.map(metadata) {
            Some(Ok(file)) => format!("sqlite:{}:{}", file.dev(), file.ino()),
            _ => String::new(),
        },
    };
    fnv1a(format!("{text}\0{}", place.table).as_bytes())
}

/// [FNV-1a](https://datatracker.ietf.org/doc/html/draft-eastlake-fnv), 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, encoded)) = rest.split_once('%') {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(encoded.get(..2)?, 16).ok()?);
        rest = &encoded[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(origin: Origin, name: &str) -> Entry {
        Entry { origin, database: 0xab, fence: 7, name: name.into() }
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        for origin in Origin::ALL {
            for name in ["job", "a b:c%d", "ü", "100%"] {
                let entry = entry(origin, name);
                assert!(!entry.to_text().contains(' '));
                assert_eq!(Entry::parse(&entry.to_text()), Some(entry));
            }
        }
        assert_eq!(entry(Origin::File, "a b").to_text(), "file:00000000000000ab:7:a%20b");
    }

    #[test]
    fn what_is_no_entry_is_left_out() {
        let text = "nonsense file:xyz:1:job file:ab:one:job file:ab:1 file:ab:1:%4 argument:ab:7:job  ";
        assert_eq!(parse(Some(OsStr::new(text))), [entry(Origin::Argument, "job")]);
        assert_eq!(parse(None), []);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
