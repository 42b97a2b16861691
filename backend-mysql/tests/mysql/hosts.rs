//! Several hosts in one URL.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use db_mutex_core::store::{DeleteRequest, Deleted, LockStore};
use db_mutex_core::{StoreErrorKind, TableName};
use db_mutex_mysql::MySqlStore;
use db_mutex_test_servers::{OwnServer, Proxy};
use tokio::net::TcpListener;
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::database::{Database, MINUTE, ask, both, granted, id, request, until};

/// The URL of a database with these hosts in it, before or after its own.
fn with_hosts(url: &str, before: &str, after: &str) -> String {
    let (login, place) = url.rsplit_once('@').unwrap();
    let (host, database) = place.split_once('/').unwrap();
    format!("{login}@{before}{host}{after}/{database}")
}

fn host_of(url: &str) -> &str {
    url.rsplit_once('@').unwrap().1.split('/').next().unwrap()
}

/// It takes connections and says nothing, as a machine that hangs.
#[tokio::test]
async fn a_first_host_that_is_silent_leaves_time_for_the_second() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let before = format!("{},[::1]:1,", silent.local_addr().unwrap());
    for database in both() {
        let url = with_hosts(&database.url, &before, "");
        let store = MySqlStore::builder().table(database.table.clone()).connect(&url).await.unwrap();
        let began = Instant::now();
        granted(ask(&store, "job", MINUTE).await.unwrap());
        // It is known by then which host can be used.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn each_host_that_cannot_be_used_is_named_with_its_reason() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for database in both() {
        let url = with_hosts(&database.url, &format!("[::1]:1,{silent},"), "");
        let url = format!("{}/nowhere", url.rsplit_once('/').unwrap().0);
        let builder = MySqlStore::builder().statement_timeout(Duration::from_secs(4));
        let error = builder.connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        let message = error.to_string();
        for part in
            ["[::1]:1: the database server cannot be reached", &format!("{silent}: the database server did not")]
        {
            assert!(message.contains(part), "{message}");
        }
        assert!(message.contains(&format!("{}: there is no such database", host_of(&database.url))), "{message}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

/// All lead to one server, over ways that can be closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_on_over_the_hosts_that_are_left() {
    for database in both() {
        let [one, two] = [Proxy::to(&database.url).await, Proxy::to(&database.url).await];
        let url = with_hosts(one.url(), "", &format!(",{}", host_of(two.url())));
        let store = MySqlStore::builder().table(database.table.clone()).pool_size(2).connect(&url).await.unwrap();
        for round in 0..2 {
            let first = request(&format!("first {round}"), MINUTE);
            granted(store.insert_if_absent(&first).await.unwrap());
            let (away, _) = if round == 0 { (&one, &two) } else { (&two, &one) };
            away.close();
            granted(ask(&store, &format!("second {round}"), MINUTE).await.unwrap());
            let release = DeleteRequest::by_owner(first.lock_id, first.owner);
            assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
            away.open();
        }
    }
}

/// A grant that was not answered is not repeated, but what comes after it goes to the other host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_falls_silent_is_left() {
    for database in both() {
        let [one, two] = [Proxy::to(&database.url).await, Proxy::to(&database.url).await];
        let url = with_hosts(one.url(), "", &format!(",{}", host_of(two.url())));
        let store = MySqlStore::builder().table(database.table.clone()).connect(&url).await.unwrap();
        let before = request("before", MINUTE);
        granted(store.insert_if_absent(&before).await.unwrap());
        one.keep_replies();
        let release = DeleteRequest::by_owner(id("before"), before.owner);
        assert_eq!(store.delete(&release).await.unwrap(), Deleted::Released);
        granted(ask(&store, "after", MINUTE).await.unwrap());
    }
}

/// What is logged as a warning.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn Debug| text.push_str(&format!("{field}={value:?} ")));
        self.0.lock().unwrap().push(text);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// After a planned switchover the old primary is there, and takes no writes. Before, its clock is wrong, which is noticed.
#[tokio::test]
async fn a_host_that_became_read_only_is_left_for_the_next() {
    let (old, [new, _]) = (OwnServer::start("mariadb-faketime"), both());
    let table = TableName::new(format!("{}_hosts", new.table)).unwrap();
    for url in [old.url(), &new.url] {
        let admin = Database { url: url.to_owned(), table: table.clone() };
        admin.run("CREATE USER IF NOT EXISTS 'hosts'@'%' IDENTIFIED BY 'hosts'").await;
        admin.run("GRANT ALL ON dbmutex.* TO 'hosts'@'%'").await;
    }
    let as_app = |place: &str| format!("mysql://hosts:hosts@{place}/dbmutex");
    let builder = MySqlStore::builder().table(table.clone());
    builder.clone().connect(&as_app(host_of(&new.url))).await.unwrap();
    let url = as_app(&format!("{},{}", host_of(old.url()), host_of(&new.url)));
    old.set_clock("+5s");
    let warnings = Warnings::default();
    let subscribed = tracing::subscriber::set_default(warnings.clone());
    builder.clone().connect(&url).await.unwrap();
    until(async || !warnings.0.lock().unwrap().is_empty()).await;
    drop(subscribed);
    let warned = warnings.0.lock().unwrap().join("; ");
    let ahead = format!("ahead={:?} behind={:?}", host_of(old.url()), host_of(&new.url));
    assert!(warned.contains("clocks of the database servers differ") && warned.contains(&ahead), "{warned}");
    old.set_clock("+0");

    let store = builder.clone().connect(&url).await.unwrap();
    granted(ask(&store, "before", MINUTE).await.unwrap());
    let old_admin = Database { url: old.url().to_owned(), table };
    assert_eq!(old_admin.rows::<i64>("SELECT count(*) FROM {t}").await, [1], "the first is used first");
    old_admin.run("SET GLOBAL read_only = 1").await;
    granted(ask(&store, "job", MINUTE).await.unwrap());
    let opened_later = builder.connect(&url).await.unwrap();
    assert!(opened_later.find(&id("job")).await.unwrap().unwrap().is_taken());
    assert_eq!(old_admin.rows::<i64>("SELECT count(*) FROM {t}").await, [1]);
}
