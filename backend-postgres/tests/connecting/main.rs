//! How a store comes to its database: through TLS, with a password that is never shown, with few rights, to a table that
//! may not be there yet, over a pool or a pooler that is not its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::error::Error as StdError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use db_mutex_core::store::InsertRequest;
use db_mutex_core::{HolderName, LockId, OwnerToken, TableName, Ttl};
use db_mutex_postgres::tokio_postgres::Client;

mod engines;
mod hosts;
mod migrating;
mod password;
mod pools;
mod refusing;
mod rights;
mod search_path;
#[path = "../server/mod.rs"]
mod server;
mod standby;
mod tls;
mod urls;

/// A name that no other test and no earlier run has used.
fn fresh(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() % 10_000_000_000;
    format!("{what}_{run}_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn fresh_table(what: &str) -> TableName {
    TableName::new(fresh(what)).unwrap()
}

fn request(id: &str) -> InsertRequest {
    let ttl = Ttl::new(Duration::from_secs(60)).unwrap();
    InsertRequest::new(LockId::new(id).unwrap(), OwnerToken::mint().unwrap(), ttl, HolderName::of_this_process())
}

/// The first column of the rows, which is text.
async fn texts(client: &Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Everything that an error says: its message, its `Debug` output, and those of its sources.
fn shown(error: &(dyn StdError + 'static)) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n");
    if let Some(source) = error.source() {
        text += &shown(source);
    }
    text
}
