//! A worker beside a Django project: waits for a file with a number, and increments it, each time under the lock `counter`.
//!
//!     shared-with-django DATABASE COUNTER TIMES [DJANGO-TTL-SECONDS]
//!
//! DATABASE is an SQLite file or the URL of a PostgreSQL server.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::LockStore;
use db_mutex_core::{DbMutex, WaitLimit};
use shared_with_django::{DjangoPostgres, DjangoSqlite};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, counter, times, rest @ ..] = &*arguments else {
        return Err("usage: shared-with-django DATABASE COUNTER TIMES [DJANGO-TTL-SECONDS]".into());
    };
    let django_ttl = Some(Duration::from_secs(rest.first().map_or(Ok(30 * 60), |seconds| seconds.parse())?));
    let store: Arc<dyn LockStore> = match database.starts_with("postgres") {
        true => Arc::new(DjangoPostgres::connect(database, django_ttl).await?),
        false => Arc::new(DjangoSqlite::open(database, django_ttl).await?),
    };
    let mutex = DbMutex::new(store)?;
    let counter = Path::new(counter);
    println!("ready");
    while !counter.exists() {
        sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..times.parse()? {
        let lock = mutex.lock("counter").ttl(Duration::from_secs(10)).wait(WaitLimit::Forever);
        lock.run(async |_guard| increment(counter).await).await??;
    }
    let unreleased = mutex.shutdown(Duration::from_secs(5)).await;
    if unreleased.is_empty() { Ok(()) } else { Err(format!("not released: {unreleased:?}").into()) }
}

/// Loses an increment if another process does the same at the same time.
async fn increment(counter: &Path) -> Result<(), Box<dyn Error>> {
    let number: u64 = std::fs::read_to_string(counter)?.trim().parse()?;
    sleep(Duration::from_millis(2)).await;
    std::fs::write(counter, format!("{}\n", number + 1))?;
    let turns = counter.with_extension("turns");
    Ok(OpenOptions::new().create(true).append(true).open(turns)?.write_all(b"rust\n")?)
}
