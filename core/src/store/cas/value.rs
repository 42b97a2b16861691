use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::json;
use crate::store::rules::Row;
use crate::store::{
    Fence, HolderName, LockId, OwnerToken, StoreError, StoreErrorKind, StoreTime, duration_from_micros,
    duration_to_micros,
};

/// The version of the format, the value of the field `db_mutex`.
const FORMAT: &str = "1";

/// What the kit keeps as the value of a lock id: a JSON object, which other programs may read.
///
/// ```json
/// {"db_mutex":"1","lock_id":"nightly","owner":"9f0c…","released_by":null,"fence":"1577836800000000",
///  "holder":"web-1 pid 4711","acquired_at":"1577836800000000","released_at":null,"expires_at":"1577838600000000",
///  "ttl":"1800000000","nonce":"5e0d4cbb4f2a9d31"}
/// ```
///
/// | field | meaning |
/// |---|---|
/// | `db_mutex` | the version of this format |
/// | `lock_id` | the lock id as it was given |
/// | `owner`, `released_by` | owner tokens in hexadecimal, or null; **secrets**: anyone who knows a token can release the lock |
/// | `fence` | the fencing token of the latest acquisition |
/// | `holder` | who acquired it last, for people |
/// | `acquired_at`, `released_at`, `expires_at` | microseconds since 1970, UTC, by the store's clock; `released_at` is null until the release, `expires_at` is `never` for a lease without an end and 0 after a release |
/// | `ttl` | the longest TTL asked for, or the length of the rest, in microseconds, or `never` |
/// | `nonce` | random, new with each write, so that no two values are equal |
///
/// All numbers are decimal digits in strings: JSON's own numbers lose their last digits in many languages. A lock is taken
/// while `expires_at` is `never` or later than the store's clock. A value with another version or with an unknown field is
/// refused with an error, since ignoring the field could break what its writer promises.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// Which lock.
    pub lock_id: LockId,
    /// Its row.
    pub row: Row,
}

impl Stored {
    /// The row of a lock.
    pub fn new(lock_id: LockId, row: Row) -> Self {
        Self { lock_id, row }
    }

    /// The value to write. No two are equal.
    ///
    /// # Errors
    /// If the operating system has no random numbers.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        let random = OwnerToken::mint().map_err(|error| {
            let message = "the operating system has no random numbers";
            StoreError::new(StoreErrorKind::Other, message).with_source(error).undone()
        })?;
        let nonce = random.to_hex()[..16].to_owned();
        let row = &self.row;
        let members = [
            ("db_mutex", Some(FORMAT.to_owned())),
            ("lock_id", Some(self.lock_id.to_string())),
            ("owner", row.owner.map(|token| token.to_hex())),
            ("released_by", row.released_by.map(|token| token.to_hex())),
            ("fence", Some(row.fence.to_string())),
            ("holder", Some(row.holder.to_string())),
            ("acquired_at", Some(micros(row.acquired_at.as_micros()))),
            ("released_at", row.released_at.map(|at| micros(at.as_micros()))),
            ("expires_at", Some(micros(row.expires_at.as_micros()))),
            ("ttl", Some(micros(duration_to_micros(row.ttl)))),
            ("nonce", Some(nonce)),
        ];
        Ok(json::write(members).into_bytes())
    }

    /// Reads a value.
    ///
    /// # Errors
    /// If it is not one of this format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        let text = std::str::from_utf8(bytes).map_err(|_| unreadable(None, "it is not UTF-8"))?;
        let members = json::read(text).map_err(|what| unreadable(None, &what))?;
        let mut fields = Fields(members.into_iter().collect());
        let lock_id = fields.0.get("lock_id").cloned().flatten();
        fields.stored().map_err(|what| unreadable(lock_id.as_deref(), &what))
    }
}

/// Does not show the owner tokens.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("lock_id", &self.lock_id).field("row", &self.row).finish()
    }
}

/// Never is a word, since the number that stands for it is none in many languages.
fn micros(micros: i64) -> String {
    if micros == StoreTime::NEVER.as_micros() { "never".to_owned() } else { micros.to_string() }
}

fn unreadable(lock_id: Option<&str>, what: &str) -> StoreError {
    // It may contain anything: a part of it is enough, without what could break a line.
    let id = lock_id.map(|id| format!(" of lock `{}`", HolderName::lossy(id)));
    let message = format!("the value{} cannot be read: {}", id.unwrap_or_default(), HolderName::lossy(what));
    StoreError::new(StoreErrorKind::Schema, message)
}

/// The fields that are still to be read.
struct Fields(BTreeMap<String, Option<String>>);

impl Fields {
    fn stored(&mut self) -> Result<Stored, String> {
        let format = self.text("db_mutex")?;
        if format != FORMAT {
            return Err(format!("it has the format {format}, and this version of db-mutex reads {FORMAT}"));
        }
        let lock_id = LockId::new(self.text("lock_id")?).map_err(|error| error.to_string())?;
        let row = Row {
            owner: self.token("owner")?,
            released_by: self.token("released_by")?,
            fence: Fence::new(self.number("fence")?),
            holder: HolderName::lossy(&self.text("holder")?),
            acquired_at: self.time("acquired_at")?,
            released_at: match self.is_null("released_at") {
                true => None,
                false => Some(self.time("released_at")?),
            },
            expires_at: self.time("expires_at")?,
            ttl: self.ttl()?,
        };
        self.text("nonce")?;
        match self.0.keys().next() {
            Some(unknown) => Err(format!("it has the field `{unknown}`, which this version of db-mutex does not know")),
            None => Ok(Stored { lock_id, row }),
        }
    }

