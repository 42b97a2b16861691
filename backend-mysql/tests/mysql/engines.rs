//! What the server is that was connected to: a MySQL or MariaDB, or something that speaks like one.

use std::sync::Mutex;

use db_mutex_core::store::LockStore;
use db_mutex_core::{Invalid, StoreErrorKind};
use db_mutex_mysql::MySqlStore;
use db_mutex_test_servers::Proxy;
use tracing::subscriber::set_default;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::database::{Database, both, id};
use crate::servers::MARIADB;

/// Counts warnings.
struct Warnings(&'static Mutex<usize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {
        *self.0.lock().unwrap() += 1;
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn mysql_and_mariadb_are_accepted_without_a_word() {
    static WARNINGS: Mutex<usize> = Mutex::new(0);
    let _listening = set_default(Warnings(&WARNINGS));
    for database in both() {
        database.store().await;
    }
    assert_eq!(*WARNINGS.lock().unwrap(), 0);
}

#[tokio::test]
async fn another_engine_is_refused_unless_it_is_allowed() {
    static WARNINGS: Mutex<usize> = Mutex::new(0);
    let proxy = Proxy::to(&MARIADB).await;
    proxy.rewrite_replies("-MariaDB-", "-TiDB-v7-");
    let url = proxy.url();
    let table = Database::new(url).table;
    let builder = || MySqlStore::builder().table(table.clone());

    let error = builder().connect(url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
    for word in ["TiDB", "SKIP LOCKED", "use a MySQL or MariaDB", "allow_unsupported_engine"] {
        assert!(error.to_string().contains(word), "{word} is missing: {error}");
    }

    let _listening = set_default(Warnings(&WARNINGS));
    let store = builder().allow_unsupported_engine(true).connect(url).await.unwrap();
    assert!(store.find(&id("job")).await.unwrap().is_none());
    assert_eq!(*WARNINGS.lock().unwrap(), 1);
    builder().connect(&format!("{url}?allow-unsupported-engine=true")).await.unwrap();
    builder().connect(&format!("{url}?allow_unsupported_engine=false")).await.unwrap_err();
    let invalid = MySqlStore::check_url(&format!("{url}?allow_unsupported_engine=perhaps")).unwrap_err();
    assert!(matches!(&invalid, Invalid::Url { reason } if reason.contains("write true or false")), "{invalid}");
}

/// An engine that refuses the settings of a session is named too: the error of the first connection says nothing of it.
#[tokio::test]
async fn another_engine_that_refuses_the_settings_is_named() {
    let proxy = Proxy::to(&MARIADB).await;
    proxy.rewrite_replies("-MariaDB-", "-TiDB-v7-");
    proxy.rewrite_requests("READ UNCOMMITTED, READ WRITE", "READ UNSUPPORTED, READ WRITE");
    let error = MySqlStore::connect(proxy.url()).await.unwrap_err();
    assert!(error.to_string().contains("TiDB"), "{error:?}");
    assert_eq!(error.kind(), StoreErrorKind::Config);
}

#[tokio::test]
async fn what_keeps_a_part_is_noted_once() {
    static WARNINGS: Mutex<usize> = Mutex::new(0);
    let proxy = Proxy::to(&MARIADB).await;
    proxy.rewrite_replies("wsrep_on\u{3}OFF", "wsrep_on\u{3}ON ");
    let _listening = set_default(Warnings(&WARNINGS));
    let store = Database::new(proxy.url()).store().await;
    assert!(store.find(&id("job")).await.unwrap().is_none());
    assert_eq!(*WARNINGS.lock().unwrap(), 1);
}
