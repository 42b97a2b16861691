//! The two servers that the tests run on.

use std::sync::LazyLock;
use std::time::Duration;

use db_mutex_core::{Fence, LockId, TableName};
use db_mutex_mysql::mysql_async::prelude::Queryable;
use db_mutex_mysql::mysql_async::{Conn, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};
use db_mutex_mysql::{MySqlStore, MySqlStoreBuilder};
use db_mutex_test_servers::url;

pub(crate) static MARIADB: LazyLock<String> = LazyLock::new(|| url("mariadb"));
pub(crate) static MYSQL: LazyLock<String> = LazyLock::new(|| url("mysql"));

/// Options for a store with a table of that name. Unless a test is about timeouts, its requests have the time that they need on
/// a very busy machine.
pub(crate) fn builder(table: TableName) -> MySqlStoreBuilder {
    MySqlStore::builder().table(table).statement_timeout(Duration::from_secs(60))
}

/// A store with a table of that name, on an application's pool, which runs `session` on each connection.
pub(crate) async fn open_hostile(url: &str, namespace: String, session: &str) -> MySqlStore {
    let table = TableName::new(namespace).expect("a namespace can name a table");
    let pool = pool_with(url, session);
    builder(table).from_pool(pool).await.expect("the server can be used")
}

/// A user's pool.
pub(crate) fn pool_with(url: &str, session: &str) -> Pool {
    pool_of(8, url, session)
}

/// A user's pool of some connections: the session is set up once for each, and never reset.
pub(crate) fn pool_of(connections: usize, url: &str, session: &str) -> Pool {
    let opts = Opts::from_url(url).expect("the test's URL is valid");
    let pool = PoolOpts::new()
        .with_constraints(PoolConstraints::new(connections, connections).expect("a number is not below itself"))
        .with_reset_connection(false);
    let opts = OptsBuilder::from_opts(opts).prefer_socket(false).pool_opts(pool).client_found_rows(true);
    Pool::new(if session.is_empty() { opts } else { opts.init(vec![session]) })
}

/// A connection of another client, which commits each of its statements, with any default of the server.
pub(crate) async fn connect(url: &str) -> Conn {
    let opts = OptsBuilder::from_opts(Opts::from_url(url).expect("the test's URL is valid")).prefer_socket(false);
    Conn::new(opts.init(vec!["SET autocommit = 1"])).await.expect("the server can be used")
}

/// Locks the row of an id in a transaction, until the connection is dropped.
pub(crate) async fn lock_row(url: &str, table: &str, lock_id: &LockId) -> Conn {
    let mut connection = connect(url).await;
    connection.query_drop("START TRANSACTION").await.expect("a transaction can be begun");
    let select = format!("SELECT fence FROM {table} WHERE lock_id = ? FOR UPDATE");
    let locked: Option<i64> =
        connection.exec_first(select, (lock_id.as_str().as_bytes(),)).await.expect("the row can be locked");
    assert!(locked.is_some(), "there is no row to lock");
    connection
}

/// Moves the times of a row, as if the clock had been ahead when it was written.
pub(crate) async fn shift_row(url: &str, table: &str, lock_id: &LockId, by: Duration) {
    let by_us = i64::try_from(by.as_micros()).expect("tests shift by years at most");
    let update =
        format!("UPDATE {table} SET acquired_at = acquired_at + ?, expires_at = expires_at + ? WHERE lock_id = ?");
    let values = (by_us, by_us, lock_id.as_str().as_bytes());
    connect(url).await.exec_drop(update, values).await.expect("the row can be changed");
}

/// Gives a row another fencing token.
pub(crate) async fn plant_fence(url: &str, table: &str, lock_id: &LockId, fence: Fence) {
    let update = format!("UPDATE {table} SET fence = ? WHERE lock_id = ?");
    connect(url)
        .await
        .exec_drop(update, (fence.get(), lock_id.as_str().as_bytes()))
        .await
        .expect("the row can be changed");
}
