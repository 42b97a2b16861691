use std::fmt;
use std::future::poll_fn;
use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use db_mutex_sql_support::Password;
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use tokio::task::JoinHandle;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Error, NoTls, Socket};

#[cfg(feature = "_rustls")]
use crate::url::TlsMode;
use crate::url::Url;

/// How to connect to the server of a URL, for the pool and for the one connection that listens.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: Tls,
}

#[derive(Clone)]
enum Tls {
    Off,
    #[cfg(feature = "_rustls")]
    On(tokio_postgres_rustls::MakeRustlsConnect),
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the URL and the certificates that it names; nothing is connected yet.
    pub(crate) fn new(url: &str, password: Option<&Password>, statement_timeout: Duration) -> Result<Self, StoreError> {
        let mut url = Url::parse(url)
            .map_err(|invalid| StoreError::new(Kind::Config, invalid.to_string()).with_source(invalid))?;
        if let (false, Some(password)) = (url.address().has_password, password) {
            url.config.password(&password.0);
        }
        if url.config.get_application_name().is_none() {
            url.config.application_name("db-mutex");
        }
        // A peer that is gone without a word must not be waited for longer than a statement may take.
        if url.config.get_connect_timeout().is_none() {
            url.config.connect_timeout(statement_timeout);
        }
        if url.config.get_tcp_user_timeout().is_none() {
            url.config.tcp_user_timeout(statement_timeout);
        }
        if !url.keepalives_idle_is_given {
            url.config.keepalives_idle(Duration::from_secs(15));
        }
        let tls = tls(&url)?;
        Ok(Self { config: url.config, tls })
    }

    /// The same, for sessions with these settings, which are sent with the login.
    pub(crate) fn with_settings(&self, settings: &[(&str, String)]) -> Self {
        let mut connector = self.clone();
        let own = settings.iter().map(|(name, value)| format!("-c {name}={value}"));
        // The last one of a name counts.
        let all: Vec<_> = self.config.get_options().map(str::to_owned).into_iter().chain(own).collect();
        connector.config.options(all.join(" "));
        connector
    }

    /// What makes the connections of a pool.
    pub(crate) fn manager(&self) -> Manager {
        let options = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        match &self.tls {
            Tls::Off => Manager::from_config(self.config.clone(), NoTls, options),
            #[cfg(feature = "_rustls")]
            Tls::On(tls) => Manager::from_config(self.config.clone(), tls.clone(), options),
        }
    }

    /// Opens a connection that tells `heard` the channel of each notification, and a task that ends with it.
    ///
    /// What it does is repeated until it succeeds, so it waits for nobody's table lock, and not for the disk.
    pub(crate) async fn listen(
        &self,
        heard: impl Fn(&str) + Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let mut config = self.config.clone();
        config.application_name(format!("{} wake-ups", config.get_application_name().unwrap_or_default()));
        let (client, pump) = match &self.tls {
            Tls::Off => open(&config, NoTls, heard).await?,
            #[cfg(feature = "_rustls")]
            Tls::On(tls) => open(&config, tls.clone(), heard).await?,
        };
        let settings = "SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off;
                        SET synchronous_commit = off; SET lock_timeout = '1s'; SET statement_timeout = '10s'";
        client.batch_execute(settings).await?;
        Ok((client, pump))
    }
}

/// Asks the server to cancel what it does for a connection. Where that connection is an application's, TLS is not used: the
/// request says nothing that has to be protected from others.
pub(crate) async fn cancel(token: CancelToken, connector: Option<&Connector>) {
    let cancelled = match connector.map(|connector| &connector.tls) {
        #[cfg(feature = "_rustls")]
        Some(Tls::On(tls)) => token.cancel_query(tls.clone()).await,
        _ => token.cancel_query(NoTls).await,
    };
    if let Err(error) = cancelled {
        tracing::debug!(%error, "a statement could not be cancelled");
    }
}

async fn open<T>(
    config: &Config,
    tls: T,
    heard: impl Fn(&str) + Send + 'static,
) -> Result<(Client, JoinHandle<()>), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await?;
    // It ends when the client is dropped, too.
    let pump = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                heard(notification.channel());
            }
        }
    });
    Ok((client, pump))
}

#[cfg(feature = "_rustls")]
fn tls(url: &Url) -> Result<Tls, StoreError> {
    Ok(match url.tls {
        TlsMode::Disable => Tls::Off,
        mode => Tls::On(crate::tls::connector(mode, url.root_certificates.as_deref())?),
    })
}

/// A URL that asks for TLS was refused before.
#[cfg(not(feature = "_rustls"))]
fn tls(_: &Url) -> Result<Tls, StoreError> {
    Ok(Tls::Off)
}
