use std::time::Duration;

use db_mutex_core::{Invalid, StoreError, StoreErrorKind as Kind};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::NoTls;

use crate::url::{TlsMode, Url};

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
pub(crate) fn make_pool(url: &str, options: &PoolOptions) -> Result<Pool, StoreError> {
    let mut url = Url::parse(url).map_err(|invalid: Invalid| StoreError::new(Kind::Config, invalid.to_string()))?;
    if url.config.get_application_name().is_none() {
        url.config.application_name("db-mutex");
    }
    // A peer that is gone without a word must not be waited for longer than a statement may take.
    if url.config.get_connect_timeout().is_none() {
        url.config.connect_timeout(options.statement_timeout);
    }
    url.config.tcp_user_timeout(options.statement_timeout).keepalives_idle(Duration::from_secs(15));
    let pool = Pool::builder(manager(url)?)
        .max_size(options.size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(options.statement_timeout))
        .create_timeout(Some(options.statement_timeout));
    let pool = if options.direct { pool.post_create(session_settings(options)) } else { pool };
    pool.build()
        .map_err(|error| StoreError::new(Kind::Config, "the connection pool cannot be built").with_source(error))
}

#[cfg(feature = "rustls-any")]
fn manager(url: Url) -> Result<Manager, StoreError> {
    Ok(match url.tls {
        TlsMode::Disable => Manager::from_config(url.config, NoTls, MANAGER),
        mode => {
            let connector = crate::tls::connector(mode, url.root_certificates.as_deref())?;
            Manager::from_config(url.config, connector, MANAGER)
        }
    })
}

#[cfg(not(feature = "rustls-any"))]
fn manager(mut url: Url) -> Result<Manager, StoreError> {
    match url.tls {
        TlsMode::Disable | TlsMode::Prefer => {
            url.config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            Ok(Manager::from_config(url.config, NoTls, MANAGER))
        }
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
            let _ = url.root_certificates;
            let message =
                "TLS is not compiled in; turn on the feature `tls`, or write sslmode=disable if plain text will do";
            Err(StoreError::new(Kind::Config, message))
        }
    }
}

const MANAGER: ManagerConfig = ManagerConfig { recycling_method: RecyclingMethod::Fast };

/// What the statements expect of a session, whatever the role's defaults are.
///
/// - READ COMMITTED: each statement sees what is committed when it begins, and rows as they are when they are locked.
/// - No sequential scans: a statement is planned once, while the table may be empty, and used when it has a million rows.
/// - Timeouts: a request that nobody waits for any more must not take effect an hour later.
fn session_settings(options: &PoolOptions) -> Hook {
    let settings = format!(
        "SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off;
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
