use std::time::{Duration, Instant};

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use db_mutex_sql_support::Sending;
use deadpool::managed::PoolError;
use deadpool_postgres::{HookError, PoolError as LentError};
use tokio::runtime::Handle;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use crate::connect::{self, Connector};
use crate::error::{Outcome, classify, refuses_settings, store_error};
use crate::pool::{NoConnection, Pool, Pooled};
use crate::session::IS_AS_ASKED;
use crate::unreachable::{Cause, Unreachable};

/// How long to wait for a cancelled statement, and for the cancel request.
const CANCELLING: Duration = Duration::from_secs(1);

/// Sends statements, each a transaction by itself, and determines their outcome.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) pool: Pool,
    /// Whether statements are prepared once a connection. Elsewhere each is sent with its types in one go, which every
    /// pooler understands, and is planned at each call.
    pub(crate) prepared: bool,
    pub(crate) sending: Sending,
    /// How a statement is cancelled; none on an application's pool.
    pub(crate) connector: Option<Connector>,
    /// The runtime that an application's pool belongs to. Connections of our own are opened where they are used.
    pub(crate) home: Option<Handle>,
}

/// The value of a parameter.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Bytes(Vec<u8>),
    Number(i64),
    Texts(Vec<String>),
    ByteStrings(Vec<Vec<u8>>),
    Numbers(Vec<i64>),
}

impl Value {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(value) => (value, Type::TEXT),
            Self::Bytes(value) => (value, Type::BYTEA),
            Self::Number(value) => (value, Type::INT8),
            Self::Texts(values) => (values, Type::TEXT_ARRAY),
            Self::ByteStrings(values) => (values, Type::BYTEA_ARRAY),
            Self::Numbers(values) => (values, Type::INT8_ARRAY),
        }
    }

    /// An array that begins with this value.
    pub(crate) fn into_array(self, capacity: usize) -> Self {
        let mut array = match &self {
            Self::Text(_) => Self::Texts(Vec::with_capacity(capacity)),
            Self::Bytes(_) => Self::ByteStrings(Vec::with_capacity(capacity)),
            Self::Number(_) => Self::Numbers(Vec::with_capacity(capacity)),
            Self::Texts(_) | Self::ByteStrings(_) | Self::Numbers(_) => return self,
        };
        array.push(self);
        array
    }

    /// Adds a value of the same kind to an array.
    pub(crate) fn push(&mut self, value: Self) {
        match (self, value) {
            (Self::Texts(array), Self::Text(value)) => array.push(value),
            (Self::ByteStrings(array), Self::Bytes(value)) => array.push(value),
            (Self::Numbers(array), Self::Number(value)) => array.push(value),
            (array, value) => debug_assert!(false, "{value:?} has no place in {array:?}"),
        }
    }
}

/// What a statement answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Row>,
    /// Whether an earlier attempt may have been done too, its answer lost.
    pub(crate) repeated: bool,
}

/// What is repeated, besides what has certainly not happened and what a broken connection may have lost.
#[derive(Debug, Clone, Copy)]
struct Repeats {
    /// A conflict with another transaction.
    conflicts: bool,
    /// A statement that was not answered in time, and may still arrive.
    unanswered: bool,
}

impl Client {
    const ATTEMPTS: u32 = 5;

    /// Runs a statement that may be repeated.
    pub(crate) async fn run(&self, sql: &str, values: Vec<Value>) -> Result<Answer, StoreError> {
        self.run_there(sql, values, Repeats { conflicts: true, unanswered: true }).await
    }

    /// The same, but a conflict with another transaction is not repeated: that is the caller's decision. `unanswered` is
    /// whether a statement is repeated that was not answered.
    pub(crate) async fn run_once(&self, sql: &str, values: Vec<Value>, unanswered: bool) -> Result<Answer, StoreError> {
        self.run_there(sql, values, Repeats { conflicts: false, unanswered }).await
    }

    /// Runs a statement in the runtime that the connections belong to.
    async fn run_there(&self, sql: &str, values: Vec<Value>, repeats: Repeats) -> Result<Answer, StoreError> {
        let Some(home) = &self.home else {
            in_a_runtime()?;
            return self.run_here(sql, &values, repeats).await;
        };
        let (client, sql) = (self.clone(), sql.to_owned());
        let task = home.spawn(async move { client.run_here(&sql, &values, repeats).await });
        task.await.unwrap_or_else(|error| {
            let what = "the runtime that the pool was made in has ended";
            Err(StoreError::new(Kind::Unavailable, what).with_source(error))
        })
    }

    /// A connection for something else than a statement, after a few attempts.
    pub(crate) async fn connection(&self) -> Result<Pooled, StoreError> {
        in_a_runtime()?;
        let (begun, mut attempt) = (Instant::now(), 0);
        loop {
            attempt += 1;
            match self.pooled(begun).await {
                Err((_, Outcome::NotDone))
                    if attempt < Self::ATTEMPTS && begun.elapsed() < self.sending.timeout() / 2 =>
                {
                    tokio::time::sleep(Duration::from_millis(u64::from(attempt * attempt) * 10)).await;
                }
                outcome => return outcome.map_err(|(error, _)| error),
            }
        }
    }

