//! The conformance suite on Redis: `scripts/test-stores` starts one, and sets `REDIS_URL`.

mod planted;

use db_mutex_core::store::cas::CasStore;
use stores::redis::Redis;

fn url() -> String {
    std::env::var("REDIS_URL").expect("REDIS_URL names a server; scripts/test-stores starts one")
}

fn open(namespace: &str) -> Redis {
    Redis::new(&url(), namespace).expect("a valid URL")
}

async fn remove(namespace: &str) {
    let client = redis::Client::open(url()).expect("a valid URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the server is up");
    redis::cmd("DEL").arg(namespace).exec_async(&mut connection).await.expect("the hash can be removed");
}

db_mutex_conformance::suite!(
    |namespace| async move { CasStore::new(open(&namespace)) },
    shift_row = |namespace, id, by| async move { planted::shift(&open(&namespace), &id, by).await },
    plant_fence = |namespace, id, fence| async move { planted::plant(&open(&namespace), &id, fence).await },
    cleanup = |namespace| async move { remove(&namespace).await },
    ignore = {
        locked_rows: "a script of Redis locks everything for a moment, and nothing else can lock a field",
        a_locked_row_from_the_future_is_refused: "a script of Redis locks everything, and nothing else can lock a field",
    }
);
