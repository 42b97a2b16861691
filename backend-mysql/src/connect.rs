use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind};
use db_mutex_sql_support::hosts::{none_usable, time_for_one};
use mysql_async::{Conn, Error, OptsBuilder, Pool, PoolConstraints, PoolOpts};
#[cfg(feature = "_rustls")]
use mysql_async::{DriverError, SslOpts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cancel::{Cancel, Identities};
use crate::error::{Failed, Failure};
#[cfg(feature = "_rustls")]
use crate::tls::{presented_name, ssl_opts};
#[cfg(feature = "_rustls")]
use crate::url::SslMode;
use crate::url::Url;

/// The most connections for work in the background.
pub(crate) const APART: usize = 3;

/// The pool that requests take their connections from. Clones share it.
#[derive(Clone)]
pub(crate) struct Connections {
    current: Arc<Mutex<Generation>>,
    /// How connections of our own are made; `None` on an application's pool, which is not replaced.
    own: Option<Own>,
}

/// A pool of connections to one server, and how often it was replaced.
#[derive(Clone)]
struct Generation {
    number: u64,
    /// The position of the server.
    server: usize,
    /// Made when it is needed.
    pool: Option<Pool>,
    identities: Identities,
}

impl Generation {
    fn of(number: u64, server: usize) -> Self {
        Self { number, server, pool: None, identities: Identities::default() }
    }
}

#[derive(Clone)]
struct Own {
    servers: Arc<Servers>,
    size: usize,
    /// How many of them stay open that are not used.
    kept: usize,
    /// What a session is set to.
    setup: Arc<str>,
    /// As many as there may be connections: a request that has a place does not wait in the driver's pool.
    places: Arc<Semaphore>,
}

impl Own {
    /// The options of a connection for requests.
    async fn opts(&self, server: usize, identities: &Identities) -> Result<OptsBuilder, Failed> {
        let (identities, several) = (identities.clone(), self.servers.len() > 1);
        let opts = self.servers.settled(server).await?.after_connect(move |connection| {
            let identities = identities.clone();
            // What may be a replica has to say that it is none. A single server says so when it is written to.
            Box::pin(async move { identities.note(connection, several).await })
        });
        Ok(opts.setup(vec![self.setup.to_string()]))
    }
}

/// A connection for a request.
pub(crate) struct Lent {
    pub(crate) connection: Conn,
    /// Which pool it came with; `None` if with none.
    pub(crate) pool: Option<u64>,
    pub(crate) place: Option<OwnedSemaphorePermit>,
    /// How to end what it does; `None` if that cannot be known.
    pub(crate) cancel: Option<Cancel>,
}

impl Connections {
    pub(crate) fn own(servers: Arc<Servers>, first: usize, size: usize, setup: &str) -> Self {
        let places = Arc::new(Semaphore::new(size));
        let own = Own { servers, size, kept: size, setup: setup.into(), places };
        Self::of(Generation::of(0, first), Some(own))
    }

    pub(crate) fn borrowed(pool: Pool) -> Self {
        Self::of(Generation { pool: Some(pool), ..Generation::of(0, 0) }, None)
    }

    fn of(generation: Generation, own: Option<Own>) -> Self {
        Self { current: Arc::new(Mutex::new(generation)), own }
    }

    /// The same servers, over a few connections that are not lent out to others; `None` on an application's pool.
    pub(crate) fn apart(&self) -> Option<Self> {
        let own = self.own.as_ref()?;
        let own = Own { size: APART, kept: 1, places: Arc::new(Semaphore::new(APART)), ..own.clone() };
        Some(Self::of(Generation::of(0, self.current().server), Some(own)))
    }

    /// A connection. With several servers, it is a connection to the first that accepts the login and writes, starting with
    /// the one that was used last. A server that has no room is passed over this time: its pool stays, and the connection
    /// comes with none.
    pub(crate) async fn get(&self) -> Result<Lent, Failed> {
        let Some(own) = &self.own else {
            let Generation { number, pool, .. } = self.current().clone();
            let pool = pool.ok_or_else(|| Failed::from(Error::from(mysql_async::DriverError::PoolDisconnected)))?;
            let connection = pool.get_conn().await?;
            let cancel = Some(Cancel::on_pool(&connection));
            return Ok(Lent { connection, pool: Some(number), place: None, cancel });
        };
        let place = Arc::clone(&own.places).acquire_owned().await.ok();
        let mut failures: Vec<(String, Failed)> = Vec::new();
        let mut passed_over = Vec::new();
        let count = own.servers.list.len();
        for _ in 0..count {
            let generation = self.current().clone();
            let number = generation.number;
            let next = (0..count).map(|on| (generation.server + on) % count).find(|next| !passed_over.contains(next));
            let server = next.unwrap_or(generation.server);
            let opening = async {
                if server == generation.server {
                    let connection = self.pool_of(own, &generation).await?.get_conn().await?;
                    return Ok((connection, Some(number), generation.identities.clone()));
                }
                let identities = Identities::default();
                let opts = own.opts(server, &identities).await?;
                Ok((Conn::new(opts).await?, None, identities))
            };
            let failed = match tokio::time::timeout(own.servers.time_for_one(), opening).await {
                Ok(Ok((connection, pool, identities))) => {
                    let cancel = identities.cancel(&connection, &own.servers, server);
                    return Ok(Lent { connection, pool, place, cancel });
                }
                Ok(Err(failed)) => failed,
                Err(_) => silent(),
            };
            // That a server has no room for another connection says nothing about those that we have: if they were given
            // up, perhaps none could be opened for a renewal.
            match failed.failure {
                Failure::NoRoom => passed_over.push(server),
                _ if server != generation.server => passed_over.push(server),
                Failure::Final if count == 1 => {}
                // Connections in the driver's pool that are given up are cleaned up for as long as the server is silent.
                _ => self.leave(number),
            }
            failures.push((own.servers.list[server].name.clone(), failed));
        }
        let failure = failures.iter().map(|(_, failed)| failed.failure).min().unwrap_or(Failure::Final);
        let errors = failures.into_iter().map(|(server, failed)| (server, failed.error)).collect();
        Err(Failed { failure, error: none_usable(errors) })
    }

    /// The pool of a generation.
    async fn pool_of(&self, own: &Own, generation: &Generation) -> Result<Pool, Failed> {
        if let Some(pool) = &generation.pool {
            return Ok(pool.clone());
        }
        let opts = own.opts(generation.server, &generation.identities).await?;
        let constraints = PoolConstraints::new(own.kept, own.size).unwrap_or_default();
        // Ours alone, and always set: no reset, which would cost a round trip each time.
        let few = PoolOpts::new().with_constraints(constraints).with_reset_connection(false);
        let pool = Pool::new(opts.pool_opts(few));
        let mut current = self.current();
        if current.number == generation.number {
            return Ok(current.pool.get_or_insert(pool).clone());
        }
        Ok(pool)
    }

    /// How many servers there are to choose from.
    pub(crate) fn servers(&self) -> u32 {
        self.own.as_ref().map_or(1, |own| u32::try_from(own.servers.list.len()).unwrap_or(u32::MAX))
    }

    /// Whether the next connection is a new one once [`leave`](Self::leave) was called.
    pub(crate) fn are_replaced(&self) -> bool {
        self.own.is_some()
    }

    /// Leaves the connections of that pool: one of them has failed, so all are suspect. The next server is tried first.
    pub(crate) fn leave(&self, number: u64) {
        let Some(own) = &self.own else { return };
        let mut current = self.current();
        if current.number == number {
            let server = (current.server + 1) % own.servers.list.len();
            *current = Generation::of(number + 1, server);
        }
    }

    /// Nothing that can panic runs under this mutex.
    fn current(&self) -> MutexGuard<'_, Generation> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn silent() -> Failed {
    let message = "the database server did not let a client in in time";
    Failed { failure: Failure::Lost, error: StoreError::new(StoreErrorKind::Unavailable, message) }
}

/// The servers of a URL, in its order.
pub(crate) struct Servers {
    list: Vec<Server>,
    url: Url,
    /// How long a request may take in all.
    limit: Duration,
}

struct Server {
    name: String,
    opts: OptsBuilder,
    /// The same once it is known how the connection is protected.
    settled: OnceLock<OptsBuilder>,
}

impl Servers {
    /// Reads the certificate authorities; nothing is connected yet.
    pub(crate) fn of(url: Url, limit: Duration) -> Result<Self, StoreError> {
        #[cfg(feature = "_rustls")]
        let ssl = ssl_opts(&url)?;
        let servers = url.servers().map(|(name, opts)| {
            #[cfg(feature = "_rustls")]
            let opts = opts.ssl_opts(ssl.clone());
            Server { name, opts, settled: OnceLock::new() }
        });
        Ok(Self { list: servers.collect(), url, limit })
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn name(&self, server: usize) -> &str {
        &self.list[server].name
    }

    /// How long a server may take to let a client in.
    pub(crate) fn time_for_one(&self) -> Duration {
        time_for_one(self.limit, self.list.len())
    }

    /// Opens the first connection to a server.
    pub(crate) async fn open(&self, server: usize) -> Result<Conn, Failed> {
        let opening = async {
            let mut connection = Conn::new(self.settled(server).await?).await?;
            if self.list.len() > 1 {
                Identities::default().note(&mut connection, true).await?;
            }
            Ok(connection)
        };
        tokio::time::timeout(self.time_for_one(), opening).await.unwrap_or_else(|_| Err(silent()))
    }

    /// The options of a connection. What the server is able to decides about two of the modes of TLS.
    async fn settled(&self, server: usize) -> Result<OptsBuilder, Failed> {
        let server = &self.list[server];
        if let Some(settled) = server.settled.get() {
            return Ok(settled.clone());
        }
        let settled = self.settle(&server.opts).await?;
        Ok(server.settled.get_or_init(|| settled).clone())
    }

    #[cfg(feature = "_rustls")]
    async fn settle(&self, opts: &OptsBuilder) -> Result<OptsBuilder, Failed> {
        if !matches!(self.url.ssl_mode, SslMode::Preferred | SslMode::VerifyCa) {
            return Ok(opts.clone());
        }
        let error = match Conn::new(opts.clone()).await {
            Ok(connection) => {
                let _ = connection.disconnect().await;
                return Ok(opts.clone());
            }
            Err(error) => error,
        };
        match (self.url.ssl_mode, &error) {
            (SslMode::Preferred, Error::Driver(DriverError::NoClientSslFlagFromServer)) => {
                Ok(opts.clone().ssl_opts(None::<SslOpts>))
            }
            // The driver cannot verify the authority alone. It verifies it first, and then the name: so the name that the
            // certificate does have is asked for.
            (SslMode::VerifyCa, _) if presented_name(&error).is_some() => {
                let ssl = ssl_opts(&self.url).map_err(|error| Failed { failure: Failure::Final, error })?;
                let ssl = ssl.map(|ssl| ssl.with_danger_tls_hostname_override(presented_name(&error)));
                Ok(opts.clone().ssl_opts(ssl))
            }
            _ => Err(error.into()),
        }
    }

    /// A URL that asks for TLS was refused before.
    #[cfg(not(feature = "_rustls"))]
    async fn settle(&self, opts: &OptsBuilder) -> Result<OptsBuilder, Failed> {
        let _ = &self.url;
        Ok(opts.clone())
    }
}
