//! What is measured: db-mutex, the statements that it sends, and what a user might take instead.
//!
//! | file | subjects |
//! |---|---|
//! | `db_mutex.rs` | db-mutex on each of its databases |
//! | `bare_postgres.rs`, `bare_mysql.rs`, `bare_sqlite.rs` | the floor: the statements of the store, sent by the driver alone |
//! | `trip.rs` | two round trips, and nothing done |
//! | `update.rs` | a scale: one UPDATE of one row, as pgbench does it |
//! | `advisory.rs` | `PgAdvisoryLock` of sqlx |
//! | `distributed.rs` | the crates distributed-lock-postgres and -mysql |
//! | `redlock.rs` | the crate rslock on Redis |
//! | `etcd.rs` | the lock of etcd |
//!
//! django-db-mutex is Python: `django/worker.py` says the same to the runner as these.

mod advisory;
mod bare_mysql;
mod bare_postgres;
mod bare_sqlite;
pub(crate) mod db_mutex;
mod distributed;
mod etcd;
mod redlock;
mod trip;
mod update;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::spec::{Failure, Sample, Spec, Work};
use crate::work;

/// Something that can be held.
///
/// One method and not two, because some peers' guards borrow from a value that the caller has to keep.
pub(crate) trait Subject: Send + Sync + 'static {
    /// Acquires, runs `held` to its end, and releases. Fails if the lock is held by another, unless it may `wait`.
    fn hold<R: Future<Output = ()> + Send>(
        &self,
        task: usize,
        id: &str,
        wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// How many connections a pool of a peer has, if each lock or each statement in flight needs one. db-mutex has its own default.
fn connections(tasks: usize) -> u32 {
    tasks.min(32) as u32
}

/// Does what the spec says with the subject that it names.
pub(crate) async fn work(spec: Spec) -> Result<Sample, Failure> {
    match spec.subject.as_str() {
        "db-mutex" => match spec.work {
            Work::Refused { millis } => work::refused(&spec, millis).await,
            Work::Leases { count, ttl_millis, millis } => work::leases(&spec, count, ttl_millis, millis).await,
            Work::Waiters { count, one_id, millis } => work::waiters(&spec, count, one_id, millis).await,
            Work::Statements => work::statements(&spec).await,
            _ => with(db_mutex::Locks::new(&spec).await?, spec).await,
        },
        "bare" | "uncommitted" if spec.url.starts_with("postgres") => {
            with(bare_postgres::Bare::new(&spec).await?, spec).await
        }
        "bare" | "uncommitted" if spec.url.starts_with("mysql") => {
            with(bare_mysql::Bare::new(&spec).await?, spec).await
        }
        "bare" | "uncommitted" => with(bare_sqlite::Bare::new(&spec).await?, spec).await,
        "trip" => with(trip::Trip::new(&spec).await?, spec).await,
        "update" => with(update::Update::new(&spec).await?, spec).await,
        "advisory" => with(advisory::Advisory::new(&spec).await?, spec).await,
        "distributed" if spec.url.starts_with("postgres") => with(distributed::postgres(&spec).await?, spec).await,
        "distributed" => with(distributed::mysql(&spec).await?, spec).await,
        "rslock" => with(redlock::Redlock::new(&spec), spec).await,
        "etcd" => with(etcd::Etcd::new(&spec).await?, spec).await,
        other => Err(format!("there is no subject {other:?}").into()),
    }
}

async fn with(subject: impl Subject, spec: Spec) -> Result<Sample, Failure> {
    let subject = Arc::new(subject);
    // Its connections stay open until the process ends: the runner reads the CPU of the server's processes for them.
    std::mem::forget(Arc::clone(&subject));
    match spec.work {
        Work::Load { ids, millis } => work::load(subject, &spec, ids, millis).await,
        Work::HandOver { turns } => work::hand_over(subject, &spec, turns).await,
        _ => Err(format!("{} cannot do {:?}", spec.subject, spec.work).into()),
    }
}

/// Whether the bare statements are all in one transaction, which does not end: what they cost without their commits.
fn is_uncommitted(spec: &Spec) -> bool {
    spec.subject == "uncommitted"
}

/// An owner token for the bare statements: as unique as the measurement needs.
fn owner() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut owner = [0; 16];
    owner[..4].copy_from_slice(&std::process::id().to_le_bytes());
    owner[8..].copy_from_slice(&number.to_le_bytes());
    owner
}

/// What the store writes as the holder is about as long.
const HOLDER: &str = "benchmark pid 12345";
const TTL_MICROS: i64 = 60_000_000;
