//! Waiting behind a pooler asks from time to time, and says nothing about it.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_postgres::PostgresStore;
use db_mutex_test_servers::Proxy;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::{server, table};

static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what is told as a warning or an error.
struct Ear;

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        *self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        event.record(&mut Line(&mut line));
        WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_behind_a_pooler_asks_seldom_and_says_nothing() {
    tracing::subscriber::set_global_default(Ear).unwrap();
    let proxy = Proxy::to(&server::url("pgbouncer")).await;
    let store =
        |url: String| async move { PostgresStore::builder().table(table("quiet")).connect(&url).await.unwrap() };
    let holder = DbMutex::new(store(server::url("pgbouncer")).await).unwrap();
    let mutex = DbMutex::new(store(proxy.url().to_owned()).await).unwrap();
    let guard = holder.lock("quiet job").acquire().await.unwrap();
    let (lock, limit) = (mutex.lock("quiet job"), Duration::from_secs(6));
    proxy.count_requests_with("quiet job");
    // Ten in one process are one in front of the database.
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let lock = lock.clone().wait(limit);
            tokio::spawn(async move { lock.acquire().await.unwrap_err().is_held() })
        })
        .collect();
    for waiter in waiting {
        assert!(waiter.await.unwrap());
    }
    let asked = proxy.counted();
    println!("{asked} questions in {limit:?}");
    // Each asks when it comes and when its time is over; in between all share a question twice a second or so.
    assert!((6..=60).contains(&asked), "{asked} questions in {limit:?}");
    guard.release().await.unwrap();
    let warnings = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(warnings.is_empty(), "{warnings:#?}");
}
