use std::fmt;
use std::str::FromStr;

use super::Invalid;

/// The name of a store's table: 1 to 50 ASCII letters, digits and `_`, not beginning with a digit.
///
/// Only plain identifiers are allowed, so that the name means the same in every tool that uses the table. Names that begin
/// with `sqlite_` or `pg_` are reserved by databases. The default is `db_mutex_locks`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableName(String);

impl TableName {
    /// The maximum length of a name in characters; the names of indexes and constraints add a suffix.
    pub const MAX_CHARS: usize = 50;

    /// Validates `name`.
    ///
    /// # Errors
    /// [`Invalid::Table`], which says what to change.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Invalid> {
        let name = name.as_ref();
        let reason = if name.is_empty() {
            "it is empty; leave it out for the default"
        } else if name.starts_with(|first: char| first.is_ascii_digit()) {
            "begin it with a letter or `_`"
        } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            "use only ASCII letters, digits and `_`"
        } else if name.len() > Self::MAX_CHARS {
            "it has more than 50 characters"
        } else if ["sqlite_", "pg_"].iter().any(|kept| name.to_ascii_lowercase().starts_with(kept)) {
            "names that begin with `sqlite_` or `pg_` belong to the database"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Invalid::Table { name: name.chars().take(80).collect(), reason: reason.into() })
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TableName {
    fn default() -> Self {
        Self("db_mutex_locks".into())
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TableName {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_are_tables() {
        for good in ["db_mutex_locks", "_x", "Locks2"] {
            assert!(TableName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "2x", "a b", "a\"b", "a;drop", "é", "sqlite_x", "PG_x", &"x".repeat(51)] {
            assert!(TableName::new(bad).is_err(), "{bad}");
        }
    }
}
