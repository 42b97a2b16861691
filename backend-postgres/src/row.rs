//! Reading what statements return.

use db_mutex_core::store::{
    Fence, HolderName, Lease, LockId, LockRow, StoreError, StoreErrorKind as Kind, StoreTime, duration_from_micros,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// A column.
pub(crate) fn read<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, StoreError> {
    row.try_get(at).map_err(unreadable)
}

/// A column that is a time.
fn time(row: &Row, at: usize) -> Result<StoreTime, StoreError> {
    read(row, at).map(StoreTime::from_micros)
}

/// Fence, acquisition and expiry, from column `at` on.
pub(crate) fn read_lease(row: &Row, at: usize) -> Result<Lease, StoreError> {
    Ok(Lease::new(Fence::new(read(row, at)?), time(row, at + 1)?, time(row, at + 2)?))
}

/// The columns of `sql`'s `ROW` and the clock, from column `at` on.
pub(crate) fn read_row(row: &Row, at: usize) -> Result<LockRow, StoreError> {
    let id = LockId::new(read::<&str>(row, at)?).map_err(|invalid| {
        StoreError::new(Kind::Schema, "the table has a row that is not db-mutex's").with_source(invalid)
    })?;
    let lease = Lease::new(Fence::new(read(row, at + 2)?), time(row, at + 4)?, time(row, at + 6)?);
    let mut found = LockRow::new(id, HolderName::lossy(read(row, at + 3)?), lease);
    found.owned = read(row, at + 1)?;
    found.released_at = read::<Option<i64>>(row, at + 5)?.map(StoreTime::from_micros);
    found.ttl = duration_from_micros(read(row, at + 7)?);
    found.now = time(row, at + 8)?;
    Ok(found)
}

fn unreadable(error: tokio_postgres::Error) -> StoreError {
    StoreError::new(Kind::Schema, "PostgreSQL returned a row that is not db-mutex's").with_source(error)
}
