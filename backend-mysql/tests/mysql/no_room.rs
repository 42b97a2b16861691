//! A server that has no connection left for us keeps the ones that we have.

use db_mutex_core::store::{LockStore, RenewRequest, Renewed};
use db_mutex_core::{StoreErrorKind, Ttl};
use db_mutex_mysql::MySqlStore;
use db_mutex_test_servers::OwnServer;

use crate::database::{Database, MINUTE, ask, both, granted, request};

/// A user of the table's name.
async fn user(database: &Database) -> String {
    let name = database.table.as_str();
    // The connections of a user without a limit are not counted.
    database.run(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY 'few' WITH MAX_USER_CONNECTIONS 100")).await;
    database.run(&format!("GRANT ALL ON dbmutex.* TO '{name}'@'%'")).await;
    format!("{name}:few@{}", place(database))
}

fn place(database: &Database) -> &str {
    database.url.rsplit_once('@').unwrap().1
}

/// From now on the user may open no further connection.
async fn close(database: &Database) {
    database.run(&format!("ALTER USER '{}'@'%' WITH MAX_USER_CONNECTIONS 1", database.table)).await;
    // Otherwise it has its old limit as long as it has a connection.
    database.run("FLUSH PRIVILEGES").await;
}

/// The connection in the background was closed when a second one was refused; then no renewal got one until the lease ended.
#[tokio::test]
async fn a_connection_that_is_refused_costs_none_of_those_that_are_open() {
    for database in both() {
        let url = format!("mysql://{}", user(&database).await);
        let store = MySqlStore::builder().table(database.table.clone()).pool_size(1).connect(&url).await.unwrap();
        let requests = ["one", "two"].map(|id| request(id, MINUTE));
        let renewals = requests
            .each_ref()
            .map(|request| RenewRequest::new(request.lock_id.clone(), request.owner, Ttl::new(MINUTE).unwrap()));
        for request in &requests {
            granted(store.insert_if_absent(request).await.unwrap());
        }
        let background = store.for_background().unwrap();
        // A connection for the requests, and one for the background.
        background.renew(&renewals[0]).await.unwrap();
        close(&database).await;
        let error = MySqlStore::builder().table(database.table.clone()).connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        for _ in 0..3 {
            // The second of the two finds the connection taken, and no room for another.
            let [one, two] = [0, 1].map(|at| background.renew(&renewals[at]));
            for renewed in <[_; 2]>::from(tokio::join!(one, two)) {
                assert!(matches!(renewed, Ok(Renewed::Renewed(_))), "{renewed:?}");
            }
        }
    }
}

/// The second host serves what the first has no room for; the connection to the first stays.
#[tokio::test]
async fn a_host_that_is_full_is_passed_over_and_not_left() {
    let (full, [other, _]) = (OwnServer::start("mariadb"), both());
    let full = Database { url: full.url().to_owned(), table: other.table.clone() };
    let login = user(&full).await;
    user(&other).await;
    let builder = MySqlStore::builder().table(other.table.clone());
    for database in [&full, &other] {
        builder.clone().connect(&database.url).await.unwrap();
    }
    let (login, name) = login.rsplit_once('/').unwrap();
    let second = place(&other).split('/').next().unwrap();
    let url = format!("mysql://{login},{second}/{name}");
    let store = builder.pool_size(2).connect(&url).await.unwrap();
    granted(ask(&store, "first", MINUTE).await.unwrap());
    close(&full).await;
    let rows = async |database: &Database| database.rows::<i64>("SELECT count(*) FROM {t}").await[0];
    for round in 0..3 {
        let ids = [format!("here {round}"), format!("there {round}")];
        let (one, two) = tokio::join!(ask(&store, &ids[0], MINUTE), ask(&store, &ids[1], MINUTE));
        granted(one.unwrap());
        granted(two.unwrap());
        assert_eq!([rows(&full).await, rows(&other).await], [2 + round, 1 + round]);
    }
}
