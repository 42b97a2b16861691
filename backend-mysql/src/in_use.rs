use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::task::{Context, Waker};

use mysql_async::Conn;

/// A connection while a request is on it. Unless the request comes to its [end](Self::end), it is closed when this is dropped.
///
/// Otherwise the driver would read the rest of the reply first, which may never come: until then the connection has its place in
/// the pool, and the pool cannot be disconnected.
pub(crate) struct InUse {
    /// Taken when this is dropped.
    connection: Option<Conn>,
    is_at_end: bool,
}

impl InUse {
    pub(crate) fn new(connection: Conn) -> Self {
        Self { connection: Some(connection), is_at_end: false }
    }

    /// Notes that the reply was read to its end, so that the connection can be used for another request.
    pub(crate) fn end(&mut self) {
        self.is_at_end = true;
    }

    /// Closes the connection, whether the request has come to its end or not.
    pub(crate) fn close(mut self) {
        self.is_at_end = false;
    }
}

const IS_THERE: &str = "only `drop` takes the connection";

impl Deref for InUse {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.connection.as_ref().expect(IS_THERE)
    }
}

impl DerefMut for InUse {
    fn deref_mut(&mut self) -> &mut Conn {
        self.connection.as_mut().expect(IS_THERE)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !self.is_at_end {
            // Its first step marks the connection as closed; the driver does nothing more with it then.
            let _ = pin!(connection.disconnect()).poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}
