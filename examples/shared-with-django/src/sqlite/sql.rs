use std::time::SystemTime;

use db_mutex_core::admin::StoreTime;
use db_mutex_core::store::rules::Row;
use db_mutex_core::store::{duration_from_micros, duration_to_micros};
use db_mutex_core::{Fence, HolderName, LockId, OwnerToken, Ttl};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, Params, Result, Statement};

use crate::both::{Both, Change, DjangoRow, OurRow};

/// Beside Django's table, in the same database. Not STRICT: an older SQLite under Django could not read the file any more.
const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS db_mutex_rust (
        lock_id     TEXT    NOT NULL PRIMARY KEY,
        django_id   INTEGER,
        django_time INTEGER,
        owner       BLOB,
        released_by BLOB,
        fence       INTEGER NOT NULL,
        holder      TEXT    NOT NULL,
        acquired_at INTEGER NOT NULL,
        released_at INTEGER,
        expires_at  INTEGER NOT NULL,
        ttl         INTEGER NOT NULL
    ) WITHOUT ROWID";

/// Django writes UTC without a zone, and leaves the fraction out if it is zero.
const READ: &str = "
    SELECT ids.lock_id,
           django.id,
           strftime('%s', substr(creation_time, 1, 19)) * 1000000
               + CAST(substr(substr(creation_time, 21) || '000000', 1, 6) AS INTEGER),
           ours.fence, django_id, owner, released_by, holder, acquired_at, released_at, expires_at, ttl,
           django_time
    FROM (SELECT lock_id FROM db_mutex_dbmutex UNION SELECT lock_id FROM db_mutex_rust) AS ids
    LEFT JOIN db_mutex_dbmutex AS django ON django.lock_id = ids.lock_id
    LEFT JOIN db_mutex_rust    AS ours   ON ours.lock_id   = ids.lock_id";

const WRITE: &str = "
    INSERT OR REPLACE INTO db_mutex_rust
        (lock_id, django_id, owner, released_by, fence, holder, acquired_at, released_at, expires_at, ttl, django_time)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

/// Creates our table. Django's has to exist.
pub(crate) fn prepare(connection: &Connection) -> Result<Option<&'static str>> {
    let table = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'db_mutex_dbmutex'";
    let table: Option<String> = one_row(&mut connection.prepare(table)?, (), |row| row.get(0))?;
    match table {
        None => return Ok(Some("has no table db_mutex_dbmutex; run `manage.py migrate db_mutex` first")),
        // Otherwise an id could be assigned again, and a holder that is late would release its successor's lock.
        Some(sql) if !sql.to_ascii_uppercase().contains("AUTOINCREMENT") => {
            return Ok(Some("has a table db_mutex_dbmutex that was not made by Django: its id is not AUTOINCREMENT"));
        }
        Some(_) => {}
    }
    connection.execute_batch(CREATE)?;
    Ok(None)
}

