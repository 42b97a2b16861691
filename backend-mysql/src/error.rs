use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use mysql_async::{DriverError, Error};

/// What a failure means for the request that met it.
///
/// What passes soonest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The server has no connection left: nothing happened.
    NoRoom,
    /// The node has no cluster at present, as when others have just been lost: nothing happened.
    NotReady,
    /// The connection broke: it may have happened or not.
    Lost,
    /// No answer came in time: it may have happened, or will.
    Unanswered,
    /// The server accepts no writes, and perhaps another one does by now: nothing happened.
    WrongServer,
    /// Trying again does not help.
    Final,
}

/// A failure, and what it means for the request.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) error: StoreError,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { failure: failure_of(&error), error: store_error(error) }
    }
}

/// Server errors by number; never by text.
pub(crate) fn failure_of(error: &Error) -> Failure {
    match error {
        Error::Server(server) => match server.code {
            // Too many connections, for the server, for each user, or for this user.
            1040 | 1203 | 1226 => Failure::NoRoom,
            // Shutting down; killed or timed out connections.
            1053 | 1152 | 1158..=1161 | 1927 | 4031 => Failure::Lost,
            1047 => Failure::NotReady,
            1290 | 1792 | 1836 => Failure::WrongServer,
            _ => Failure::Final,
        },
        Error::Io(mysql_async::IoError::Io(io)) if is_tls(io) => Failure::Final,
        Error::Io(mysql_async::IoError::Io(_)) => Failure::Lost,
        Error::Driver(DriverError::ConnectionClosed | DriverError::PacketOutOfOrder) => Failure::Lost,
        _ => Failure::Final,
    }
}

/// Whether the server has undone a transaction because of another: a lock wait, a deadlock, or a failed certification.
pub(crate) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Server(server) if matches!(server.code, 1205 | 1213 | 3101))
}

/// A handshake that was refused comes as an I/O error that carries the reason.
#[cfg(feature = "_rustls")]
fn is_tls(io: &std::io::Error) -> bool {
    io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(not(feature = "_rustls"))]
fn is_tls(_: &std::io::Error) -> bool {
    false
}

/// Says what an error of the driver means, and what to do about it.
pub(crate) fn store_error(error: Error) -> StoreError {
    let (kind, message) = match &error {
        Error::Server(server) => of_server(server.code),
        Error::Io(mysql_async::IoError::Io(io)) if !is_tls(io) => {
            (Kind::Unavailable, "the database server cannot be reached, or the connection to it broke")
        }
        Error::Driver(DriverError::ConnectionClosed | DriverError::PacketOutOfOrder) => {
            (Kind::Unavailable, "the connection to the database server broke")
        }
        Error::Driver(DriverError::PoolDisconnected) => {
            (Kind::Other, "the pool was disconnected; open the store again")
        }
        Error::Driver(DriverError::NoClientSslFlagFromServer) => (
            Kind::Config,
            "the database server has no TLS; turn it on there, or write ssl-mode=disabled if the way to it is private",
        ),
        Error::Io(_) => (
            Kind::Config,
            "the TLS certificate of the database server was not accepted; name its authority with ssl-ca=FILE, and the \
             server as its certificate does",
        ),
        _ => (Kind::Other, "the database server could not be used"),
    };
    StoreError::new(kind, message).with_source(error)
}

fn of_server(code: u16) -> (Kind, &'static str) {
    match code {
        // Lock wait, deadlock, killed query; Group Replication's certification; a statement to be prepared again.
        1205 | 1213 | 1317 | 3101 | 1615 => {
            (Kind::Busy, "the server has undone the request because of a conflict; try again")
        }
        1040 | 1203 => {
            (Kind::Unavailable, "the database server has no connection left; use a smaller pool, or allow more")
        }
        1226 => (
            Kind::Unavailable,
            "the user has reached a limit on the database server; use a smaller pool, or allow the user more",
        ),
        1180 => (Kind::Unavailable, "the database server failed while it committed; the outcome is not known"),
        1047 => (Kind::Unavailable, "the node of the cluster is not ready; it has lost the others, or is starting"),
        1053 | 1152 | 1158..=1161 | 1927 | 4031 => (Kind::Unavailable, "the database server closed the connection"),
        1290 | 1792 | 1836 => (Kind::ReadOnly, "the database server is read-only; connect to the primary"),
        1021 | 1114 => (Kind::Full, "the database server has no space left; free some"),
        1054 | 1146 | 1176 => (
            Kind::Schema,
            "the table of locks is missing or is not db-mutex's; migrate it, or choose another table name",
        ),
        1044 | 1045 | 1698 => {
            (Kind::Config, "the database server refused the login; check user, password and database")
        }
        1049 => (Kind::Config, "there is no such database on the server; create it first"),
        1142 | 1143 | 1227 => (
            Kind::Config,
            "the user lacks a right; grant SELECT, INSERT and UPDATE on the table of locks, and DELETE to purge",
        ),
        1665 => (Kind::Config, "binlog_format is STATEMENT, which cannot record locks; set it to ROW or MIXED"),
        _ => (Kind::Other, "the database server could not do what it was asked"),
    }
}
