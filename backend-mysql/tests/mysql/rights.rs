use std::time::Duration;

use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::{DeleteRequest, Deleted, LockStore, RenewRequest, Renewed};
use db_mutex_core::{StoreErrorKind, Ttl};
use db_mutex_mysql::MySqlStore;

use crate::database::{Database, MINUTE, both, granted, request};

/// The URL of a user with these rights alone, on the table (`{t}`) of `database`.
async fn user_with(database: &Database, rights: &[&str]) -> String {
    let name = database.table.as_str();
    database.run(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY 's3cret-canary-too'")).await;
    for right in rights {
        database.run(&format!("GRANT {right} TO '{name}'@'%'")).await;
    }
    let (_, place) = database.url.rsplit_once('@').unwrap();
    format!("mysql://{name}:s3cret-canary-too@{place}")
}

const LEAST: &[&str] = &["SELECT, INSERT, UPDATE ON {t}", "SELECT ON {t}_versions"];

#[tokio::test]
async fn a_user_with_the_least_rights_can_do_all_but_purge() {
    for database in both() {
        drop(database.store().await);
        let url = user_with(&database, LEAST).await;
        let store = MySqlStore::builder().table(database.table.clone()).connect(&url).await.unwrap();
        let request = request("job", MINUTE);
        granted(store.insert_if_absent(&request).await.unwrap());
        let renewal = RenewRequest::new(request.lock_id.clone(), request.owner, Ttl::NEVER);
        assert!(matches!(store.renew(&renewal).await.unwrap(), Renewed::Renewed(_)));
        assert_eq!(store.list(&ListFilter::all()).await.unwrap().len(), 1);
        let release = DeleteRequest::by_owner(request.lock_id.clone(), request.owner);
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);

        let error = store.purge_expired(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("lacks a right"), "{error}");
        database.run(&format!("GRANT DELETE ON {{t}} TO '{}'@'%'", database.table)).await;
        assert_eq!(store.purge_expired(Duration::ZERO).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_user_who_may_not_create_the_table_is_told_what_to_do() {
    for database in both() {
        let url = user_with(&database, &["SELECT ON *.*"]).await;
        let error = MySqlStore::builder().table(database.table.clone()).connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Schema, "{error:?}");
        assert!(error.to_string().contains("administrator"), "{error}");
    }
}

/// A read-only primary must not look like a lock that is held. The tests' own user may write all the same.
///
/// `alone` calls this: on a server that tests share, the users of other tests could not write meanwhile.
pub(crate) async fn a_read_only_server_is_an_error_when_it_is_opened_and_later(database: &Database) {
    drop(database.store().await);
    let url = user_with(database, LEAST).await;
    let builder = MySqlStore::builder().table(database.table.clone());
    let store = builder.clone().connect(&url).await.unwrap();
    database.run("SET GLOBAL read_only = 1").await;
    let opened = builder.connect(&url).await;
    let asked = store.insert_if_absent(&request("job", MINUTE)).await;
    database.run("SET GLOBAL read_only = 0").await;
    for error in [opened.unwrap_err(), asked.unwrap_err()] {
        assert_eq!(error.kind(), StoreErrorKind::ReadOnly, "{error:?}");
    }
    granted(store.insert_if_absent(&request("job", MINUTE)).await.unwrap());
}
