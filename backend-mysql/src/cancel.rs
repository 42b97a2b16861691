//! Ending a statement without a reply, so that it cannot take effect later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use db_mutex_core::StoreError;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Row, ServerError};

use crate::connect::Servers;
use crate::error::store_error;
use crate::in_use::InUse;
use crate::row::{number, text};
use crate::send::query;

/// A query for the identity of a connection in the server.
pub(crate) const QUESTION: &str = "SELECT CONCAT_WS('/', @@hostname, @@port, @@server_id), UNIX_TIMESTAMP(), CONNECTION_ID(), \
     @@GLOBAL.read_only, SUBSTRING_INDEX(USER(), '@', 1), DATABASE()";

/// The identity of a connection in the server. A name or a proxy may lead to another server later, where the connection of
/// another client has the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    server: String,
    /// When this was read, by the server's clock in seconds. A restart of the server resets the numbers.
    read: i64,
    connection: i64,
    is_read_only: bool,
    user: Option<String>,
    database: Option<String>,
}

impl Identity {
    async fn of(connection: &mut Conn) -> Result<Self, Error> {
        let answers = query(connection, &[QUESTION]).await?;
        Ok(Self::read(answers.into_iter().flat_map(|answer| answer.rows).collect()))
    }

    /// Reads what [`QUESTION`] has returned.
    fn read(rows: Vec<Row>) -> Self {
        let row = rows.into_iter().next().map(Row::unwrap).unwrap_or_default();
        let mut values = row.into_iter().map(text);
        let [server, read, own, read_only, user, database] = std::array::from_fn(|_| values.next().flatten());
        let number = |text: Option<String>| text.and_then(|text| number(mysql_async::Value::from(text))).unwrap_or(0);
        Self {
            server: server.unwrap_or_default(),
            read: number(read),
            connection: number(own),
            is_read_only: !matches!(read_only.as_deref(), Some("0" | "OFF")),
            user,
            database,
        }
    }

    /// Whether a proxy is in between: what served this may serve another client of it at the next statement.
    fn is_proxied(&self, connection: u32) -> bool {
        self.connection != i64::from(connection)
    }

    /// Whether that is the same server, and was not started again. `uptime` is in seconds.
    fn has_same_server(&self, now: &Self, uptime: i64) -> bool {
        // Both times are rounded.
        self.server == now.server && now.read - uptime < self.read - 1
    }
}

/// How many identities are kept. A pool has fewer connections; those that were opened last have the highest numbers.
const KEPT: usize = 4_096;

/// What the connections of a pool are in the server, by the numbers that the driver knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identities(Arc<Mutex<BTreeMap<u32, Identity>>>);

impl Identities {
    /// Reads it when a connection is opened. With `must_write`, the connection fails if the server accepts no writes, as at a
    /// write.
    pub(crate) async fn note(&self, connection: &mut Conn, must_write: bool) -> Result<(), Error> {
        let identity = match Identity::of(connection).await {
            // A proxy that does not know all of this: then nothing can be ended.
            Err(Error::Server(_)) if !must_write => return Ok(()),
            identity => identity?,
        };
        if must_write && identity.is_read_only {
            let (message, state) = ("read_only is set".to_owned(), "HY000".to_owned());
            return Err(Error::Server(ServerError { code: 1290, message, state }));
        }
        if !identity.is_proxied(connection.id()) {
            self.keep(connection.id(), identity);
        }
        Ok(())
    }

    /// The driver does not say when a connection has ended.
    fn keep(&self, number: u32, identity: Identity) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(number, identity);
        if kept.len() > KEPT {
            kept.pop_first();
        }
    }

    /// How what a connection of our own does is ended.
    pub(crate) fn cancel(&self, connection: &Conn, servers: &Arc<Servers>, server: usize) -> Option<Cancel> {
        let identity = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&connection.id())?.clone();
        Some(Cancel { way: Way::Own(Arc::clone(servers), server), identity: identity.into() })
    }
}

/// How another connection is opened to the server that a connection leads to.
enum Way {
    Own(Arc<Servers>, usize),
    /// As the application's pool does, but not through it: all that it may have can be in use.
    Pool(Box<Opts>),
}

