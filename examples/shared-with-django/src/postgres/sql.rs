use std::time::SystemTime;

use db_mutex_core::admin::StoreTime;
use db_mutex_core::store::rules::Row;
use db_mutex_core::store::{duration_from_micros, duration_to_micros};
use db_mutex_core::{Fence, HolderName, LockId, OwnerToken, Ttl};
use tokio_postgres::{Client, Error, GenericClient, Transaction};

use crate::both::{Both, Change, DjangoRow, OurRow};

/// Beside Django's table, in the same schema.
const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS db_mutex_rust (
        lock_id     text   NOT NULL PRIMARY KEY,
        django_id   bigint,
        django_time bigint,
        owner       bytea,
        released_by bytea,
        fence       bigint NOT NULL,
        holder      text   NOT NULL,
        acquired_at bigint NOT NULL,
        released_at bigint,
        expires_at  bigint NOT NULL,
        ttl         bigint NOT NULL
    )";

/// The primary key is an integer or a bigint, depending on Django's DEFAULT_AUTO_FIELD.
const COLUMNS: &str = "
    django.id::bigint, django.creation_time, fence, django_id, owner, released_by, holder, acquired_at, released_at, expires_at,
    ttl, django_time, clock_timestamp()";

const WRITE: &str = "
    INSERT INTO db_mutex_rust
        (lock_id, django_id, owner, released_by, fence, holder, acquired_at, released_at, expires_at, ttl, django_time)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (lock_id) DO UPDATE SET
        (django_id, owner, released_by, fence, holder, acquired_at, released_at, expires_at, ttl, django_time) =
        ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Creates our table, and returns whether Django's exists.
pub(super) async fn prepare(client: &Client) -> Result<bool, Error> {
    let found = "SELECT to_regclass('db_mutex_dbmutex') IS NOT NULL, to_regclass('db_mutex_rust') IS NOT NULL";
    let found = client.query_one(found, &[]).await?;
    let (django, ours): (bool, bool) = (found.get(0), found.get(1));
    // Two workers that start together would both create it, and one of them would fail.
    if django && !ours {
        let alone = format!(
            "BEGIN; SET LOCAL lock_timeout = '5s'; LOCK TABLE db_mutex_dbmutex IN SHARE ROW EXCLUSIVE MODE; {CREATE}; COMMIT"
        );
        client.batch_execute(&alone).await?;
    }
    Ok(django)
}

/// Both rows of an id, without locks, and the clock.
pub(super) async fn read(client: &impl GenericClient, lock_id: &LockId) -> Result<(Both, StoreTime), Error> {
    let read = format!(
        "SELECT ids.lock_id, {COLUMNS} FROM (SELECT $1::text AS lock_id) AS ids
         LEFT JOIN db_mutex_dbmutex AS django ON django.lock_id = ids.lock_id
         LEFT JOIN db_mutex_rust    AS ours   ON ours.lock_id   = ids.lock_id"
    );
    let row = client.query_one(&read, &[&lock_id.as_str()]).await?;
    Ok((both(&row), store_time(row.get(13))))
}

/// All ids that can be a [`LockId`]; others are Django's alone.
pub(super) async fn read_all(client: &impl GenericClient) -> Result<Vec<(LockId, Both, StoreTime)>, Error> {
    let read = format!(
        "SELECT coalesce(django.lock_id, ours.lock_id)::text, {COLUMNS}
         FROM db_mutex_dbmutex AS django FULL JOIN db_mutex_rust AS ours ON ours.lock_id = django.lock_id
         ORDER BY coalesce(django.lock_id, ours.lock_id) COLLATE \"C\""
    );
    let rows = client.query(&read, &[]).await?;
    let valid = |row: &tokio_postgres::Row| LockId::new(row.get::<_, &str>(0)).ok();
    Ok(rows.iter().filter_map(|row| Some((valid(row)?, both(row), store_time(row.get(13))))).collect())
}

