use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use db_mutex_sql_support::Password;
use deadpool_postgres::ClientWrapper;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_postgres::config::LoadBalanceHosts;
use tokio_postgres::error::DbError;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Connection, NoTls, SimpleQueryMessage, Socket};

use crate::current::Taken;
use crate::error::store_error;
use crate::hosts::{Attempt, Hosts, Open};
use crate::opening::Opening;
use crate::places::Target;
use crate::unreachable::{Cause, Unreachable};
#[cfg(feature = "_rustls")]
use crate::url::TlsMode;
use crate::url::{Pooler, Url};

/// How to connect to the server of a URL, for the pool and for the one connection that listens. Clones share what was learnt
/// of its hosts.
#[derive(Clone)]
pub(crate) struct Connector {
    /// All but the hosts.
    config: Config,
    tls: Tls,
    /// What the URL says about engines that cannot keep locks.
    pub(crate) allow_unsupported_engine: bool,
    pub(crate) hosts: Arc<Hosts>,
    /// While a store is opened: until when.
    pub(crate) opening: Arc<Opening>,
    /// What the URL says of a pooler.
    pub(crate) pooler: Pooler,
}

#[derive(Clone)]
enum Tls {
    Off,
    #[cfg(feature = "_rustls")]
    On(tokio_postgres_rustls::MakeRustlsConnect),
}

/// A connection of our own.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The connection is closed when this is dropped.
    pub(crate) client: ClientWrapper,
    /// How many commits a synchronous standby has not confirmed.
    pub(crate) unconfirmed: Arc<AtomicU64>,
    /// Fails when the connection ends.
    pub(crate) end: oneshot::Receiver<()>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the URL and the certificates that it names; nothing is connected yet.
    pub(crate) fn new(
        url: &str,
        password: Option<&Password>,
        statement_timeout: Duration,
        read_only: bool,
    ) -> Result<Self, StoreError> {
        let mut url = Url::parse(url)
            .map_err(|invalid| StoreError::new(Kind::Config, invalid.to_string()).with_source(invalid))?;
        if let (false, Some(password)) = (url.address().has_password, password) {
            url.config.password(&password.0);
        }
        if url.config.get_application_name().is_none() {
            url.config.application_name("db-mutex");
        }
        let limit = url.config.get_connect_timeout().copied();
        // A peer that is gone without a word must not be waited for longer than a statement may take.
        if limit.is_none() {
            url.config.connect_timeout(statement_timeout);
        }
        if url.config.get_tcp_user_timeout().is_none() {
            url.config.tcp_user_timeout(statement_timeout);
        }
        if !url.keepalives_idle_is_given {
            url.config.keepalives_idle(Duration::from_secs(15));
        }
        let tls = tls(&url)?;
        let random = url.config.get_load_balance_hosts() == LoadBalanceHosts::Random;
        // Less than what a request has, so that the error says which host did not answer.
        let target = (url.target, if read_only { Target::Primary } else { Target::ReadWrite });
        let hosts = Hosts::new(url.places, target, random, limit, statement_timeout / 10 * 9);
        Ok(Self {
            config: url.config,
            tls,
            allow_unsupported_engine: url.allow_unsupported_engine,
            hosts: Arc::new(hosts),
            opening: Arc::default(),
            pooler: url.pooler,
        })
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

    /// Opens a connection for requests.
    pub(crate) async fn connect(&self) -> Result<(Opened, Taken), Unreachable> {
        self.open_somewhere(&self.config, |_| {}).await
    }

    /// Opens a connection that sends the channel of each notification to `heard`.
    ///
    /// What it does is repeated until it succeeds, so it waits neither for a table lock nor for the disk.
    pub(crate) async fn listen(
        &self,
        heard: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<(Opened, Taken), StoreError> {
        let mut config = self.config.clone();
        config.application_name(format!("{} wake-ups", config.get_application_name().unwrap_or_default()));
        let (opened, taken) = self.open_somewhere(&config, heard).await.map_err(|error| error.into_error().0)?;
        let settings = "SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off;
                        SET synchronous_commit = off; SET lock_timeout = '1s'; SET statement_timeout = '10s'";
        opened.client.batch_execute(settings).await.map_err(store_error)?;
        Ok((opened, taken))
    }

    async fn open_somewhere(
        &self,
        config: &Config,
        heard: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<(Opened, Taken), Unreachable> {
        self.hosts.connect(&Session { config, tls: &self.tls, heard: Arc::new(heard) }, self.opening.until()).await
    }
}

/// How a connection is opened to one host.
struct Session<'a> {
    config: &'a Config,
    tls: &'a Tls,
    heard: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Open for Session<'_> {
    type Connection = Opened;

    async fn open(&self, attempt: Attempt<'_>) -> Result<Opened, Cause> {
        let config = config_for(self.config, &attempt);
        match self.tls {
            Tls::Off => self.open_with(&config, NoTls, attempt.target).await,
            #[cfg(feature = "_rustls")]
            Tls::On(tls) => self.open_with(&config, tls.clone(), attempt.target).await,
        }
    }
}

fn config_for(config: &Config, attempt: &Attempt<'_>) -> Config {
    let mut config = config.clone();
    // The name is what a certificate is for.
    if let Some(host) = &attempt.place.host {
        config.host(host);
    }
    match attempt.address {
        // The driver's form of an address has no interface, which such an address needs. It looks the name up again.
        Some(SocketAddr::V6(address)) if address.scope_id() != 0 && attempt.place.host.is_some() => {}
        Some(address) => {
            config.hostaddr(address.ip());
        }
        None => {}
    }
    config.port(attempt.place.port);
    config
}

impl Session<'_> {
    async fn open_with<T>(&self, config: &Config, tls: T, target: Target) -> Result<Opened, Cause>
    where
        T: MakeTlsConnect<Socket> + Send,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, connection) = config.connect(tls).await.map_err(Cause::Driver)?;
        let reported = reported(&connection);
        let (unconfirmed, (ends, end)) = (Arc::<AtomicU64>::default(), oneshot::channel());
        let pump = tokio::spawn(pump(connection, Arc::clone(&self.heard), Arc::clone(&unconfirmed), ends));
        let opened = Opened { client: ClientWrapper::new(client, pump), unconfirmed, end };
        let (is_standby, is_read_only) = match (target, reported) {
            (Target::Any, _) => (false, false),
            (_, Some(reported)) => reported,
            // Servers before version 14, and poolers, do not report it.
            (_, None) => what_it_is(&opened.client).await.map_err(Cause::Driver)?,
        };
        match target {
            Target::ReadWrite | Target::Primary if is_standby => Err(Cause::Standby),
            Target::ReadWrite if is_read_only => Err(Cause::ReadOnly),
            _ => Ok(opened),
        }
    }
}

