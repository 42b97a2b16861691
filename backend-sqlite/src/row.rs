use rusqlite::{Params, Row, Statement};

/// Runs a statement that returns at most one row, and steps to its end.
///
/// A write with `RETURNING` gives its row before the commit, which is at the end of the statement and may still fail. The
/// driver's own `query_row` stops at the first row; its `query_one` does not, but older versions do not have it.
pub(crate) fn one_row<T>(
    statement: &mut Statement<'_>,
    parameters: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut rows = statement.query(parameters)?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let value = read(row)?;
    while rows.next()?.is_some() {}
    Ok(Some(value))
}