/// Locks both rows, so that Django deletes neither, or fails at once if another transaction has locked one. Django's row can
/// still appear if there is none: then the unique constraint decides.
pub(super) async fn lock(transaction: &Transaction<'_>, lock_id: &LockId) -> Result<(), Error> {
    for table in ["db_mutex_rust", "db_mutex_dbmutex"] {
        let lock = format!("SELECT FROM {table} WHERE lock_id = $1 FOR UPDATE NOWAIT");
        transaction.query(&lock, &[&lock_id.as_str()]).await?;
    }
    Ok(())
}

/// Writes what a rule has made of the rows. Returns `false` if Django was faster, and the transaction has to be rolled back.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    lock_id: &LockId,
    both: &Both,
    after: &Row,
    change: Change,
) -> Result<bool, Error> {
    let id = both.django.map(|django| django.id);
    let mut django = None;
    match change {
        Change::Move(to) => {
            let update = "UPDATE db_mutex_dbmutex SET creation_time = $2 WHERE id = $1::bigint";
            transaction.execute(update, &[&id, &to.to_system_time()]).await?;
            django = id.map(|id| DjangoRow { id, creation_time: to });
        }
        Change::Delete | Change::Replace(_) => {
            let delete = "DELETE FROM db_mutex_dbmutex WHERE id = $1::bigint";
            transaction.execute(delete, &[&id]).await?;
        }
    }
    if let Change::Replace(creation_time) = change {
        let insert = "INSERT INTO db_mutex_dbmutex (lock_id, creation_time) VALUES ($1, $2)
            ON CONFLICT (lock_id) DO NOTHING RETURNING id::bigint";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
            [&lock_id.as_str(), &creation_time.to_system_time()];
        match transaction.query_opt(insert, &parameters).await? {
            Some(row) => django = Some(DjangoRow { id: row.get(0), creation_time }),
            None => return Ok(false),
        }
    }
    // What Django holds is in its own table alone.
    if !both.is_djangos(after) {
        let token = |token: &Option<OwnerToken>| token.map(|token| token.as_bytes().to_vec());
        let released_at = after.released_at.map(StoreTime::as_micros);
        transaction
            .execute(
                WRITE,
                &[
                    &lock_id.as_str(),
                    &django.map(|django| django.id),
                    &token(&after.owner),
                    &token(&after.released_by),
                    &after.fence.get(),
                    &after.holder.as_str(),
                    &after.acquired_at.as_micros(),
                    &released_at,
                    &after.expires_at.as_micros(),
                    &duration_to_micros(after.ttl),
                    &django.map(|django| django.creation_time.as_micros()),
                ],
            )
            .await?;
    }
    Ok(true)
}

/// Deletes both rows.
pub(super) async fn delete(transaction: &Transaction<'_>, lock_id: &LockId) -> Result<(), Error> {
    for table in ["db_mutex_rust", "db_mutex_dbmutex"] {
        let delete = format!("DELETE FROM {table} WHERE lock_id = $1");
        transaction.execute(&delete, &[&lock_id.as_str()]).await?;
    }
    Ok(())
}

fn both(row: &tokio_postgres::Row) -> Both {
    let django = row.get::<_, Option<i64>>(1).map(|id| DjangoRow { id, creation_time: store_time(row.get(2)) });
    let ours = row.get::<_, Option<i64>>(3).map(|fence| {
        let token = |column| {
            let bytes = row.get::<_, Option<&[u8]>>(column).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            bytes.map(OwnerToken::from_bytes)
        };
        let acquired_at = StoreTime::from_micros(row.get(8));
        let holder = HolderName::lossy(row.get(7));
        let mut ours = Row::new(OwnerToken::from_bytes([0; 16]), Fence::new(fence), holder, acquired_at, Ttl::NEVER);
        ours.owner = token(5);
        ours.released_by = token(6);
        ours.released_at = row.get::<_, Option<i64>>(9).map(StoreTime::from_micros);
        ours.expires_at = StoreTime::from_micros(row.get(10));
        ours.ttl = duration_from_micros(row.get(11));
        let (id, time) = (row.get::<_, Option<i64>>(4), row.get::<_, Option<i64>>(12));
        let django = id.zip(time).map(|(id, time)| DjangoRow { id, creation_time: StoreTime::from_micros(time) });
        OurRow { row: ours, django }
    });
    Both { django, ours }
}

fn store_time(time: SystemTime) -> StoreTime {
    StoreTime::ZERO + time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
