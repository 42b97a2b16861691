//! Exactly the rights that the crate's page lists are enough, and what a role without one of them is told.

use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{DbMutex, StoreError, StoreErrorKind as Kind, TableName, Ttl};
use db_mutex_postgres::{PostgresStore, PostgresStoreBuilder};

use crate::{fresh, request, server};

const LOCKS: &str = "GRANT SELECT, INSERT, UPDATE ON {schema}.db_mutex_locks TO {role};";
const VERSIONS: &str = "GRANT SELECT ON {schema}.db_mutex_locks_versions TO {role};";
const USAGE: &str = "GRANT USAGE ON SCHEMA {schema} TO {role};";

/// A role that has nothing but these rights, and a schema of which another role is the owner.
struct Limited {
    name: String,
}

impl Limited {
    async fn new() -> Self {
        let name = fresh("limited");
        let sql = format!("CREATE ROLE {name} LOGIN PASSWORD '{name}'; CREATE SCHEMA {name};");
        server::administrator().await.batch_execute(&sql).await.unwrap();
        Self { name }
    }

    async fn with_table(rights: &[&str]) -> Self {
        let limited = Self::new().await;
        limited.builder().connect(&server::url("postgres")).await.unwrap();
        for right in rights {
            let sql = right.replace("{schema}", &limited.name).replace("{role}", &limited.name);
            server::administrator().await.batch_execute(&sql).await.unwrap();
        }
        limited
    }

    fn builder(&self) -> PostgresStoreBuilder {
        PostgresStore::builder().schema(TableName::new(&self.name).unwrap())
    }

    fn url(&self) -> String {
        server::as_user(&server::url("postgres"), &self.name)
    }

    async fn connect(&self) -> Result<PostgresStore, StoreError> {
        self.builder().connect(&self.url()).await
    }
}

#[track_caller]
fn assert_tells(error: &StoreError, words: &[&str]) {
    assert_eq!(error.kind(), Kind::Config, "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "{word} is missing: {error}");
    }
}

#[tokio::test]
async fn the_listed_rights_are_enough_for_every_operation() {
    let limited = Limited::with_table(&[LOCKS, VERSIONS, USAGE]).await;
    let store = limited.connect().await.unwrap();

    let one = request("one");
    assert!(matches!(store.insert_if_absent(&one).await.unwrap(), Inserted::Granted(_)));
    assert!(matches!(store.insert_if_absent(&request("one")).await.unwrap(), Inserted::Held(_)));
    let renewal = RenewRequest::new(one.lock_id.clone(), one.owner, Ttl::NEVER);
    assert!(matches!(store.renew(&renewal).await.unwrap(), Renewed::Renewed(_)));
    assert!(store.find(&one.lock_id).await.unwrap().unwrap().owned);
    assert_eq!(store.list(&ListFilter::taken()).await.unwrap().len(), 1);
    let release = DeleteRequest::by_owner(one.lock_id.clone(), one.owner);
    assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
    // The row is taken over, then forced free.
    let Inserted::Granted(lease) = store.insert_if_absent(&request("one")).await.unwrap() else {
        panic!("a released lock was not granted")
    };
    let force = DeleteRequest::by_fence(one.lock_id, lease.fence);
    assert_eq!(store.delete(&force).await.unwrap(), Deleted::Released);

    let many = [request("two"), request("three")];
    let granted = store.insert_many(&many).await;
    assert!(granted.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))), "{granted:?}");
    let renewals = many.each_ref().map(|of| RenewRequest::new(of.lock_id.clone(), of.owner, Ttl::DEFAULT));
    let renewed = store.renew_many(&renewals).await;
    assert!(renewed.iter().all(|answer| matches!(answer, Ok(Renewed::Renewed(_)))), "{renewed:?}");
    let releases = many.each_ref().map(|of| DeleteRequest::by_owner(of.lock_id.clone(), of.owner));
    for answer in store.delete_many(&releases).await {
        assert_eq!(answer.unwrap(), Deleted::Released);
    }
    assert_eq!(store.list(&ListFilter::all()).await.unwrap().len(), 3);

    store.migrate().await.expect("there is nothing to do");
}

#[tokio::test]
async fn the_listed_rights_are_enough_for_verifying() {
    let limited = Limited::with_table(&[LOCKS, VERSIONS, USAGE]).await;
    let store = limited.connect().await.unwrap();
    let mutex = DbMutex::new(Arc::new(store.clone())).unwrap();
    let guard = mutex.lock("verified").acquire().await.unwrap();
    let mut client = server::connection(&limited.url()).await;
    let transaction = client.transaction().await.unwrap();
    assert_eq!(store.verify_in(&transaction, &guard).await.unwrap(), guard.fence());
    transaction.commit().await.unwrap();
    guard.release().await.unwrap();
}

#[tokio::test]
async fn only_purging_needs_delete_and_says_so() {
    let limited = Limited::with_table(&[LOCKS, VERSIONS, USAGE]).await;
    let store = limited.connect().await.unwrap();
    let over = request("over");
    store.insert_if_absent(&over).await.unwrap();
    store.delete(&DeleteRequest::by_owner(over.lock_id, over.owner)).await.unwrap();
    assert_tells(&store.purge_expired(Duration::ZERO).await.unwrap_err(), &["DELETE"]);

    let grant = format!("GRANT DELETE ON {0}.db_mutex_locks TO {0}", limited.name);
    server::administrator().await.batch_execute(&grant).await.unwrap();
    assert_eq!(store.purge_expired(Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test]
async fn who_may_not_create_the_table_is_told_who_may() {
    let limited = Limited::new().await;
    let usage = USAGE.replace("{schema}", &limited.name).replace("{role}", &limited.name);
    server::administrator().await.batch_execute(&usage).await.unwrap();
    assert_tells(&limited.connect().await.unwrap_err(), &["CREATE", "migrate --print"]);
}

#[tokio::test]
async fn each_missing_right_is_named() {
    let insert = "GRANT SELECT, INSERT ON {schema}.db_mutex_locks TO {role};";
    for (rights, words) in [
        (&[LOCKS, USAGE] as &[&str], &["SELECT", "_versions"] as &[&str]),
        (&[LOCKS, VERSIONS], &["USAGE"]),
        (&[], &["USAGE"]),
    ] {
        let error = Limited::with_table(rights).await.connect().await.unwrap_err();
        assert_tells(&error, words);
    }
    for rights in [&[insert, VERSIONS, USAGE] as &[&str], &[VERSIONS, USAGE]] {
        let store = Limited::with_table(rights).await.connect().await.unwrap();
        assert_tells(&store.insert_if_absent(&request("x")).await.unwrap_err(), &["SELECT", "INSERT", "UPDATE"]);
    }
}
