//! The nodes, and how one of them falls behind.

use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{InsertRequest, Inserted, Lease};
use db_mutex_core::{DbMutex, HolderName, LockId, OwnerToken, TableName, Ttl};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::prelude::{FromRow, Queryable};
use db_mutex_mysql::mysql_async::{Conn, Opts, OptsBuilder};
use db_mutex_test_servers::url;
use tokio::sync::{Mutex, MutexGuard};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Tables of a test's own, on all nodes.
pub(crate) struct Cluster {
    pub(crate) urls: [String; 3],
    pub(crate) table: TableName,
    /// One test at a time: each slows a node down.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::const_new(());

impl Cluster {
    pub(crate) async fn new() -> Self {
        let turn = TURN.lock().await;
        let random = OwnerToken::mint().unwrap().to_hex();
        let table = TableName::new(format!("t_{}", &random[..12])).unwrap();
        let cluster = Self { urls: [1, 2, 3].map(|number| url(&format!("galera-{number}"))), table, _turn: turn };
        drop(cluster.store(0).await);
        cluster
    }

    pub(crate) async fn store(&self, node: usize) -> MySqlStore {
        MySqlStore::builder().table(self.table.clone()).pool_size(4).connect(&self.urls[node]).await.unwrap()
    }

    /// A URL of all nodes, beginning with this one.
    pub(crate) fn url_from(&self, first: usize) -> String {
        let (login, place) = self.urls[0].rsplit_once('@').unwrap();
        let database = place.split_once('/').unwrap().1;
        let host = |node: usize| self.urls[node % 3].rsplit_once('@').unwrap().1.split('/').next().unwrap();
        format!("{login}@{},{},{}/{database}", host(first), host(first + 1), host(first + 2))
    }

    pub(crate) async fn mutex(&self, node: usize) -> DbMutex {
        DbMutex::new(Arc::new(self.store(node).await)).unwrap()
    }

    /// A connection of another client.
    pub(crate) async fn connection(&self, node: usize) -> Conn {
        let opts = OptsBuilder::from_opts(Opts::from_url(&self.urls[node]).unwrap()).prefer_socket(false);
        Conn::new(opts).await.unwrap()
    }

    /// Runs a statement; `{t}` is the table.
    pub(crate) async fn run(&self, node: usize, sql: &str) {
        let sql = sql.replace("{t}", self.table.as_str());
        self.connection(node).await.query_drop(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn rows<R: FromRow + Send + 'static>(&self, node: usize, sql: &str) -> Vec<R> {
        self.connection(node).await.query(sql.replace("{t}", self.table.as_str())).await.unwrap()
    }

    /// Waits until a node takes requests, or takes none.
    pub(crate) async fn until_ready(&self, node: usize, ready: &str) {
        let mut connection = self.connection(node).await;
        let waiting = async {
            loop {
                let status: Option<(String, String)> =
                    connection.query_first("SHOW STATUS LIKE 'wsrep_ready'").await.unwrap();
                if status.unwrap().1 == ready {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it has to happen soon");
    }

    /// Makes the last node one that can be made to lag: what others write into `{t}_slow` takes it as many seconds as it says.
    pub(crate) async fn prepare_lag(&self) {
        self.run(0, "CREATE TABLE {t}_slow (id INTEGER AUTO_INCREMENT PRIMARY KEY, seconds DOUBLE)").await;
        self.run(2, "SET GLOBAL slave_run_triggers_for_rbr = YES").await;
        let trigger = "CREATE TRIGGER {t}_slow BEFORE INSERT ON {t}_slow FOR EACH ROW DO SLEEP(NEW.seconds)";
        // Waits until the table is there, which comes in order.
        self.run(2, "SET SESSION wsrep_sync_wait = 7; SELECT * FROM {t}_slow").await;
        self.run(2, &format!("SET SESSION wsrep_on = OFF; {trigger}")).await;
    }

    /// From now on the last node applies nothing for that long.
    pub(crate) async fn lag(&self, seconds: f64) {
        self.run(0, &format!("INSERT INTO {{t}}_slow (seconds) VALUES ({seconds})")).await;
    }
}

pub(crate) fn id(text: &str) -> LockId {
    LockId::new(text).unwrap()
}

pub(crate) fn request(lock_id: &str, ttl: Duration) -> InsertRequest {
    let owner = OwnerToken::mint().unwrap();
    InsertRequest::new(id(lock_id), owner, Ttl::new(ttl).unwrap(), HolderName::new("test").unwrap())
}

#[track_caller]
pub(crate) fn granted(answer: Inserted) -> Lease {
    match answer {
        Inserted::Granted(lease) => lease,
        other => panic!("not granted: {other:?}"),
    }
}
