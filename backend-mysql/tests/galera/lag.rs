//! What one node has committed and another has not applied.

use std::time::Duration;

use db_mutex_core::Ttl;
use db_mutex_core::store::{DeleteRequest, Deleted, LockStore, RenewRequest, Renewed};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::prelude::Queryable;
use db_mutex_mysql::mysql_async::{Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts};

use crate::cluster::{Cluster, MINUTE, granted, request};

/// It would read as lost.
async fn renewed_and_released(cluster: &Cluster, elsewhere: &MySqlStore, lagging: &MySqlStore) {
    for round in 0..2 {
        cluster.lag(0.5).await;
        let request = request(&format!("job {round}"), MINUTE);
        granted(elsewhere.insert_if_absent(&request).await.unwrap());
        let renewal = RenewRequest::new(request.lock_id.clone(), request.owner, Ttl::new(2 * MINUTE).unwrap());
        assert!(matches!(lagging.renew(&renewal).await.unwrap(), Renewed::Renewed(_)));
        cluster.lag(0.5).await;
        let release = DeleteRequest::by_owner(request.lock_id.clone(), request.owner);
        assert_eq!(elsewhere.delete(&release).await.unwrap(), Deleted::Released);
        // And free again at once.
        let next = crate::cluster::request(request.lock_id.as_str(), MINUTE);
        granted(lagging.insert_if_absent(&next).await.unwrap());
        cluster.lag(0.5).await;
        let release = DeleteRequest::by_owner(next.lock_id.clone(), next.owner);
        assert_eq!(lagging.delete(&release).await.unwrap(), Deleted::Released);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_of_another_node_is_renewed_and_released_on_one_that_lags() {
    let cluster = Cluster::new().await;
    cluster.prepare_lag().await;
    renewed_and_released(&cluster, &cluster.store(0).await, &cluster.store(2).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_a_borrowed_connection_that_keeps_its_settings() {
    let cluster = Cluster::new().await;
    cluster.prepare_lag().await;
    let one = PoolOpts::new().with_constraints(PoolConstraints::new(1, 1).unwrap()).with_reset_connection(false);
    let opts = OptsBuilder::from_opts(Opts::from_url(&cluster.urls[2]).unwrap()).prefer_socket(false).pool_opts(one);
    let pool = Pool::new(opts.init(vec!["SET SESSION wsrep_sync_wait = 2"]));
    let store = MySqlStore::builder().table(cluster.table.clone()).from_pool(pool.clone()).await.unwrap();
    renewed_and_released(&cluster, &cluster.store(0).await, &store).await;
    let mut connection = pool.get_conn().await.unwrap();
    let waits: Option<u64> = connection.query_first("SELECT @@SESSION.wsrep_sync_wait").await.unwrap();
    assert_eq!(waits, Some(2));
    drop((connection, store));
    tokio::time::timeout(Duration::from_secs(10), pool.disconnect()).await.unwrap().unwrap();
}
