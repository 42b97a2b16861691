use std::error::Error;

use db_mutex_core::store::LockStore;
use db_mutex_core::{Invalid, StoreErrorKind, TableName};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::Row;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::database::{Database, MINUTE, ask, both, id};
use crate::servers::pool_with;

/// Makes the table, changes it by `change`, and expects that it is refused with these words.
async fn refused(change: &str, words: &str) {
    for database in both() {
        drop(database.store().await);
        database.run(change).await;
        let error = database.try_store().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Schema, "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_engine_without_transactions_is_refused() {
    refused("ALTER TABLE {t} ENGINE = MEMORY", "engine MEMORY").await;
}

#[tokio::test]
async fn a_foreign_table_is_refused_and_left_alone() {
    for database in both() {
        database.run("CREATE TABLE {t} (id INTEGER, name TEXT)").await;
        let error = database.try_store().await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Schema);
        assert!(error.to_string().contains("id, name"), "{error}");
        let tables = format!("SHOW TABLES LIKE '{}%'", database.table);
        assert_eq!(database.rows::<String>(&tables).await, [database.table.to_string()]);
    }
}

/// Cut to 100 bytes by a server that is not strict, two ids would be one.
#[tokio::test]
async fn a_column_that_is_too_short_is_refused() {
    refused("ALTER TABLE {t} MODIFY lock_id VARBINARY(100) NOT NULL", "not db-mutex's").await;
}

/// `Job`, `job` and `job ` would be one.
#[tokio::test]
async fn ids_that_are_compared_as_text_are_refused() {
    let change = "ALTER TABLE {t} MODIFY lock_id VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL";
    refused(change, "not db-mutex's").await;
}

#[tokio::test]
async fn a_table_without_the_key_that_verifying_locks_is_refused() {
    refused("ALTER TABLE {t} DROP KEY by_owner", "UNIQUE KEY by_owner").await;
}

#[tokio::test]
async fn a_trigger_that_can_change_what_is_inserted_is_refused() {
    refused("CREATE TRIGGER {t}_before BEFORE INSERT ON {t} FOR EACH ROW SET NEW.fence = 1", "trigger").await;
}

#[tokio::test]
async fn a_newer_version_of_the_table_is_refused() {
    refused("INSERT INTO {t}_versions VALUES (99)", "update db-mutex").await;
}

#[tokio::test]
async fn a_missing_database_is_named_as_such() {
    for database in both() {
        let (server, _) = database.url.rsplit_once('/').unwrap();
        let error = MySqlStore::connect(&format!("{server}/no_such_database")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("no such database"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let error = MySqlStore::connect("mysql://u:p@127.0.0.1:1/db").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn an_ipv6_address_is_connected_to() {
    for database in both() {
        let (login, place) = database.url.rsplit_once('@').unwrap();
        let (address, name) = place.split_once('/').unwrap();
        let (address, listener) = (address.to_owned(), TcpListener::bind("[::1]:0").await.unwrap());
        let url = format!("{login}@[::1]:{}/{name}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(&address).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        MySqlStore::builder().table(database.table.clone()).connect(&url).await.unwrap();
    }
}

#[tokio::test]
async fn an_invalid_url_is_the_source_of_the_error() {
    let error = MySqlStore::connect("mysql://u:s3cret@h/d?ssl-mode=maybe").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Config);
    assert!(matches!(error.source().unwrap().downcast_ref(), Some(Invalid::Url { .. })), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn the_printed_schema_is_the_one_that_is_migrated() {
    for database in both() {
        let printed = Database::new(&database.url);
        printed.run(&MySqlStore::schema_sql(&printed.table)).await;
        drop((printed.store().await, database.store().await));
        let schema = async |database: &Database| -> String {
            let rows: Vec<Row> = database.rows("SHOW CREATE TABLE {t}").await;
            rows[0].get::<String, _>(1).unwrap().replace(database.table.as_str(), "t")
        };
        assert_eq!(schema(&printed).await, schema(&database).await);
        let versions = "SELECT version FROM {t}_versions";
        assert_eq!(printed.rows::<i64>(versions).await, database.rows::<i64>(versions).await);
    }
}

#[tokio::test]
async fn a_table_made_by_hand_is_adopted() {
    for database in both() {
        drop(database.store().await);
        database.run("DROP TABLE {t}_versions").await;
        drop(database.store().await);
        assert_eq!(database.rows::<i64>("SELECT version FROM {t}_versions").await, [1]);
    }
}

#[tokio::test]
async fn two_tables_of_one_database_share_no_locks() {
    for database in both() {
        let (one, two) = (database.store().await, Database::new(&database.url).store().await);
        ask(&one, "job", MINUTE).await.unwrap();
        assert!(two.find(&id("job")).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_may_open_a_new_table_at_once() {
    for database in both() {
        let pool = pool_with(&database.url, "");
        let opening: Vec<_> = (0..20)
            .map(|number| {
                let (table, url, pool) = (database.table.clone(), database.url.clone(), pool.clone());
                tokio::spawn(async move {
                    let builder = MySqlStore::builder().table(table);
                    if number % 2 == 0 { builder.connect(&url).await } else { builder.from_pool(pool).await }
                })
            })
            .collect();
        for opened in opening {
            let store = opened.await.unwrap().unwrap();
            store.migrate().await.unwrap();
        }
        assert_eq!(database.rows::<i64>("SELECT version FROM {t}_versions").await, [1]);
    }
}

/// Without autocommit the record of the version would be rolled back.
#[tokio::test]
async fn a_migration_through_a_pool_without_autocommit_stays() {
    for database in both() {
        let pool = pool_with(&database.url, "SET SESSION autocommit = 0");
        let store = MySqlStore::builder().table(database.table.clone()).from_pool(pool.clone()).await.unwrap();
        database.run("DELETE FROM {t}_versions").await;
        store.migrate().await.unwrap();
        drop(store);
        pool.disconnect().await.unwrap();
        assert_eq!(database.rows::<i64>("SELECT version FROM {t}_versions").await, [1]);
    }
}

#[tokio::test]
async fn the_longest_name_of_a_table_has_room() {
    for database in both() {
        let table = TableName::new(format!("{:x<50}", database.table.as_str())).unwrap();
        let store = MySqlStore::builder().table(table).connect(&database.url).await.unwrap();
        assert!(store.find(&id("job")).await.unwrap().is_none());
    }
}

/// Drivers panic there.
#[test]
fn connecting_outside_of_a_runtime_is_an_error() {
    let mut connecting = Box::pin(MySqlStore::connect("mysql://someone@127.0.0.1:1/nowhere"));
    let polled = connecting.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    match polled {
        std::task::Poll::Ready(Err(error)) => assert!(error.to_string().contains("runtime"), "{error}"),
        other => panic!("{other:?}"),
    }
}