impl Way {
    async fn open(&self) -> Result<Conn, StoreError> {
        match self {
            Self::Own(servers, server) => servers.open(*server).await.map_err(|failed| failed.error),
            Self::Pool(opts) => {
                // The setup that the application runs on its connections is not needed, and may take long.
                let opts =
                    OptsBuilder::from_opts(Opts::clone(opts)).init(Vec::<String>::new()).setup(Vec::<String>::new());
                Conn::new(opts.after_connect(|_| Box::pin(async { Ok(()) }))).await.map_err(store_error)
            }
        }
    }
}

/// Ends what a connection does in the server.
pub(crate) struct Cancel {
    way: Way,
    /// Empty until the request has asked for it, on a connection of an application's pool.
    identity: OnceLock<Identity>,
}

impl Cancel {
    /// How what a connection of an application's pool does is ended. The request has to ask [`QUESTION`] first: the number of
    /// the connection alone does not say which server it leads to.
    pub(crate) fn on_pool(connection: &Conn) -> Self {
        Self { way: Way::Pool(Box::new(connection.opts().clone())), identity: OnceLock::new() }
    }

    /// Whether the request need not ask.
    pub(crate) fn knows_connection(&self) -> bool {
        self.identity.get().is_some()
    }

    /// Notes the answer, on the connection with this number.
    pub(crate) fn note(&self, connection: u32, rows: Vec<Row>) {
        let identity = Identity::read(rows);
        if !identity.is_proxied(connection) {
            let _ = self.identity.set(identity);
        }
    }

    /// Ends the statement that the connection runs, over another connection. Nothing is done if that leads to another server
    /// or the number is not that of a connection of our user and database.
    pub(crate) async fn send(&self) {
        match self.try_send().await {
            Ok(true) => tracing::debug!("a statement that was not answered in time was ended"),
            Ok(false) => tracing::debug!("a statement that was not answered in time was not found in the server"),
            Err(error) => tracing::debug!(%error, "a statement that was not answered in time could not be ended"),
        }
    }

    async fn try_send(&self) -> Result<bool, StoreError> {
        let Some(identity) = self.identity.get() else { return Ok(false) };
        let mut connection = InUse::new(self.way.open().await?);
        kill(identity, &mut connection).await.map_err(store_error)
    }
}

async fn kill(identity: &Identity, connection: &mut Conn) -> Result<bool, Error> {
    let mut answers = query(connection, &[QUESTION, "SHOW GLOBAL STATUS LIKE 'Uptime'"]).await?.into_iter();
    let mut rows = || answers.next().map(|answer| answer.rows).unwrap_or_default();
    let (now, uptime) = (Identity::read(rows()), rows().into_iter().next());
    let uptime = uptime.and_then(|row| number(row.unwrap().into_iter().nth(1)?)).unwrap_or(i64::MAX);
    // A proxy may take the number to be one of its own.
    if now.is_proxied(connection.id()) || !identity.has_same_server(&now, uptime) {
        return Ok(false);
    }
    let is_ours = connection.query::<Row, _>("SHOW PROCESSLIST").await?.into_iter().any(|row| {
        let mut values = row.unwrap().into_iter().map(text);
        let [id, user, _, database, command] = std::array::from_fn(|_| values.next().flatten());
        id == Some(identity.connection.to_string())
            && user == identity.user
            && database == identity.database
            && command.as_deref() != Some("Sleep")
    });
    if is_ours {
        connection.query_drop(format!("KILL QUERY {}", identity.connection)).await?;
    }
    Ok(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(server: &str, read: i64) -> Identity {
        Identity { server: server.into(), read, connection: 7, is_read_only: false, user: None, database: None }
    }

    /// Each connection that was opened left one.
    #[test]
    fn of_many_connections_the_last_ones_are_known() {
        let identities = Identities::default();
        let last = u32::try_from(10 * KEPT).unwrap();
        for number in 1..=last {
            identities.keep(number, Identity { connection: i64::from(number), ..identity("h/3306/1", 1_000) });
        }
        let kept = identities.0.lock().unwrap();
        assert_eq!((kept.len(), kept.last_key_value().map(|(number, _)| *number)), (KEPT, Some(last)));
    }

    #[test]
    fn a_server_is_another_after_it_was_started_again() {
        let (before, now) = (identity("h/3306/1", 1_000), identity("h/3306/1", 1_100));
        assert!(before.has_same_server(&now, 102));
        assert!(!before.has_same_server(&now, 101));
        assert!(!before.has_same_server(&now, 50));
        assert!(!before.has_same_server(&identity("h/3306/2", 1_100), 5_000));
    }
}
