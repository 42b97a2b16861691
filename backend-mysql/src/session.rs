use std::time::Duration;

use db_mutex_core::StoreError;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::cluster::Cluster;
use crate::error::store_error;
use crate::in_use::InUse;

/// Says what a connection has to be set to, and how a borrowed one gets its own settings back.
///
/// `autocommit`, or an acquired lock vanishes with the connection; strict, or values are cut to fit; READ UNCOMMITTED, or an
/// insert does not see the row that another transaction has inserted, and waits for it (and at the stricter levels refused
/// attempts lock rows and batches deadlock); short waits, or a table that is being altered holds everything up for a day.
///
/// On Galera a statement waits until its node has applied what the others have committed before: otherwise a lock that was
/// acquired on one node would be lost to a renewal on another.
const SETTINGS: [&str; 2] = [
    "SET SESSION autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
     innodb_lock_wait_timeout = 1, lock_wait_timeout = 2",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ WRITE",
];

const GALERA: &str = ", wsrep_sync_wait = 7";

/// How long a statement waits for a table that is being altered: the `lock_wait_timeout` above.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whose connections the requests go through.
#[derive(Debug, Clone)]
pub(crate) enum Session {
    /// Ours: set once, when they are opened.
    Own,
    /// A pool's that others use too: set for each request and set back, in the same round trip.
    Borrowed { save: String, set: [String; 2], restore: String },
}

impl Session {
    /// What is sent when a connection of ours is opened.
    pub(crate) fn setup(cluster: Cluster) -> String {
        settings(cluster).join("; ")
    }

    /// `modern` is whether the server has `@@transaction_isolation`, which MariaDB got in 11.1.
    pub(crate) fn borrowed(modern: bool, cluster: Cluster) -> Self {
        let (isolation, read_only) =
            if modern { ("transaction_isolation", "transaction_read_only") } else { ("tx_isolation", "tx_read_only") };
        let mut names =
            vec!["autocommit", "sql_mode", "innodb_lock_wait_timeout", "lock_wait_timeout", isolation, read_only];
        names.extend(cluster.is_galera().then_some("wsrep_sync_wait"));
        let save: Vec<_> = names.iter().map(|name| format!("@db_mutex_{name} = @@SESSION.{name}")).collect();
        let restore: Vec<_> = names.iter().map(|name| format!("{name} = @db_mutex_{name}")).collect();
        Self::Borrowed {
            save: format!("SET {}", save.join(", ")),
            set: settings(cluster),
            restore: format!("SET SESSION {}", restore.join(", ")),
        }
    }

    /// What goes before and after the statements of a request.
    pub(crate) fn around(&self) -> (Vec<&str>, Vec<&str>) {
        match self {
            Self::Own => (Vec::new(), Vec::new()),
            Self::Borrowed { save, set, restore } => (vec![save, &set[0], &set[1]], vec![restore]),
        }
    }

    /// Does some work on a connection that is set as it has to be, and gives it its own settings back.
    pub(crate) async fn on<T>(
        &self,
        connection: Conn,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = InUse::new(connection);
        let (before, after) = self.around();
        if !before.is_empty() {
            connection.query_drop(before.join("; ")).await.map_err(store_error)?;
        }
        let done = work(&mut connection).await;
        if after.is_empty() || connection.query_drop(after.join("; ")).await.is_ok() {
            connection.end();
        }
        done
    }

    /// What makes a connection usable again after a request has failed half-way.
    pub(crate) fn repair(&self) -> String {
        match self {
            Self::Own => "ROLLBACK".to_owned(),
            Self::Borrowed { restore, .. } => format!("ROLLBACK; {restore}"),
        }
    }
}

fn settings(cluster: Cluster) -> [String; 2] {
    let galera = if cluster.is_galera() { GALERA } else { "" };
    [format!("{}{galera}", SETTINGS[0]), SETTINGS[1].to_owned()]
}
