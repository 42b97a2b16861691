//! Stores that a program registers for a URL scheme. The registry is the process's, so each test has its own schemes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use db_mutex::store::LockStore;
use db_mutex::testing::MemoryStore;
use db_mutex::{ConnectRequest, Connector, Error, Invalid, StoreError, StoreErrorKind, TableName};
use tokio::sync::mpsc;

/// Registers a scheme, and returns the requests that it gets.
fn register(scheme: &str) -> mpsc::UnboundedReceiver<ConnectRequest> {
    let (sent, received) = mpsc::unbounded_channel();
    let store = MemoryStore::new();
    let open = move |request| {
        sent.send(request).unwrap();
        let store = store.clone();
        async move { Ok(store) }
    };
    Connector::register(scheme, open).unwrap();
    received
}

fn refused(scheme: &str) -> String {
    let error = Connector::register(scheme, async |_| Ok(MemoryStore::new())).unwrap_err();
    assert!(matches!(error, Invalid::Scheme { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn a_registered_scheme_connects_to_its_store() {
    let mut requests = register("one.Two+3");
    let first = db_mutex::connect("one.two+3://user:pass@host/name?a=b").await.unwrap();
    let second = db_mutex::connect("ONE.TWO+3:").await.unwrap();
    assert_eq!(requests.recv().await.unwrap().url, "one.two+3://user:pass@host/name?a=b");
    assert_eq!(requests.recv().await.unwrap().url, "ONE.TWO+3:");

    let guard = first.lock("job").acquire().await.unwrap();
    assert!(second.lock("job").acquire().await.unwrap_err().is_held());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn every_option_reaches_the_store() {
    let mut requests = register("options");
    let connector = Connector::new("options:").unwrap();
    connector.connect().await.unwrap();
    let changed = connector.table(TableName::new("mine").unwrap()).create_if_missing(false).read_only(true);
    drop(changed.password_if_missing("s3cret").builder().await.unwrap());

    let defaults = requests.recv().await.unwrap();
    assert_eq!((defaults.table, defaults.password_if_missing), (TableName::default(), None));
    assert_eq!((defaults.create_if_missing, defaults.read_only), (true, false));
    let changed = requests.recv().await.unwrap();
    assert_eq!(changed.table.as_str(), "mine");
    assert_eq!((changed.create_if_missing, changed.read_only), (false, true));
    assert_eq!(changed.password_if_missing.as_deref(), Some("s3cret"));
}

#[tokio::test]
async fn a_connector_says_nothing_about_a_store_that_it_does_not_know() {
    let mut requests = register("silent");
    let connector = Connector::new("silent://user:s3cret@host/db").unwrap().password_if_missing("s3cret");
    assert!(connector.address().is_none() && connector.path().is_none() && connector.schema_sql().is_empty());
    assert!(requests.try_recv().is_err(), "nothing is opened before `connect`");
    connector.connect().await.unwrap();
    let shown = format!("{connector:?} {:?}", requests.recv().await.unwrap());
    assert!(shown.contains("silent") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_scheme_that_exists_is_refused() {
    for ours in ["sqlite", "postgres", "postgresql", "mysql", "mariadb", "SQLite"] {
        assert!(refused(ours).contains("db-mutex has a backend for it"), "{}", refused(ours));
    }
    drop(register("taken"));
    assert!(refused("taken").contains("\"taken\": it is registered already"), "{}", refused("taken"));
    assert!(refused("Taken").contains("registered already"));
}

#[tokio::test]
async fn what_was_registered_first_stays() {
    let mut requests = register("first");
    refused("first");
    db_mutex::connect("first:").await.unwrap();
    assert!(requests.try_recv().is_ok());
}

#[test]
fn what_is_no_scheme_is_refused_without_a_password() {
    for wrong in ["", "1st", "a b", "a_b", "é", "redis:", "redis://user:s3cret@host"] {
        let message = refused(wrong);
        assert!(message.contains("letters, digits") && !message.contains("s3cret"), "{message}");
    }
}

#[test]
fn an_unknown_scheme_lists_those_that_are_registered() {
    drop((register("listed-b"), register("listed-a")));
    for url in ["unlisted://user:s3cret@host", "user:s3cret@host"] {
        let message = Connector::new(url).unwrap_err().to_string();
        let (_, listed) =
            message.split_once("sqlite:, postgres: or mysql:, or one that this program has registered: ").unwrap();
        let (a, b) = (listed.find("listed-a:").unwrap(), listed.find("listed-b:").unwrap());
        assert!(a < b && !message.contains("s3cret"), "{message}");
    }
}

#[tokio::test]
async fn an_error_of_the_store_is_returned_with_its_kind_and_source() {
    let open = async |request: ConnectRequest| -> Result<Arc<dyn LockStore>, StoreError> {
        let source = format!("{} bytes", request.url.len());
        Err(StoreError::new(StoreErrorKind::Config, "the url has no host").with_source(source))
    };
    Connector::register("failing", open).unwrap();
    let error = db_mutex::connect("failing://user:s3cret@").await.unwrap_err();
    let Error::Connect { source } = &error else { panic!("{error:?}") };
    assert_eq!((source.kind(), source.to_string().as_str()), (StoreErrorKind::Config, "the url has no host"));
    assert_eq!(std::error::Error::source(source).unwrap().to_string(), "22 bytes");
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_dropped_connect_drops_what_is_being_opened() {
    struct Opening;
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    impl Drop for Opening {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let open = async |_| {
        let _opening = Opening;
        OPENED.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>().await;
        Ok(MemoryStore::new())
    };
    Connector::register("endless", open).unwrap();
    tokio::select! {
        biased;
        _ = db_mutex::connect("endless:") => unreachable!("it never opens"),
        () = std::future::ready(()) => {}
    }
    assert_eq!((OPENED.load(Ordering::Relaxed), DROPPED.load(Ordering::Relaxed)), (1, 1));
}

#[cfg(feature = "blocking")]
#[test]
fn code_without_a_runtime_connects_too() {
    let mut requests = register("plain");
    let mutex = db_mutex::blocking::connect("plain:").unwrap();
    assert!(requests.try_recv().is_ok());
    mutex.lock("job").acquire().unwrap().release().unwrap();
}
