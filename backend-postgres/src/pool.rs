//! The connections that requests are sent on: ours, or an application's.

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Instant;

use deadpool::managed::{Manager, Metrics, Object, PoolError, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;

use crate::connect::{Connector, Opened};
use crate::current::Taken;
use crate::unreachable::Unreachable;

/// A pool of connections.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Own(deadpool::managed::Pool<Own>),
    Lent(deadpool_postgres::Pool),
}

/// A connection of a pool, which gets it back when this is dropped.
pub(crate) enum Pooled {
    Own(Object<Own>),
    Lent(deadpool_postgres::Object),
}

/// Makes the connections of a pool of ours.
#[derive(Debug)]
pub(crate) struct Own(pub(crate) Connector);

/// What such a pool keeps.
#[derive(Debug)]
pub(crate) struct OwnConnection {
    opened: Opened,
    taken: Taken,
}

impl Manager for Own {
    type Type = OwnConnection;
    type Error = Unreachable;

    async fn create(&self) -> Result<OwnConnection, Unreachable> {
        // On the heap, so that the futures of requests stay small.
        let connecting: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(self.0.connect());
        let (opened, taken) = connecting.await?;
        Ok(OwnConnection { opened, taken })
    }

    async fn recycle(&self, connection: &mut OwnConnection, _: &Metrics) -> RecycleResult<Unreachable> {
        match connection.opened.client.is_closed() {
            true => Err(RecycleError::message("it is closed")),
            false => Ok(()),
        }
    }
}

/// Why a pool has no connection for us.
pub(crate) enum NoConnection {
    Own(PoolError<Unreachable>),
    /// Of the version of deadpool that deadpool-postgres has, which may be another than ours.
    Lent(deadpool_postgres::PoolError),
}

impl Pool {
    pub(crate) async fn get(&self) -> Result<Pooled, NoConnection> {
        match self {
            Self::Own(pool) => pool.get().await.map(Pooled::Own).map_err(NoConnection::Own),
            Self::Lent(pool) => pool.get().await.map(Pooled::Lent).map_err(NoConnection::Lent),
        }
    }

    pub(crate) fn max_size(&self) -> usize {
        match self {
            Self::Own(pool) => pool.status().max_size,
            Self::Lent(pool) => pool.status().max_size,
        }
    }
}

impl Pooled {
    /// Whether it was opened for this request.
    pub(crate) fn is_new(&self) -> bool {
        match self {
            Self::Own(connection) => Object::metrics(connection).recycle_count == 0,
            Self::Lent(connection) => deadpool_postgres::Object::metrics(connection).recycle_count == 0,
        }
    }

    pub(crate) fn opened(&self) -> Instant {
        match self {
            Self::Own(connection) => Object::metrics(connection).created,
            Self::Lent(connection) => deadpool_postgres::Object::metrics(connection).created,
        }
    }

    /// Where it leads; none for those of an application.
    pub(crate) fn taken(&self) -> Option<Taken> {
        match self {
            Self::Own(connection) => Some(connection.taken),
            Self::Lent(_) => None,
        }
    }

    /// How many of its commits a synchronous standby has not confirmed. What the server says about those of an application's
    /// connections is heard by the application.
    pub(crate) fn unconfirmed(&self) -> u64 {
        match self {
            Self::Own(connection) => connection.opened.unconfirmed.load(Ordering::SeqCst),
            Self::Lent(_) => 0,
        }
    }

    /// Closes it, so that it serves no other request.
    pub(crate) fn close(self) {
        match self {
            Self::Own(connection) => drop(Object::take(connection)),
            Self::Lent(connection) => drop(deadpool_postgres::Object::take(connection)),
        }
    }
}

impl Deref for Pooled {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        match self {
            Self::Own(connection) => &connection.opened.client,
            Self::Lent(connection) => connection,
        }
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        match self {
            Self::Own(connection) => &mut connection.opened.client,
            Self::Lent(connection) => connection,
        }
    }
}