/// What the server has said about that at the login.
fn reported<S, T>(connection: &Connection<S, T>) -> Option<(bool, bool)>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let is_on = |name| connection.parameter(name).map(|value| value == "on");
    is_on("in_hot_standby").zip(is_on("default_transaction_read_only"))
}

/// Whether the server is a standby, and whether the session accepts no writes. In the one protocol that every pooler knows.
async fn what_it_is(client: &Client) -> Result<(bool, bool), tokio_postgres::Error> {
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')::boolean";
    let messages = client.simple_query(sql).await?;
    let is_true = |column| {
        messages.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(column) == Some("t"),
            _ => false,
        })
    };
    Ok((is_true(0), is_true(1)))
}

/// Drives a connection to its end.
async fn pump<S, T>(
    mut connection: Connection<S, T>,
    heard: Arc<dyn Fn(&str) + Send + Sync>,
    unconfirmed: Arc<AtomicU64>,
    _ends: oneshot::Sender<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => heard(notification.channel()),
            // Before the answer of the statement that it is about.
            Ok(AsyncMessage::Notice(notice)) if is_unconfirmed(&notice) => {
                unconfirmed.fetch_add(1, Ordering::SeqCst);
            }
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::debug!(severity = notice.severity(), message = notice.message(), "PostgreSQL noticed");
            }
            Ok(_) => {}
            Err(error) => return tracing::debug!(%error, "a connection to PostgreSQL broke"),
        }
    }
}

/// Whether a notice says that a commit was not confirmed by the synchronous standbys, because the wait for them was cancelled.
/// Its text is in the server's language; the function that has sent it has the same name since there are such standbys.
fn is_unconfirmed(notice: &DbError) -> bool {
    notice.routine() == Some("SyncRepWaitForLSN")
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use tokio_postgres::config::Host;

    use super::*;
    use crate::places::Place;

    fn config(host: &str, address: SocketAddr) -> Config {
        let place = Place { host: Some(host.to_owned()), address: None, port: 5432 };
        let attempt = Attempt { place: &place, address: Some(address), target: Target::Any };
        config_for(&Config::new(), &attempt)
    }

    #[test]
    fn the_driver_is_told_the_address_unless_it_needs_an_interface() {
        let address = SocketAddr::from(([10, 0, 0, 1], 5432));
        assert_eq!(config("h", address).get_hostaddrs(), [address.ip()]);
        let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
        let config = config("fe80::1%eth0", SocketAddrV6::new(link_local, 5432, 0, 2).into());
        assert!(config.get_hostaddrs().is_empty(), "{config:?}");
        assert_eq!(config.get_hosts(), [Host::Tcp("fe80::1%eth0".into())]);
    }
}