    /// Takes a field that must be a string.
    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.0.remove(name) {
            Some(Some(text)) => Ok(text),
            Some(None) => Err(format!("its field `{name}` is null")),
            None => Err(format!("it has no field `{name}`")),
        }
    }

    /// Takes a field if it is null.
    fn is_null(&mut self, name: &str) -> bool {
        let is_null = self.0.get(name) == Some(&None);
        if is_null {
            self.0.remove(name);
        }
        is_null
    }

    fn token(&mut self, name: &str) -> Result<Option<OwnerToken>, String> {
        if self.is_null(name) {
            return Ok(None);
        }
        let token = OwnerToken::from_hex(&self.text(name)?);
        token.map(Some).ok_or_else(|| format!("its field `{name}` is not 32 hexadecimal digits"))
    }

    fn number(&mut self, name: &str) -> Result<i64, String> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("its field `{name}` is `{text}`, which is no whole number of 64 bits"))
    }

    fn micros(&mut self, name: &str) -> Result<i64, String> {
        if self.0.get(name).is_some_and(|value| value.as_deref() == Some("never")) {
            self.0.remove(name);
            return Ok(StoreTime::NEVER.as_micros());
        }
        self.number(name)
    }

    fn time(&mut self, name: &str) -> Result<StoreTime, String> {
        self.micros(name).map(StoreTime::from_micros)
    }

    fn ttl(&mut self) -> Result<Option<Duration>, String> {
        self.micros("ttl").map(duration_from_micros)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::store::Ttl;

    fn id(text: &str) -> LockId {
        LockId::new(text).unwrap()
    }

    fn held() -> Stored {
        let (owner, holder) = (OwnerToken::from_bytes([0xab; 16]), HolderName::new("web-1 \"x\" \\ é😀").unwrap());
        let row = Row::new(
            owner,
            Fence::new(i64::MAX - 1),
            holder,
            StoreTime::from_micros(1_577_836_800_000_001),
            Ttl::NEVER,
        );
        Stored::new(id("nightly \"1\" 😀"), row)
    }

    fn released() -> Stored {
        let Stored { lock_id, row } = held();
        let row = Row {
            owner: None,
            released_by: row.owner,
            released_at: Some(StoreTime::from_micros(1_577_836_800_000_777)),
            expires_at: StoreTime::ZERO,
            ttl: Some(Duration::from_micros(90_123_456)),
            ..row
        };
        Stored { lock_id, row }
    }

    #[test]
    fn every_field_comes_back() {
        for stored in [held(), released()] {
            assert_eq!(Stored::from_bytes(&stored.to_bytes().unwrap()).unwrap(), stored);
        }
    }

    /// What others find, and what they may write in another layout.
    #[test]
    fn it_is_json_without_numbers() {
        let value: Value = serde_json::from_slice(&released().to_bytes().unwrap()).unwrap();
        let nonce = value["nonce"].clone();
        let expected = json!({
            "db_mutex": "1", "lock_id": "nightly \"1\" 😀", "owner": null, "released_by": "ab".repeat(16),
            "fence": "9223372036854775806", "holder": "web-1 \"x\" \\ é😀", "acquired_at": "1577836800000001",
            "released_at": "1577836800000777", "expires_at": "0", "ttl": "90123456", "nonce": nonce,
        });
        assert_eq!(value, expected);
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        assert_eq!(Stored::from_bytes(&pretty).unwrap(), released());
        let value: Value = serde_json::from_slice(&held().to_bytes().unwrap()).unwrap();
        assert_eq!((&value["expires_at"], &value["ttl"]), (&json!("never"), &json!("never")));
    }

    #[test]
    fn no_two_values_are_equal() {
        assert_ne!(held().to_bytes().unwrap(), held().to_bytes().unwrap());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_reason() {
        let value: Value = serde_json::from_slice(&held().to_bytes().unwrap()).unwrap();
        let with = |field: &str, to: Option<Value>| {
            let mut changed = value.clone();
            match to {
                Some(to) => changed[field] = to,
                None => _ = changed.as_object_mut().unwrap().remove(field),
            }
            serde_json::to_vec(&changed).unwrap()
        };
        let wrong = [
            (with("db_mutex", Some(json!("2"))), "it has the format 2, and this version of db-mutex reads 1"),
            (
                with("shared_by", Some(json!("3"))),
                "the field `shared_by`, which this version of db-mutex does not know",
            ),
            (with("fence", Some(json!("1.5"))), "`fence` is `1.5`"),
            (with("fence", Some(json!("never"))), "`fence` is `never`"),
            (with("fence", Some(json!(5))), "`fence` is neither a string nor null"),
            (with("expires_at", Some(json!("9223372036854775808"))), "`expires_at` is `9223372036854775808`"),
            (with("expires_at", Some(Value::Null)), "`expires_at` is null"),
            (with("owner", Some(json!("abc"))), "`owner` is not 32 hexadecimal digits"),
            (with("ttl", None), "it has no field `ttl`"),
            (with("nonce", None), "it has no field `nonce`"),
            (b"\xff".to_vec(), "it is not UTF-8"),
            (b"".to_vec(), "it is not a JSON object"),
        ];
        for (bytes, reason) in wrong {
            let error = Stored::from_bytes(&bytes).unwrap_err();
            assert!(error.to_string().contains(reason), "{error} does not contain: {reason}");
            assert_eq!(error.kind(), StoreErrorKind::Schema);
        }
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_token() {
        let secret = "ab".repeat(16);
        assert!(!format!("{:?}", held()).contains("171") && !format!("{:?}", held()).contains(&secret));
        let cut = &held().to_bytes().unwrap()[..200];
        assert!(!Stored::from_bytes(cut).unwrap_err().to_string().contains("abab"));
    }
}
