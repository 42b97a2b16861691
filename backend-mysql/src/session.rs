use std::time::Duration;

use db_mutex_core::StoreError;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::error::store_error;

/// Says what a connection has to be set to, and how a borrowed one gets its own settings back.
///
/// `autocommit`, or an acquired lock vanishes with the connection; strict, or values are cut to fit; READ UNCOMMITTED, or an
/// insert does not see the row that another transaction has inserted, and waits for it (and at the stricter levels refused
/// attempts lock rows and batches deadlock); short waits, or a table that is being altered holds everything up for a day.
const SETTINGS: [&str; 2] = [
    "SET SESSION autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
     innodb_lock_wait_timeout = 1, lock_wait_timeout = 2",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, READ WRITE",
];

/// How long a statement waits for a table that is being altered: the `lock_wait_timeout` above.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whose connections the requests go through.
#[derive(Debug, Clone)]
pub(crate) enum Session {
    /// Ours: set once, when they are opened.
    Own,
    /// A pool's that others use too: set for each request and set back, in the same round trip.
    Borrowed { save: String, restore: String },
}

impl Session {
    /// What is sent when a connection of ours is opened.
    pub(crate) fn setup() -> String {
        SETTINGS.join("; ")
    }

    /// `modern` is whether the server has `@@transaction_isolation`, which MariaDB got in 11.1.
    pub(crate) fn borrowed(modern: bool) -> Self {
        let (isolation, read_only) =
            if modern { ("transaction_isolation", "transaction_read_only") } else { ("tx_isolation", "tx_read_only") };
        let names = ["autocommit", "sql_mode", "innodb_lock_wait_timeout", "lock_wait_timeout", isolation, read_only];
        let save: Vec<_> = names.iter().map(|name| format!("@db_mutex_{name} = @@SESSION.{name}")).collect();
        let restore: Vec<_> = names.iter().map(|name| format!("{name} = @db_mutex_{name}")).collect();
        Self::Borrowed {
            save: format!("SET {}", save.join(", ")),
            restore: format!("SET SESSION {}", restore.join(", ")),
        }
    }

    /// What goes before and after the statements of a request.
    pub(crate) fn around(&self) -> (Vec<&str>, Vec<&str>) {
        match self {
            Self::Own => (Vec::new(), Vec::new()),
            Self::Borrowed { save, restore } => (vec![save, SETTINGS[0], SETTINGS[1]], vec![restore]),
        }
    }

    /// Does some work on a connection that is set as it has to be, and gives it its own settings back.
    pub(crate) async fn on<T>(
        &self,
        mut connection: Conn,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (before, after) = self.around();
        if !before.is_empty() {
            connection.query_drop(before.join("; ")).await.map_err(store_error)?;
        }
        let done = work(&mut connection).await;
        if !after.is_empty() && connection.query_drop(after.join("; ")).await.is_err() {
            let _ = connection.disconnect().await;
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
