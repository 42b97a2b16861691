//! The conformance suite on a cluster of etcd: `scripts/test-stores etcd` starts one, and sets `ETCD_URLS`.

mod planted;

use db_mutex_core::DbMutex;
use db_mutex_core::store::cas::CasStore;
use stores::etcd::Etcd;

fn endpoints() -> Vec<String> {
    let urls = std::env::var("ETCD_URLS").expect("ETCD_URLS names a cluster; scripts/test-stores etcd starts one");
    urls.split(',').map(|url| url.trim_start_matches("http://").to_owned()).collect()
}

fn open(namespace: &str) -> Etcd {
    Etcd::new(endpoints(), format!("{namespace}/"))
}

db_mutex_conformance::suite!(
    |namespace| async move { CasStore::new(open(&namespace)) },
    shift_row = |namespace, id, by| async move { planted::shift(&open(&namespace), &id, by).await },
    plant_fence = |namespace, id, fence| async move { planted::plant(&open(&namespace), &id, fence).await },
    ignore = {
        locked_rows: "there are no transactions that could lock a key for long",
        a_locked_row_from_the_future_is_refused: "there are no transactions that could lock a key for long",
    }
);

/// No server listens on the first two.
#[tokio::test]
async fn nodes_that_are_down_are_left() {
    let mut endpoints = endpoints();
    endpoints.splice(0..0, ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()]);
    let mutex = DbMutex::new(CasStore::new(Etcd::new(endpoints, "nodes-down/"))).expect("valid defaults");
    for _ in 0..2 {
        let guard = mutex.lock("job").acquire().await.expect("the others respond");
        guard.release().await.expect("the others respond");
    }
}
