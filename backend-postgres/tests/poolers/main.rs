//! Poolers and proxies between a store and its server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod balanced;
mod failover;
mod modes;
mod quiet;
#[path = "../server/mod.rs"]
mod server;
mod shared;
mod switching;

use db_mutex_core::TableName;
use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{HolderName, LockId, OwnerToken, Ttl};
use db_mutex_postgres::PostgresStore;

fn table(name: &str) -> TableName {
    TableName::new(format!("{name}_{}", std::process::id())).unwrap()
}

fn request(id: &str) -> InsertRequest {
    let holder = HolderName::of_this_process();
    InsertRequest::new(LockId::new(id).unwrap(), OwnerToken::mint().unwrap(), Ttl::DEFAULT, holder)
}

/// A little of everything.
async fn work(store: &PostgresStore, id: &str) {
    let one = request(id);
    assert!(matches!(store.insert_if_absent(&one).await.unwrap(), Inserted::Granted(_)));
    assert!(matches!(store.insert_if_absent(&request(id)).await.unwrap(), Inserted::Held(_)));
    let renewal = RenewRequest::new(one.lock_id.clone(), one.owner, Ttl::DEFAULT);
    assert!(matches!(store.renew(&renewal).await.unwrap(), Renewed::Renewed(_)));
    assert!(store.find(&one.lock_id).await.unwrap().unwrap().owned);
    let release = DeleteRequest::by_owner(one.lock_id, one.owner);
    assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
}
