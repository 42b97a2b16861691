//! The conformance suite on both servers: on connections of the store's own, and on pools whose sessions start hostile.

#[path = "servers/mod.rs"]
mod servers;

use db_mutex_core::TableName;
use db_mutex_mysql::MySqlStore;

/// The suite for the stores that `$open` opens on `$url`.
macro_rules! suite_on {
    ($url:expr, $open:expr) => {
        db_mutex_conformance::suite!(
            $open,
            lock_row = |namespace, lock_id| async move { crate::servers::lock_row(&$url, &namespace, &lock_id).await },
            shift_row = |namespace, lock_id, by| async move {
                crate::servers::shift_row(&$url, &namespace, &lock_id, by).await;
            },
            plant_fence = |namespace, lock_id, fence| async move {
                crate::servers::plant_fence(&$url, &namespace, &lock_id, fence).await;
            },
        );
    };
}

/// A store with a table of that name.
async fn open(url: &str, namespace: String) -> MySqlStore {
    let table = TableName::new(namespace).expect("a namespace can name a table");
    servers::builder(table).pool_size(8).connect(url).await.expect("the server can be used")
}

mod mariadb {
    use crate::{open, servers::MARIADB};
    suite_on!(MARIADB, |namespace| open(&MARIADB, namespace));
}

mod mysql {
    use crate::{open, servers::MYSQL};
    suite_on!(MYSQL, |namespace| open(&MYSQL, namespace));
}

/// Every default that has caused a failure, at once.
mod mariadb_hostile {
    use crate::servers::{MARIADB, open_hostile};
    const SESSION: &str = "SET SESSION autocommit = 0, sql_mode = 'SIMULTANEOUS_ASSIGNMENT', tx_isolation = 'REPEATABLE-READ', \
         time_zone = '+05:30', innodb_lock_wait_timeout = 50; SET NAMES latin1";
    suite_on!(MARIADB, |namespace| open_hostile(&MARIADB, namespace, SESSION));
}

mod mysql_hostile {
    use crate::servers::{MYSQL, open_hostile};
    const SESSION: &str = "SET SESSION autocommit = 0, sql_mode = '', transaction_isolation = 'REPEATABLE-READ', \
         time_zone = '+05:30', innodb_lock_wait_timeout = 50; SET NAMES latin1";
    suite_on!(MYSQL, |namespace| open_hostile(&MYSQL, namespace, SESSION));
}

mod mariadb_serializable {
    use crate::servers::{MARIADB, open_hostile};
    const SESSION: &str = "SET SESSION autocommit = 0, sql_mode = '', tx_isolation = 'SERIALIZABLE', time_zone = '+05:30'; \
         SET NAMES utf8mb4 COLLATE utf8mb4_general_ci";
    suite_on!(MARIADB, |namespace| open_hostile(&MARIADB, namespace, SESSION));
}

mod mysql_serializable {
    use crate::servers::{MYSQL, open_hostile};
    const SESSION: &str = "SET SESSION autocommit = 0, sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES', \
         transaction_isolation = 'SERIALIZABLE'; SET NAMES utf8mb4 COLLATE utf8mb4_general_ci";
    suite_on!(MYSQL, |namespace| open_hostile(&MYSQL, namespace, SESSION));
}
