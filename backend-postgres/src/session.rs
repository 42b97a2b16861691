use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use deadpool_postgres::{Hook, HookError, Pool, Runtime};

use crate::connect::Connector;

/// What a pool of our own is made with.
#[derive(Debug, Clone)]
pub(crate) struct PoolOptions {
    pub(crate) size: usize,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    /// Whether the connections are ours from end to end: no pooler that gives them to others between transactions.
    pub(crate) direct: bool,
}

/// Makes a pool; nothing is connected yet.
pub(crate) fn make_pool(connector: &Connector, options: &PoolOptions) -> Result<Pool, StoreError> {
    let pool = Pool::builder(connector.manager())
        .max_size(options.size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(options.statement_timeout))
        .create_timeout(Some(options.statement_timeout));
    let pool = if options.direct { pool.post_create(session_settings(options)) } else { pool };
    pool.build()
        .map_err(|error| StoreError::new(Kind::Config, "the connection pool cannot be built").with_source(error))
}

/// What the statements expect of a session, whatever the role's defaults are.
///
/// - READ COMMITTED: each statement sees what is committed when it begins, and rows as they are when they are locked.
/// - Plans: a statement is planned once, while the table may be empty, and used when it has a million rows: so the table is
///   not scanned. Planning again for each call, which the server considers for arrays of few elements, would cost more than
///   the statement; so would compiling it.
/// - Timeouts: a request that nobody waits for any more must not take effect an hour later.
fn session_settings(options: &PoolOptions) -> Hook {
    let settings = format!(
        "SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off;
         SET plan_cache_mode = force_generic_plan; SET jit = off;
         SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}",
        options.statement_timeout.as_millis(),
        options.lock_timeout.as_millis(),
        options.statement_timeout.as_millis(),
    );
    Hook::async_fn(move |client, _| {
        let settings = settings.clone();
        Box::pin(async move { client.batch_execute(&settings).await.map_err(HookError::Backend) })
    })
}
