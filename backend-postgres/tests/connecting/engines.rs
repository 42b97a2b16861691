//! What the server is that was connected to: a PostgreSQL, or something that speaks like one.

use std::sync::Mutex;

use db_mutex_core::store::LockStore;
use db_mutex_core::{Invalid, StoreErrorKind as Kind};
use db_mutex_postgres::PostgresStore;
use db_mutex_test_servers::Proxy;
use tracing::subscriber::set_default;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::{fresh, fresh_table, request, server};

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
async fn a_postgresql_is_accepted_without_a_word() {
    static WARNINGS: Mutex<usize> = Mutex::new(0);
    let _listening = set_default(Warnings(&WARNINGS));
    for name in ["postgres", "pgbouncer"] {
        PostgresStore::builder().table(fresh_table("engine")).connect(&server::url(name)).await.unwrap();
    }
    assert_eq!(*WARNINGS.lock().unwrap(), 0);
}

#[tokio::test]
async fn another_engine_is_refused_unless_it_is_allowed() {
    static WARNINGS: Mutex<usize> = Mutex::new(0);
    let proxy = Proxy::to(&server::url("postgres")).await;
    proxy.rewrite_replies("PostgreSQL 1", "CockroachDB ");
    let url = server::with_parameters(proxy.url(), "sslmode=disable");
    let table = fresh_table("engine");
    let builder = || PostgresStore::builder().table(table.clone());

    let error = builder().connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error:?}");
    for word in ["CockroachDB", "LISTEN", "use a PostgreSQL", "allow_unsupported_engine"] {
        assert!(error.to_string().contains(word), "{word} is missing: {error}");
    }

    let _listening = set_default(Warnings(&WARNINGS));
    let store = builder().allow_unsupported_engine(true).connect(&url).await.unwrap();
    store.insert_if_absent(&request("job")).await.unwrap();
    assert_eq!(*WARNINGS.lock().unwrap(), 1);
    builder().connect(&format!("{url}&allow_unsupported_engine=true")).await.unwrap();
    builder().connect(&format!("{url}&allow_unsupported_engine=false")).await.unwrap_err();
    let invalid = PostgresStore::check_url(&format!("{url}&allow_unsupported_engine=perhaps")).unwrap_err();
    assert!(matches!(&invalid, Invalid::Url { reason } if reason.contains("write true or false")), "{invalid}");
}

/// An extension that replicates between primaries is not there to be installed, so another one has its name.
#[tokio::test]
async fn what_keeps_a_part_is_noted_once() {
    static WARNINGS: Mutex<usize> = Mutex::new(0);
    let (url, database) = (server::url("postgres"), fresh("replicated"));
    let administrator = server::administrator().await;
    administrator.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    let there = format!("{}/{database}", url.rsplit_once('/').unwrap().0);
    let rename = "SET allow_system_table_mods = on; UPDATE pg_extension SET extname = 'spock'";
    server::connection(&there).await.batch_execute(rename).await.unwrap();

    let listening = set_default(Warnings(&WARNINGS));
    let store = PostgresStore::connect(&there).await.unwrap();
    store.insert_if_absent(&request("job")).await.unwrap();
    drop((store, listening));
    assert_eq!(*WARNINGS.lock().unwrap(), 1);
    administrator.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).await.unwrap();
}