    /// Whether the connections are ours from end to end, and set as was asked for. Through a pooler they are not.
    pub(crate) async fn is_direct(&self) -> Result<bool, StoreError> {
        match self.connection().await {
            Ok(connection) => {
                let is_as_asked = connection.query_typed(IS_AS_ASKED, &[]).await.map_err(store_error)?;
                Ok(is_as_asked.first().is_some_and(|row| row.get(0)))
            }
            Err(error) if refuses_settings(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Repeats what failed for a passing reason, with a bound in number and time.
    ///
    /// Conflicts have a bound in time alone. Where the role's default is SERIALIZABLE, a statement that reads much can be in conflict
    /// with each of the others, many times in a row.
    async fn run_here(&self, sql: &str, values: &[Value], repeats: Repeats) -> Result<Answer, StoreError> {
        let begun = Instant::now();
        let (mut repeated, mut failures, mut conflicts) = (false, 0, 0);
        loop {
            let (error, outcome) = match self.attempt(sql, values, begun).await {
                Ok(rows) => return Ok(Answer { rows, repeated }),
                Err(failure) => failure,
            };
            match outcome {
                Outcome::Conflict => conflicts += 1,
                _ => failures += 1,
            }
            repeated |= matches!(outcome, Outcome::Unknown | Outcome::Unanswered | Outcome::Unconfirmed);
            let is_final = match outcome {
                Outcome::Final => true,
                Outcome::Conflict => !repeats.conflicts,
                Outcome::Unanswered => !repeats.unanswered,
                // Once, on a new connection.
                Outcome::WrongServer => failures > 1,
                // A repeat by the same owner is confirmed together with what it repeats.
                Outcome::NotDone | Outcome::Cancelled | Outcome::Unknown | Outcome::Unconfirmed => false,
            };
            let steps = (failures + conflicts).min(Self::ATTEMPTS);
            // Other transactions in conflict with this one repeat too, and should not do so in step.
            let jitter = u64::from(begun.elapsed().subsec_nanos() % 10);
            let pause = Duration::from_millis(u64::from(steps * steps) * 10 + jitter);
            if is_final || failures == Self::ATTEMPTS || begun.elapsed() + pause >= self.sending.timeout() {
                let error = if outcome == Outcome::WrongServer { no_more_writes(error) } else { error };
                // That nothing has happened is true of this attempt, but not of one before it.
                return Err(if repeated { unknown_outcome(error) } else { error });
            }
            tracing::debug!(%error, failures, conflicts, "repeating a request");
            tokio::time::sleep(pause).await;
        }
    }

    /// A connection of the pool, opened after the last failure. An application's pool may let its callers wait without a
    /// limit; ours do not.
    async fn pooled(&self, begun: Instant) -> Result<Pooled, (StoreError, Outcome)> {
        let waiting = async {
            loop {
                let connection = self.pool.get().await?;
                if !self.is_left(&connection) {
                    return Ok(connection);
                }
                connection.close();
            }
        };
        match tokio::time::timeout(self.sending.answer_limit(true, begun), waiting).await {
            Ok(waited) => waited.map_err(|error| self.no_connection(error, begun)),
            Err(_) => Err(self.no_connection_in_time(begun)),
        }
    }

    /// Whether a connection is not used any more. Those of an application are its own to close.
    fn is_left(&self, connection: &Pooled) -> bool {
        let (Some(connector), Some(taken)) = (&self.connector, connection.taken()) else { return false };
        self.sending.is_suspect(connection.opened()) || connector.hosts.is_elsewhere(taken)
    }

    /// There was no connection: nothing was sent.
    fn no_connection(&self, error: NoConnection, begun: Instant) -> (StoreError, Outcome) {
        match error {
            NoConnection::Own(PoolError::Backend(error)) => error.into_error(),
            NoConnection::Own(PoolError::Timeout(_)) | NoConnection::Lent(LentError::Timeout(_)) => {
                self.no_connection_in_time(begun)
            }
            NoConnection::Lent(LentError::Backend(error) | LentError::PostCreateHook(HookError::Backend(error))) => {
                let mut unreachable = Unreachable::new(false);
                unreachable.add("the server of the application's pool".into(), Cause::Driver(error));
                unreachable.into_error()
            }
            NoConnection::Own(error) => no_connection_because(error),
            NoConnection::Lent(error) => no_connection_because(error),
        }
    }

    fn no_connection_in_time(&self, begun: Instant) -> (StoreError, Outcome) {
        let trouble = self.connector.as_ref().and_then(|connector| connector.hosts.in_trouble(begun.elapsed()));
        let what = match trouble {
            Some(trouble) => format!("timed out waiting for a connection to PostgreSQL: {trouble}"),
            None => "timed out waiting for a connection to PostgreSQL; check that it runs, or use a larger pool".into(),
        };
        (StoreError::new(Kind::Unavailable, what).undone(), Outcome::Final)
    }

    async fn attempt(&self, sql: &str, values: &[Value], begun: Instant) -> Result<Vec<Row>, (StoreError, Outcome)> {
        let mut connection = self.pooled(begun).await?;
        let (is_new, unconfirmed, taken) = (connection.is_new(), connection.unconfirmed(), connection.taken());
        // The server's own timeout says more, so it has a moment to come first.
        let answer_limit = self.sending.answer_limit(is_new, begun) + if is_new { CANCELLING } else { Duration::ZERO };
        let (cancel, sent) = (connection.cancel_token(), Instant::now());
        let mut sending = Box::pin(self.send(&mut connection, sql, values));
        let answer = tokio::time::timeout(answer_limit, &mut sending).await;
        if let Ok(answer) = answer {
            drop(sending);
            if answer.is_ok() && sent.elapsed() >= self.sending.timeout() {
                return Err((not_in_time(), Outcome::Final));
            }
            if answer.is_ok() && connection.unconfirmed() != unconfirmed {
                return Err((not_confirmed(), Outcome::Unconfirmed));
            }
            return answer.map_err(|error| self.failure(error, connection, sent));
        }
        if let (Some(connector), Some(taken)) = (&self.connector, taken) {
            connector.hosts.leave(taken);
        }
        let cancelled = async { tokio::join!(connect::cancel(cancel, self.connector.as_ref()), sending).1 };
        let answer = tokio::time::timeout(CANCELLING, cancelled).await;
        // It may still be executing the statement, so it must not serve another request.
        connection.close();
        self.sending.failed(sent);
        match answer {
            Ok(Err(error)) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                Err((store_error(error), Outcome::Cancelled))
            }
            // A statement that is cancelled while it waits for a synchronous replica answers success, with a warning that
            // nothing was replicated.
            _ => Err((not_in_time(), Outcome::Unanswered)),
        }
    }

    /// What a failure means. A connection that is of no use any more is closed.
    fn failure(&self, error: tokio_postgres::Error, connection: Pooled, sent: Instant) -> (StoreError, Outcome) {
        let outcome = classify(&error).1;
        if matches!(outcome, Outcome::Unknown | Outcome::WrongServer) {
            if let (Some(connector), Some(taken)) = (&self.connector, connection.taken()) {
                match outcome {
                    Outcome::WrongServer => connector.hosts.leave(taken),
                    _ => connector.hosts.broke(taken),
                }
            }
            connection.close();
            self.sending.failed(sent);
        }
        (store_error(error), outcome)
    }

    async fn send(
        &self,
        connection: &mut Pooled,
        sql: &str,
        values: &[Value],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let typed: Vec<_> = values.iter().map(Value::typed).collect();
        if !self.prepared {
            return connection.query_typed(sql, &typed).await;
        }
        let (parameters, types): (Vec<_>, Vec<_>) = typed.into_iter().unzip();
        let statement = connection.prepare_typed_cached(sql, &types).await?;
        connection.query(&statement, &parameters).await
    }
}

fn not_in_time() -> StoreError {
    let what = "PostgreSQL did not answer in time; check the network to it, and its synchronous replicas";
    StoreError::new(Kind::Unavailable, what)
}

/// The server has committed it, and reports success.
fn not_confirmed() -> StoreError {
    let what = "the wait for PostgreSQL's synchronous standby was cancelled before it had confirmed the commit; \
                check that the standby runs, and who cancels";
    StoreError::new(Kind::Unavailable, what)
}

/// The server accepted writes when the store was opened. Unlike one that never did, it is worth waiting for: a failover may
/// be under way, and the name not yet lead to the new primary.
fn no_more_writes(error: StoreError) -> StoreError {
    let what = "PostgreSQL accepts no writes any more: it is a standby now, or sessions are read-only by default; \
                if no failover is under way, connect to the primary";
    StoreError::new(Kind::Unavailable, what).with_source(error).undone()
}

/// The driver panics where there is no tokio runtime.
fn in_a_runtime() -> Result<(), StoreError> {
    let what = "the store was called outside of a tokio runtime; call it inside of one";
    Handle::try_current().map(drop).map_err(|error| StoreError::new(Kind::Config, what).with_source(error))
}

/// The error of a request whose first attempt may have been done, and which then failed.
pub(crate) fn unknown_outcome(error: StoreError) -> StoreError {
    if error.kind() != Kind::Busy {
        return error.unknown();
    }
    let what = "the connection to PostgreSQL broke, and then the row of the lock was locked; the outcome is not known";
    StoreError::new(Kind::Unavailable, what).with_source(error)
}

fn no_connection_because(error: impl std::error::Error + Send + Sync + 'static) -> (StoreError, Outcome) {
    let error = StoreError::new(Kind::Unavailable, "could not get a connection to PostgreSQL").with_source(error);
    (error.undone(), Outcome::Final)
}
