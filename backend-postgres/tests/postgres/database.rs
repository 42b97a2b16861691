//! A table of its own for each test, and the words in which the tests speak to it.

use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, InsertRequest, Inserted, Lease, LockStore, RenewRequest};
use db_mutex_core::{DbMutex, HolderName, LockId, OwnerToken, StoreError, TableName, Ttl};
use db_mutex_postgres::{PostgresStore, PostgresStoreBuilder};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn table(name: &str) -> TableName {
    TableName::new(format!("{name}_{}", std::process::id())).unwrap()
}

pub(crate) fn builder(name: &str) -> PostgresStoreBuilder {
    PostgresStore::builder().table(table(name))
}

pub(crate) async fn store(name: &str) -> PostgresStore {
    builder(name).connect(&crate::server::url("postgres")).await.unwrap()
}

pub(crate) fn mutex(store: &PostgresStore) -> DbMutex {
    DbMutex::new(Arc::new(store.clone())).unwrap()
}

pub(crate) fn id(text: &str) -> LockId {
    LockId::new(text).unwrap()
}

pub(crate) fn owner() -> OwnerToken {
    OwnerToken::mint().unwrap()
}

pub(crate) fn insert(lock_id: &str, owner: OwnerToken, ttl: Duration) -> InsertRequest {
    InsertRequest::new(id(lock_id), owner, Ttl::new(ttl).unwrap(), HolderName::new("test").unwrap())
}

pub(crate) fn renewal(lock_id: &str, owner: OwnerToken, ttl: Duration) -> RenewRequest {
    RenewRequest::new(id(lock_id), owner, Ttl::new(ttl).unwrap())
}

pub(crate) fn release(lock_id: &str, owner: OwnerToken) -> DeleteRequest {
    DeleteRequest::by_owner(id(lock_id), owner)
}

pub(crate) async fn ask(store: &PostgresStore, lock_id: &str, ttl: Duration) -> Result<Inserted, StoreError> {
    store.insert_if_absent(&insert(lock_id, owner(), ttl)).await
}

/// A lock that has to be granted.
pub(crate) async fn grant(store: &PostgresStore, lock_id: &str, ttl: Duration) -> (OwnerToken, Lease) {
    let owner = owner();
    match store.insert_if_absent(&insert(lock_id, owner, ttl)).await.unwrap() {
        Inserted::Granted(lease) => (owner, lease),
        other => panic!("`{lock_id}` was not granted: {other:?}"),
    }
}

/// Waits until the store says that the lease is over.
pub(crate) async fn until_free(store: &PostgresStore, lock_id: &str) {
    for _ in 0..3_000 {
        if !store.find(&id(lock_id)).await.unwrap().is_some_and(|row| row.is_taken()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("`{lock_id}` did not become free within 30 s");
}

/// Waits until the row of the lock says that it is waited for.
pub(crate) async fn until_wanted(admin: &tokio_postgres::Client, table: &TableName, lock_id: &str) {
    let wanted = format!(
        "SELECT count(*) FROM {table} WHERE lock_id = $1
         AND wanted_until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    );
    until(admin, &wanted, &[&lock_id], 1).await;
}

/// Waits until a query answers this number.
pub(crate) async fn until(
    admin: &tokio_postgres::Client,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    number: i64,
) {
    for _ in 0..30_000 {
        if admin.query_one(sql, parameters).await.unwrap().get::<_, i64>(0) == number {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("not within 30 s: {sql} = {number}");
}
