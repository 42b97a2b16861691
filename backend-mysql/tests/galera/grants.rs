//! Grants on two nodes at once, and on a node that has lost the others.

use std::time::Duration;

use db_mutex_core::StoreErrorKind;
use db_mutex_core::store::{Inserted, LockStore};
use db_mutex_mysql::MySqlStore;
use tokio::time::sleep;

use crate::cluster::{Cluster, MINUTE, granted, request};

/// The transaction of the first is under way when the second is granted the lock elsewhere, and is undone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_grants_on_two_nodes_at_once_the_later_commit_is_none() {
    let cluster = Cluster::new().await;
    let (slow, quick) = (cluster.store(0).await, cluster.store(1).await);
    let trigger = "CREATE TRIGGER {t}_pause AFTER INSERT ON {t}_verified FOR EACH ROW DO SLEEP(1.5)";
    cluster.run(0, &format!("SET SESSION wsrep_on = OFF; {trigger}")).await;
    for together in [false, true] {
        let lock_id = format!("job {together}");
        let (first, second) = (request(&lock_id, MINUTE), request(&lock_id, MINUTE));
        let asking = tokio::spawn({
            let slow = slow.clone();
            async move {
                match together {
                    true => slow.insert_many(&[first, request("another", MINUTE)]).await.remove(0),
                    false => slow.insert_if_absent(&first).await,
                }
            }
        });
        sleep(Duration::from_millis(500)).await;
        granted(quick.insert_if_absent(&second).await.unwrap());
        match asking.await.unwrap() {
            Ok(Inserted::Held(holder)) => assert_eq!(holder.name.as_str(), "test"),
            Err(error) if error.kind() == StoreErrorKind::Busy => {}
            other => panic!("two hold the lock: {other:?}"),
        }
        assert!(slow.find(&second.lock_id).await.unwrap().unwrap().is_taken());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_lost_the_others_is_unavailable_and_is_left() {
    let cluster = Cluster::new().await;
    let (alone, several) = (cluster.store(2).await, {
        let builder = MySqlStore::builder().table(cluster.table.clone());
        builder.connect(&cluster.url_from(2)).await.unwrap()
    });
    cluster.run(2, "SET GLOBAL wsrep_provider_options = 'gmcast.isolate = 1'").await;
    cluster.until_ready(2, "OFF").await;
    let error = alone.insert_if_absent(&request("job", MINUTE)).await.unwrap_err();
    let elsewhere = several.insert_if_absent(&request("job", MINUTE)).await;
    cluster.run(2, "SET GLOBAL wsrep_provider_options = 'gmcast.isolate = 0'").await;
    cluster.until_ready(2, "ON").await;
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(error.is_transient() && error.is_undone(), "{error:?}");
    granted(elsewhere.unwrap());
    assert!(matches!(alone.insert_if_absent(&request("job", MINUTE)).await.unwrap(), Inserted::Held(_)));
}
