//! Connections that are broken in every way, at random, under load; and grants whose reply does not come.

use std::time::Duration;

use db_mutex_core::store::LockStore;
use db_mutex_test_servers::Proxy;
use db_mutex_test_servers::load::{Scenario, seeds};

use crate::database::{MINUTE, builder, grant, insert, owner, renewal, table};
use crate::server::{administrator, url};

async fn scenario(seed: u64) {
    let (name, proxy) = (format!("scenario_{seed}"), Proxy::to(&url("postgres")).await);
    let near = builder(&name).connect(&url("postgres")).await.unwrap();
    // Few connections: all tests share those of the server.
    let through = async |size| builder(&name).pool_size(size).connect(proxy.url()).await.unwrap();
    let (far, idle) = ([through(2).await, through(2).await], through(4).await);
    Scenario { server: "PostgreSQL", seed, far, idle, near }.run(&proxy).await;
    let table = table(&name);
    let drop = format!("DROP TABLE {table}, {table}_versions");
    administrator().await.batch_execute(&drop).await.unwrap();
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
    let proxy = Proxy::to(&url("postgres")).await;
    // One connection, so that a request meets the one that the last has used.
    let store = builder("unanswered").pool_size(1).connect(proxy.url()).await.unwrap();
    // So that the statements are prepared, and the connection is one that was used before.
    let (kept, _) = grant(&store, "kept", MINUTE).await;
    store.renew(&renewal("kept", kept, MINUTE)).await.unwrap();

    proxy.count_requests_with("unanswered job");
    proxy.swallow_the_next_reply();
    let error = store.insert_if_absent(&insert("unanswered job", owner(), MINUTE)).await.unwrap_err();
    assert!(error.to_string().contains("did not answer in time"), "{error:?}");
    assert_eq!(proxy.counted(), 1, "the insert was sent again");

    let many = [insert("unanswered job", owner(), MINUTE), insert("another", owner(), MINUTE)];
    // Nothing was prepared yet on the connection that has taken the place of the other.
    store.insert_many(&[insert("warm 1", owner(), MINUTE), insert("warm 2", owner(), MINUTE)]).await;
    store.renew(&renewal("kept", kept, MINUTE)).await.unwrap();
    proxy.count_requests_with("unanswered job");
    proxy.swallow_the_next_reply();
    assert!(store.insert_many(&many).await.iter().all(Result::is_err));
    assert_eq!(proxy.counted(), 1, "the insert of many was sent again");

    store.renew(&renewal("kept", kept, MINUTE)).await.unwrap();
    proxy.count_requests_with("kept");
    proxy.swallow_the_next_reply();
    store.renew(&renewal("kept", kept, MINUTE)).await.unwrap();
    assert_eq!(proxy.counted(), 2, "the renewal is sent again");
}

/// It took all the time that the request had.
#[tokio::test]
async fn a_request_is_answered_though_the_opening_of_its_connection_is_swallowed() {
    let proxy = Proxy::to(&url("postgres")).await;
    let limit = Duration::from_secs(6);
    let store = builder("opening").statement_timeout(limit).connect(proxy.url()).await.unwrap();
    proxy.cut();
    proxy.swallow_the_next_reply();
    grant(&store, "job", MINUTE).await;
}
