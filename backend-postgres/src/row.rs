//! Reading what statements return.

use db_mutex_core::{Fence, HolderText, Lease, LockId, LockRow, StoreError, StoreErrorKind as Kind};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// A column.
pub(crate) fn read<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, StoreError> {
    row.try_get(at).map_err(unreadable)
}

/// Fence, acquisition and expiry, from column `at` on.
pub(crate) fn read_lease(row: &Row, at: usize) -> Result<Lease, StoreError> {
    Ok(Lease::new(Fence::new(read(row, at)?), read(row, at + 1)?, read(row, at + 2)?))
}

/// The columns of `sql`'s `ROW` and the clock, from column `at` on.
pub(crate) fn read_row(row: &Row, at: usize) -> Result<LockRow, StoreError> {
    let id = LockId::new(read::<&str>(row, at)?).map_err(|invalid| {
        StoreError::new(Kind::Schema, "the table has a row that is not db-mutex's").with_source(invalid)
    })?;
    let lease = Lease::new(Fence::new(read(row, at + 2)?), read(row, at + 4)?, read(row, at + 6)?);
    let mut found = LockRow::new(id, HolderText::lossy(read(row, at + 3)?), lease);
    found.owned = read(row, at + 1)?;
    found.released_at_us = read(row, at + 5)?;
    found.ttl_us = read(row, at + 7)?;
    found.now_us = read(row, at + 8)?;
    Ok(found)
}

fn unreadable(error: tokio_postgres::Error) -> StoreError {
    StoreError::new(Kind::Schema, "PostgreSQL returned a row that is not db-mutex's").with_source(error)
}
