//! Reading what the server sends. Text protocol: every value comes as bytes.

use db_mutex_core::store::{
    Fence, HolderName, Lease, LockId, LockRow, OwnerToken, StoreError, StoreErrorKind, StoreTime, Ttl,
    duration_from_micros,
};
use mysql_async::{Row, Value};

/// A row of the statements that begin with `Sql::select`. No `Debug`: it has owner tokens.
pub(crate) struct Found {
    pub(crate) row: LockRow,
    owner: Option<Vec<u8>>,
    released_by: Option<Vec<u8>>,
}

impl Found {
    pub(crate) fn read(row: Row) -> Result<Self, StoreError> {
        let mut values = row.unwrap().into_iter();
        let mut next = || values.next().unwrap_or(Value::NULL);
        let lock_id = text(next()).and_then(|id| LockId::new(id).ok()).ok_or_else(not_ours)?;
        let owner = bytes(next());
        let released_by = bytes(next());
        let fence = Fence::new(required(next())?);
        let holder = HolderName::lossy(&text(next()).ok_or_else(not_ours)?);
        let acquired_at = StoreTime::from_micros(required(next())?);
        let released_at = number(next()).map(StoreTime::from_micros);
        let expires_at = StoreTime::from_micros(required(next())?);
        let ttl = duration_from_micros(required(next())?);
        let now = StoreTime::from_micros(required(next())?);
        let mut row = LockRow::new(lock_id, holder, Lease::new(fence, acquired_at, expires_at));
        row.owned = owner.is_some();
        row.released_at = released_at;
        row.ttl = ttl;
        row.now = now;
        Ok(Self { row, owner, released_by })
    }

    /// Whether the owner was granted the lock, and no one after it. The token was minted for one acquisition.
    pub(crate) fn is_owned_by(&self, owner: &OwnerToken) -> bool {
        self.owner.as_deref() == Some(owner.as_bytes().as_slice())
    }

    /// Whether this owner was the last to be released.
    pub(crate) fn was_released_by(&self, owner: &OwnerToken) -> bool {
        self.released_by.as_deref() == Some(owner.as_bytes().as_slice())
    }

    /// Whether the row is as a renewal for `ttl` at that time leaves it. If it was skipped because it was locked, it is
    /// not, unless another request of the owner has done the same: that is as good.
    pub(crate) fn is_prolonged(&self, at: StoreTime, ttl: Ttl) -> bool {
        let longest = self.row.ttl.is_none_or(|recorded| ttl.duration().is_some_and(|ttl| recorded >= ttl));
        at != StoreTime::ZERO && self.row.expires_at >= at + ttl.duration() && longest
    }
}

/// The first column of the first row.
pub(crate) fn first(rows: Vec<Row>) -> Value {
    rows.into_iter().next().and_then(|row| row.unwrap().into_iter().next()).unwrap_or(Value::NULL)
}

pub(crate) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

pub(crate) fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

pub(crate) fn number(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::UInt(number) => i64::try_from(number).ok(),
        value => text(value)?.parse().ok(),
    }
}

fn required(value: Value) -> Result<i64, StoreError> {
    number(value).ok_or_else(not_ours)
}

fn not_ours() -> StoreError {
    StoreError::new(StoreErrorKind::Schema, "a row of the table was not written by db-mutex; remove it")
}
