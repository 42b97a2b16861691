//! The conformance suite: on a connection as it comes, under hostile defaults of the role, through a pool of the
//! application, and through PgBouncer in transaction mode.

use std::time::Duration;

use db_mutex_core::{Fence, LockId, TableName};
use db_mutex_postgres::tokio_postgres::Client;
use db_mutex_postgres::{PostgresStore, PostgresStoreBuilder};

mod server;

/// On a busy machine, a request may take longer than the default limit allows. None of the cases is about that limit.
const LIMIT: Duration = Duration::from_secs(60);

fn builder(namespace: &str) -> PostgresStoreBuilder {
    let table = TableName::new(namespace).expect("a namespace can name a table");
    PostgresStore::builder().table(table).pool_size(2).statement_timeout(LIMIT)
}

/// Locks a row until the value is dropped: with it goes the connection, and the transaction.
async fn lock_row(namespace: String, lock_id: LockId) -> Client {
    let client = server::administrator().await;
    client.batch_execute("BEGIN").await.expect("a transaction can begin");
    let row = format!("SELECT FROM {namespace} WHERE lock_id = $1 FOR UPDATE");
    client.query_one(&row, &[&lock_id.as_str()]).await.expect("the row can be locked");
    client
}

async fn shift_row(namespace: String, lock_id: LockId, by: Duration) {
    let by_us = i64::try_from(by.as_micros()).expect("the suite shifts by years at most");
    let shift = format!(
        "UPDATE {namespace} SET acquired_at = acquired_at + $2, expires_at = expires_at + $2 WHERE lock_id = $1"
    );
    let client = server::administrator().await;
    assert_eq!(client.execute(&shift, &[&lock_id.as_str(), &by_us]).await.expect("the row can be changed"), 1);
}

async fn plant_fence(namespace: String, lock_id: LockId, fence: Fence) {
    let plant = format!("UPDATE {namespace} SET fence = $2 WHERE lock_id = $1");
    let client = server::administrator().await;
    assert_eq!(client.execute(&plant, &[&lock_id.as_str(), &fence.get()]).await.expect("the row can be changed"), 1);
}

/// As a role that gets this isolation level unless a session says otherwise.
async fn isolated(namespace: String, role: &str, level: &str) -> PostgresStore {
    server::role(role, &[("default_transaction_isolation", level), ("synchronous_commit", "off")]).await;
    let url = server::as_user(&server::url("postgres"), role);
    // A pool of the application: the level stays as it is.
    let config: db_mutex_postgres::tokio_postgres::Config = url.parse().expect("the url of a test server");
    let manager = db_mutex_postgres::deadpool_postgres::Manager::new(config, db_mutex_postgres::tokio_postgres::NoTls);
    let pool = db_mutex_postgres::deadpool_postgres::Pool::builder(manager).max_size(2).build().expect("a pool");
    builder(&namespace).from_pool(pool).await.expect("the server is up")
}

mod as_it_comes {
    db_mutex_conformance::suite!(
        |namespace| async move {
            super::builder(&namespace).connect(&super::server::url("postgres")).await.expect("the server is up")
        },
        lock_row = super::lock_row,
        shift_row = super::shift_row,
        plant_fence = super::plant_fence,
    );
}

mod where_roles_are_repeatable_read {
    db_mutex_conformance::suite!(
        |namespace| async move { super::isolated(namespace, "repeatable", "repeatable read").await },
        lock_row = super::lock_row,
        shift_row = super::shift_row,
        plant_fence = super::plant_fence,
    );
}

mod where_roles_are_serializable {
    db_mutex_conformance::suite!(
        |namespace| async move { super::isolated(namespace, "serializable_role", "serializable").await },
        lock_row = super::lock_row,
        shift_row = super::shift_row,
        plant_fence = super::plant_fence,
    );
}

mod through_pgbouncer {
    db_mutex_conformance::suite!(
        |namespace| async move {
            super::builder(&namespace)
                .prepared_statements(false)
                .connect(&super::server::url("pgbouncer"))
                .await
                .expect("the pooler is up")
        },
        lock_row = super::lock_row,
        shift_row = super::shift_row,
        plant_fence = super::plant_fence,
    );
}
