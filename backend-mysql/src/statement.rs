//! A statement and its values: sent either as a prepared statement or as text.
//!
//! Several statements in one round trip have to be text, and with them the owner tokens. Parameters would not keep these out of the
//! server's logs: MySQL 9.7 and MariaDB 10.11 write prepared statements to the general log and the slow log with their values. So
//! who may read these logs may release the locks that are held, as may who can read the table. A token is worth nothing after its
//! release.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use mysql_async::Value;

/// A value of a statement. As text it is a number or a hexadecimal literal, which no `sql_mode` and no character set can
/// change.
#[derive(Clone)]
pub(crate) enum Datum {
    Bytes(Vec<u8>),
    Number(i64),
}

/// What a statement does to what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Begin,
    Write,
    Commit,
    /// Nothing.
    Read,
}

/// A statement, with a `?` for each of its values. No `Debug`: owner tokens are among the values.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) sql: Arc<str>,
    values: Vec<Datum>,
}

impl Statement {
    /// A statement that is sent so often that preparing it pays: it has the same text for all values.
    pub(crate) fn with_values(sql: &Arc<str>, values: Vec<Datum>) -> Self {
        Self { sql: Arc::clone(sql), values }
    }

    /// Whether it can be prepared once and executed many times.
    pub(crate) fn is_preparable(&self) -> bool {
        !self.values.is_empty()
    }

    /// Ours begin with the word that says so.
    pub(crate) fn effect(&self) -> Effect {
        match self.sql.split_whitespace().next() {
            Some("START") => Effect::Begin,
            Some("COMMIT") => Effect::Commit,
            Some("INSERT" | "UPDATE" | "DELETE") => Effect::Write,
            _ => Effect::Read,
        }
    }

    /// The values of the prepared statement.
    pub(crate) fn into_values(self) -> Vec<Value> {
        let values = self.values.into_iter();
        values
            .map(|value| match value {
                Datum::Bytes(bytes) => Value::Bytes(bytes),
                Datum::Number(number) => Value::Int(number),
            })
            .collect()
    }

    /// The statement as text, with its values in it.
    pub(crate) fn to_text(&self) -> Cow<'_, str> {
        if self.values.is_empty() {
            return Cow::Borrowed(&self.sql);
        }
        let mut text = String::with_capacity(self.sql.len() + 64 * self.values.len());
        let mut parts = self.sql.split('?');
        text.push_str(parts.next().unwrap_or_default());
        for (value, part) in self.values.iter().zip(parts) {
            match value {
                Datum::Bytes(bytes) => text.push_str(&hex(bytes)),
                Datum::Number(number) => text.push_str(&number.to_string()),
            }
            text.push_str(part);
        }
        Cow::Owned(text)
    }
}

impl From<String> for Statement {
    fn from(sql: String) -> Self {
        Self { sql: sql.into(), values: Vec::new() }
    }
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Self { sql: sql.into(), values: Vec::new() }
    }
}

/// Bytes as a literal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut literal = String::with_capacity(2 * bytes.len() + 3);
    literal.push_str("X'");
    for byte in bytes {
        let _ = write!(literal, "{byte:02x}");
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_literals() {
        let sql: Arc<str> = "SELECT ?, ? + 1".into();
        let statement = Statement::with_values(&sql, vec![Datum::Bytes(b"?'\0".to_vec()), Datum::Number(-7)]);
        assert_eq!(statement.to_text(), "SELECT X'3f2700', -7 + 1");
        assert_eq!(statement.into_values(), [Value::Bytes(b"?'\0".to_vec()), Value::Int(-7)]);
    }
}