/// The clock of the database: SQLite has none but that of the machine, which Django uses too. Read while the write lock is held.
pub(crate) fn now() -> StoreTime {
    StoreTime::ZERO + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn read(connection: &Connection, lock_id: &LockId) -> Result<Both> {
    let mut statement = connection.prepare_cached(&format!("{READ} WHERE ids.lock_id = ?1"))?;
    let found = one_row(&mut statement, [lock_id.as_str()], both)?;
    Ok(found.unwrap_or(Both { django: None, ours: None }))
}

/// All ids that can be a [`LockId`]; others are Django's alone.
pub(crate) fn read_all(connection: &Connection) -> Result<Vec<(LockId, Both)>> {
    let mut statement = connection.prepare_cached(&format!("{READ} ORDER BY ids.lock_id"))?;
    let rows = statement.query_map((), |row| Ok((row.get::<_, String>(0)?, both(row)?)))?;
    let mut all = Vec::new();
    for row in rows {
        let (lock_id, both) = row?;
        all.extend(LockId::new(lock_id).ok().map(|lock_id| (lock_id, both)));
    }
    Ok(all)
}

/// Writes what a rule has made of the rows.
pub(crate) fn write(connection: &Connection, lock_id: &LockId, both: &Both, after: &Row, change: Change) -> Result<()> {
    let id = both.django.map(|django| django.id);
    let mut django = None;
    match change {
        Change::Move(to) => {
            let update = "UPDATE db_mutex_dbmutex SET creation_time = ?2 WHERE id = ?1";
            connection.prepare_cached(update)?.execute((id, datetime(to)))?;
            django = id.map(|id| DjangoRow { id, creation_time: to });
        }
        Change::Delete | Change::Replace(_) => {
            connection.prepare_cached("DELETE FROM db_mutex_dbmutex WHERE id = ?1")?.execute([id])?;
        }
    }
    if let Change::Replace(creation_time) = change {
        // The unique constraint decides between Django and us, as it does between two processes of Django.
        let insert = "INSERT INTO db_mutex_dbmutex (lock_id, creation_time) VALUES (?1, ?2)";
        connection.prepare_cached(insert)?.execute((lock_id.as_str(), datetime(creation_time)))?;
        django = Some(DjangoRow { id: connection.last_insert_rowid(), creation_time });
    }
    // What Django holds is in its own table alone.
    if !both.is_djangos(after) {
        let token = |token: Option<OwnerToken>| token.map(|token| *token.as_bytes());
        connection.prepare_cached(WRITE)?.execute((
            lock_id.as_str(),
            django.map(|django| django.id),
            token(after.owner),
            token(after.released_by),
            after.fence.get(),
            after.holder.as_str(),
            after.acquired_at.as_micros(),
            after.released_at.map(StoreTime::as_micros),
            after.expires_at.as_micros(),
            duration_to_micros(after.ttl),
            django.map(|django| django.creation_time.as_micros()),
        ))?;
    }
    Ok(())
}

/// Deletes both rows.
pub(crate) fn delete(connection: &Connection, lock_id: &LockId) -> Result<()> {
    connection.prepare_cached("DELETE FROM db_mutex_dbmutex WHERE lock_id = ?1")?.execute([lock_id.as_str()])?;
    connection.prepare_cached("DELETE FROM db_mutex_rust WHERE lock_id = ?1")?.execute([lock_id.as_str()])?;
    Ok(())
}

/// Steps to the end, so that no statement stays open.
fn one_row<T>(
    statement: &mut Statement<'_>,
    parameters: impl Params,
    read: impl FnMut(&rusqlite::Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    statement.query_map(parameters, read)?.last().transpose()
}

fn both(row: &rusqlite::Row<'_>) -> Result<Both> {
    let django = match row.get::<_, Option<i64>>(1)? {
        Some(id) => Some(DjangoRow { id, creation_time: StoreTime::from_micros(row.get(2)?) }),
        None => None,
    };
    let ours = match row.get::<_, Option<i64>>(3)? {
        Some(fence) => Some(our_row(row, Fence::new(fence))?),
        None => None,
    };
    Ok(Both { django, ours })
}

fn our_row(row: &rusqlite::Row<'_>, fence: Fence) -> Result<OurRow> {
    let token = |column| Ok::<_, Error>(row.get::<_, Option<[u8; 16]>>(column)?.map(OwnerToken::from_bytes));
    let holder = row.get::<_, String>(7)?;
    let holder =
        HolderName::new(holder).map_err(|error| Error::FromSqlConversionFailure(7, Type::Text, error.into()))?;
    let acquired_at = StoreTime::from_micros(row.get(8)?);
    let mut ours = Row::new(OwnerToken::from_bytes([0; 16]), fence, holder, acquired_at, Ttl::NEVER);
    ours.owner = token(5)?;
    ours.released_by = token(6)?;
    ours.released_at = row.get::<_, Option<i64>>(9)?.map(StoreTime::from_micros);
    ours.expires_at = StoreTime::from_micros(row.get(10)?);
    ours.ttl = duration_from_micros(row.get(11)?);
    let (id, time) = (row.get::<_, Option<i64>>(4)?, row.get::<_, Option<i64>>(12)?);
    let django = id.zip(time).map(|(id, time)| DjangoRow { id, creation_time: StoreTime::from_micros(time) });
    Ok(OurRow { row: ours, django })
}

/// As Django writes it, so that its comparison of texts is one of times.
fn datetime(time: StoreTime) -> String {
    let text = time.to_string().replace('T', " ").replace('Z', "");
    text.strip_suffix(".000000").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_django_does() {
        assert_eq!(datetime(StoreTime::from_micros(1_391_212_800_000_000)), "2014-02-01 00:00:00");
        assert_eq!(datetime(StoreTime::from_micros(1_391_212_800_000_120)), "2014-02-01 00:00:00.000120");
    }
}
