use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use deadpool::Runtime;

use crate::connect::Connector;
use crate::pool::{Own, Pool};

/// What a pool of our own is made with.
#[derive(Debug, Clone)]
pub(crate) struct PoolOptions {
    pub(crate) size: usize,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
    /// Whether the connections are ours from end to end: no pooler that gives them to others between transactions.
    pub(crate) direct: bool,
}

/// Makes a pool; nothing is connected yet. To open a connection takes a part of the time that a request has, so that there is
/// another attempt where the first was swallowed.
pub(crate) fn make_pool(connector: &Connector, options: &PoolOptions) -> Result<Pool, StoreError> {
    let connector = if options.direct { connector.with_settings(&settings(options)) } else { connector.clone() };
    // How long a connection may take to come about is the connector's to say.
    deadpool::managed::Pool::builder(Own(connector))
        .max_size(options.size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(options.statement_timeout))
        .build()
        .map(Pool::Own)
        .map_err(|error| StoreError::new(Kind::Config, "the connection pool cannot be built").with_source(error))
}

/// What the statements expect of a session; the role's defaults may differ. It is asked for when a connection is opened, and
/// nothing is set on one that is open: a pooler might give that to others.
///
/// - READ COMMITTED: each statement sees what is committed when it begins, and rows as they are when they are locked.
/// - Plans: a statement is planned once, while the table may be empty, and used when it has a million rows: so the table is
///   not scanned. Planning again for each call, which the server considers for arrays of few elements, would cost more than
///   the statement; so would compiling it.
/// - Timeouts: a request whose caller is gone must not take effect an hour later.
fn settings(options: &PoolOptions) -> [(&'static str, String); 7] {
    let milliseconds = |timeout: Duration| timeout.as_millis().to_string();
    [
        ("default_transaction_isolation", r"read\ committed".into()),
        ("enable_seqscan", "off".into()),
        ("plan_cache_mode", "force_generic_plan".into()),
        ("jit", "off".into()),
        ("statement_timeout", milliseconds(options.statement_timeout)),
        ("lock_timeout", milliseconds(options.lock_timeout)),
        ("idle_in_transaction_session_timeout", milliseconds(options.statement_timeout)),
    ]
}

/// Whether a session is as it was asked for. Poolers refuse what they cannot keep, or take no notice of it.
pub(crate) const IS_AS_ASKED: &str = "SELECT pg_catalog.current_setting('enable_seqscan') = 'off'
     AND pg_catalog.current_setting('plan_cache_mode') = 'force_generic_plan'
     AND pg_catalog.current_setting('default_transaction_isolation') = 'read committed'";
