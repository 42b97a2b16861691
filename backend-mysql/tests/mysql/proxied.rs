//! Connections that are broken in every way, at random, under load; and grants whose reply does not come.

use std::time::Duration;

use db_mutex_core::Ttl;
use db_mutex_core::store::{LockStore, RenewRequest};
use db_mutex_mysql::MySqlStore;
use db_mutex_test_servers::Proxy;
use db_mutex_test_servers::load::{Scenario, seeds};

use crate::database::{Database, MINUTE, ask, both, granted, id, request};
use crate::servers::{MARIADB, MYSQL};

/// Odd seeds on MariaDB, even ones on MySQL.
async fn scenario(seed: u64) {
    let (server, url) = if seed % 2 == 1 { ("MariaDB", &*MARIADB) } else { ("MySQL", &*MYSQL) };
    let database = Database::new(url);
    let (near, proxy) = (database.store().await, Proxy::to(url).await);
    // Few connections: all tests share those of the server.
    let through = async |size| {
        let builder = MySqlStore::builder().table(database.table.clone()).pool_size(size);
        builder.connect(proxy.url()).await.unwrap()
    };
    let (far, idle) = ([through(2).await, through(2).await], through(4).await);
    Scenario { server, seed, far, idle, near }.run(&proxy).await;
    database.run("DROP TABLE {t}, {t}_versions").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_under_load_break_no_promise() {
    for together in seeds() {
        let scenarios: Vec<_> = together.into_iter().map(|seed| tokio::spawn(scenario(seed))).collect();
        for scenario in scenarios {
            scenario.await.unwrap();
        }
    }
}

/// It may still arrive, and grant the lock once more when it was released. A renewal can do no harm.
#[tokio::test]
async fn an_insert_whose_reply_does_not_come_is_not_repeated() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        // One connection, so that a request meets the one that the last has used.
        let builder = MySqlStore::builder().table(database.table.clone()).pool_size(1);
        let store = builder.connect(proxy.url()).await.unwrap();
        // So that the statements are prepared, and the connection is one that was used before.
        let kept = request("kept", MINUTE);
        granted(store.insert_if_absent(&kept).await.unwrap());
        let renewal = RenewRequest::new(id("kept"), kept.owner, Ttl::new(MINUTE).unwrap());
        store.renew(&renewal).await.unwrap();

        proxy.count_requests_with("unanswered job");
        proxy.swallow_the_next_reply();
        let error = ask(&store, "unanswered job", MINUTE).await.unwrap_err();
        assert!(error.to_string().contains("did not answer in time"), "{error:?}");
        assert_eq!(proxy.counted(), 1, "the insert was sent again");

        store.insert_many(&[request("warm 1", MINUTE), request("warm 2", MINUTE)]).await;
        store.renew(&renewal).await.unwrap();
        // These come as text, in which ids are hexadecimal.
        proxy.count_requests_with("756e616e737765726564206a6f62");
        proxy.swallow_the_next_reply();
        let many = [request("unanswered job", MINUTE), request("another", MINUTE)];
        assert!(store.insert_many(&many).await.iter().all(Result::is_err));
        assert_eq!(proxy.counted(), 1, "the insert of many was sent again");

        store.renew(&renewal).await.unwrap();
        proxy.count_requests_with("6b657074");
        proxy.swallow_the_next_reply();
        store.renew(&renewal).await.unwrap();
        assert_eq!(proxy.counted(), 2, "the renewal is sent again");
    }
}

/// It took all the time that the request had.
#[tokio::test]
async fn a_request_is_answered_though_the_opening_of_its_connection_is_swallowed() {
    for database in both() {
        let proxy = Proxy::to(&database.url).await;
        let builder = MySqlStore::builder().table(database.table.clone()).statement_timeout(Duration::from_secs(6));
        let store = builder.connect(proxy.url()).await.unwrap();
        proxy.cut();
        proxy.swallow_the_next_reply();
        granted(ask(&store, "job", MINUTE).await.unwrap());
    }
}
