//! The blocking form on servers, whose connections belong to runtimes.

use db_mutex::postgres::PostgresStore;
use db_mutex::postgres::deadpool_postgres::{Manager, Pool};
use db_mutex::postgres::tokio_postgres::NoTls;
use db_mutex::{DbMutex, TableName};
use tokio::task::spawn;

use crate::{SECOND, connector, current_thread, multi_thread, watched};

/// The mutex is used in its own runtime, on the only worker, which also drives the connections.
#[test]
fn in_the_runtime_of_its_connections() {
    for server in ["postgres", "mariadb"] {
        watched(move || {
            multi_thread(1).block_on(async {
                let task = spawn(async move {
                    let mutex = connector(server).connect().await.unwrap();
                    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
                    let blocking = mutex.blocking();
                    for _ in 0..50 {
                        blocking.run("job", |_| ()).unwrap();
                        mutex.run("job", async |_| ()).await.unwrap();
                    }
                });
                task.await.unwrap();
            });
        });
    }
}

/// Everything goes through a pool of the application, in the runtime of which only one worker is.
#[test]
fn on_a_pool_of_the_runtime_that_blocks() {
    watched(|| {
        multi_thread(1).block_on(async {
            let task = spawn(async {
                let config = db_mutex_test_servers::url("postgres").parse().unwrap();
                let pool = Pool::builder(Manager::new(config, NoTls)).max_size(2).build().unwrap();
                let table = TableName::new(format!("blocking_pool_{}", std::process::id())).unwrap();
                let store = PostgresStore::builder().table(table).from_pool(pool).await.unwrap();
                let mutex = DbMutex::builder(store).ttl(3 * SECOND).keep_alive(true).build().unwrap().blocking();
                for _ in 0..20 {
                    mutex.run("job", |_| ()).unwrap();
                }
                let guard = mutex.lock("job").acquire().unwrap();
                assert!(mutex.lock("job").wait(4 * SECOND).acquire().unwrap_err().is_held());
                guard.release().unwrap();
            });
            task.await.unwrap();
        });
    });
}

/// A mutex of a program without a runtime, which is later used in some that end.
#[test]
fn connected_without_a_runtime_and_used_in_several() {
    for server in ["postgres", "mariadb"] {
        watched(move || {
            let mutex = connector(server).blocking_builder().unwrap().build().unwrap();
            for _ in 0..3 {
                mutex.blocking().run("job", |_| ()).unwrap();
                current_thread().block_on(mutex.run("job", async |_| ())).unwrap();
            }
        });
    }
}
