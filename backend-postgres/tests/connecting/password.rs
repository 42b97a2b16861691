//! The password appears in no error, no Debug, no log line.

use std::fmt::Debug;
use std::sync::{Mutex, Once, PoisonError};

use db_mutex_core::store::LockStore;
use db_mutex_core::{StoreError, StoreErrorKind as Kind, TableName};
use db_mutex_postgres::PostgresStore;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::{request, server, shown};

/// What the password of every test server begins with.
const CANARY: &str = "s3cret-canary";

/// All that this process has logged since [`listen`], by any test.
static LOGGED: Mutex<String> = Mutex::new(String::new());

/// Hears everything that is said through `tracing` and `log`, at the finest level.
struct Ear;

impl Ear {
    fn hear(what: &str) {
        LOGGED.lock().unwrap_or_else(PoisonError::into_inner).push_str(what);
    }
}

impl Visit for Ear {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        Self::hear(&format!("{field}={value:?} {value:#?}\n"));
    }
}

impl Subscriber for Ear {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut Self);
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Self);
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut Self);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl log::Log for Ear {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        Self::hear(&format!("{}: {}\n", record.target(), record.args()));
    }
    fn flush(&self) {}
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(Ear).unwrap();
        log::set_logger(&Ear).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

fn logged() -> String {
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[track_caller]
fn assert_silent(what: &str, text: &str) {
    // Not even in the failure of this test.
    assert!(!text.contains(CANARY), "{what} shows the password:\n{}", text.replace(CANARY, "<<<HERE>>>"));
}

async fn error_of(url: &str) -> StoreError {
    listen();
    let error = PostgresStore::connect(url).await.expect_err("the url is of no use");
    assert_silent("an error", &shown(&error));
    assert_silent("a log", &logged());
    error
}

#[tokio::test]
async fn a_failed_connection_does_not_show_it() {
    let url = server::with_parameters(&server::url("postgres"), "sslmode=disable");
    assert!(url.contains(CANARY), "the password of the test servers is a canary");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (login, _) = url.split_once('@').unwrap();
    let unreachable = error_of(&format!("{login}@{free}/d?sslmode=disable")).await;
    assert_eq!(unreachable.kind(), Kind::Unavailable);

    let (_, place) = url.split_once('@').unwrap();
    let wrong_password = error_of(&format!("postgres://dbmutex:{CANARY}-wrong@{place}")).await;
    assert_eq!(wrong_password.kind(), Kind::Config);
    assert!(wrong_password.to_string().contains("password"), "{wrong_password}");

    let wrong_database = error_of(&url.replace("/dbmutex?", "/nowhere?")).await;
    assert_eq!(wrong_database.kind(), Kind::Config);
    assert!(wrong_database.to_string().contains("database"), "{wrong_database}");

    let other = db_mutex_test_servers::folder("postgres").join("other-ca.pem");
    for parameters in [
        format!("sslmode=verify-full&sslrootcert={}", other.display()),
        "sslmode=verify-full&sslrootcert=/nowhere.pem".to_owned(),
    ] {
        error_of(&server::with_parameters(&url, &parameters)).await;
    }
    error_of(&server::with_parameters(&server::url("postgres-plain"), "sslmode=require")).await;
    let no_password = error_of(&format!("postgres://dbmutex@{place}")).await;
    assert_eq!(no_password.kind(), Kind::Config, "{no_password:?}");
}

#[tokio::test]
async fn a_url_that_cannot_be_read_does_not_show_it() {
    for url in [
        "s3cret-canary",
        "s3cret-canary://u:p@h/d",
        "postgres://u:s3cret-canary@h:port/d",
        "postgres://u:s3cret-canary@h:99999999/d",
        "postgres://u:s3cret-canary@[::1/d",
        "postgres://u:s3cret-canary&x@h/d?x",
        "postgres://u:p@h/d?password",
        "postgres://u:s3cret-canary@h/d?s3cret-canary=1",
        "postgres://u:p@h/d?nonsense=s3cret-canary",
        "postgres://u:s3cret-canary@h/d?sslmode=s3cret-canary",
        "postgres://u:s3cret-canary@h/d?sslpassword=s3cret-canary",
        "postgres://u:s3cret-canary@h/d?sslrootcert=s3cret-canary%zz",
        "postgres://u:s3cret-canary@h/d?connect_timeout=s3cret-canary",
        "host=h password=s3cret-canary nonsense=1",
        "host=h password='s3cret-canary",
        "host=h port=s3cret-canary",
    ] {
        let error = error_of(url).await;
        assert_eq!(error.kind(), Kind::Config, "{url}: {error:?}");
        assert!(error.to_string().contains("url"), "{error}");
    }
}

#[tokio::test]
async fn a_store_at_work_does_not_show_it() {
    listen();
    let url = server::url("postgres");
    let builder = PostgresStore::builder().table(TableName::new("password").unwrap());
    assert_silent("the builder's Debug", &format!("{builder:?} {builder:#?}"));
    let store = builder.connect(&url).await.unwrap();
    store.insert_if_absent(&request(&crate::fresh("password"))).await.unwrap();
    assert_silent("the store's Debug", &format!("{store:?} {store:#?}"));
    tracing::trace!("the ear hears this");
    let logged = logged();
    assert!(logged.contains("the ear hears this"), "tracing is heard");
    assert!(logged.contains("tokio_postgres"), "the driver's log is heard");
    assert_silent("a log", &logged);
}
