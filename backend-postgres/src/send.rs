use std::time::{Duration, Instant};

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use db_mutex_sql_support::Sending;
use deadpool_postgres::{Object, Pool, PoolError, TimeoutType};
use tokio::runtime::Handle;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use crate::connect::{self, Connector};
use crate::error::{Outcome, classify, is_certificate, refuses_settings, store_error};
use crate::session::IS_AS_ASKED;

/// How long a statement that was cancelled, and the request to do so, are waited for.
const CANCELLING: Duration = Duration::from_secs(1);

/// Sends statements, each a transaction by itself, and answers for what becomes of them.
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
    pub(crate) async fn connection(&self) -> Result<Object, StoreError> {
        in_a_runtime()?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.pooled(Instant::now()).await {
                Err((_, Outcome::NotDone)) if attempt < Self::ATTEMPTS => {
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
    async fn run_here(&self, sql: &str, values: &[Value], repeats: Repeats) -> Result<Answer, StoreError> {
        let begun = Instant::now();
        let mut repeated = false;
        for attempt in 1.. {
            let (error, outcome) = match self.attempt(sql, values, begun).await {
                Ok(rows) => return Ok(Answer { rows, repeated }),
                Err(failure) => failure,
            };
            repeated |= matches!(outcome, Outcome::Unknown | Outcome::Unanswered);
            let is_final = match outcome {
                Outcome::Final => true,
                Outcome::Conflict => !repeats.conflicts,
                Outcome::Unanswered => !repeats.unanswered,
                // Once, on a new connection.
                Outcome::WrongServer => attempt > 1,
                Outcome::NotDone | Outcome::Unknown => false,
            };
            if is_final || attempt == Self::ATTEMPTS || begun.elapsed() >= self.sending.timeout() {
                // That nothing has happened is true of this attempt, but not of one before it.
                return Err(if repeated { unknown_outcome(error) } else { error });
            }
            tracing::debug!(%error, attempt, "repeating a request");
            // Other transactions in conflict with this one repeat too, and should not do so in step.
            let jitter = u64::from(begun.elapsed().subsec_nanos() % 10);
            tokio::time::sleep(Duration::from_millis(u64::from(attempt * attempt) * 10 + jitter)).await;
        }
        unreachable!("the loop ends by itself")
    }

    /// A connection of the pool, opened after the last failure. An application's pool may let its callers wait without a
    /// limit; ours do not.
    async fn pooled(&self, begun: Instant) -> Result<Object, (StoreError, Outcome)> {
        let waiting = async {
            loop {
                let connection = self.pool.get().await?;
                // Those of an application are its own to close.
                if self.connector.is_none() || !self.sending.is_suspect(Object::metrics(&connection).created) {
                    return Ok(connection);
                }
                drop(Object::take(connection));
            }
        };
        let waited = tokio::time::timeout(self.sending.patience(true, begun), waiting).await;
        waited.unwrap_or(Err(PoolError::Timeout(TimeoutType::Wait))).map_err(pool_error)
    }

    async fn attempt(&self, sql: &str, values: &[Value], begun: Instant) -> Result<Vec<Row>, (StoreError, Outcome)> {
        let mut connection = self.pooled(begun).await?;
        let is_new = Object::metrics(&connection).recycle_count == 0;
        // The server's own timeout says more, so it has a moment to come first.
        let patience = self.sending.patience(is_new, begun) + if is_new { CANCELLING } else { Duration::ZERO };
        let (cancel, sent) = (connection.cancel_token(), Instant::now());
        let mut sending = Box::pin(self.send(&mut connection, sql, values));
        let answer = tokio::time::timeout(patience, &mut sending).await;
        if let Ok(answer) = answer {
            drop(sending);
            if answer.is_ok() && sent.elapsed() >= self.sending.timeout() {
                return Err((not_in_time(), Outcome::Final));
            }
            return answer.map_err(|error| self.failure(error, connection, sent));
        }
        let cancelled = async { tokio::join!(connect::cancel(cancel, self.connector.as_ref()), sending).1 };
        let answer = tokio::time::timeout(CANCELLING, cancelled).await;
        // It may still be at work on the statement: it must not serve another request.
        drop(Object::take(connection));
        self.sending.failed(sent);
        match answer {
            Ok(Err(error)) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                Err((store_error(error), Outcome::NotDone))
            }
            // A statement that is cancelled while it waits for a synchronous replica answers success, with a warning that
            // nothing was replicated.
            _ => Err((not_in_time(), Outcome::Unanswered)),
        }
    }

    /// What a failure means. A connection that is of no use any more is closed.
    fn failure(&self, error: tokio_postgres::Error, connection: Object, sent: Instant) -> (StoreError, Outcome) {
        let outcome = classify(&error).1;
        if matches!(outcome, Outcome::Unknown | Outcome::WrongServer) {
            drop(Object::take(connection));
            self.sending.failed(sent);
        }
        (store_error(error), outcome)
    }

    async fn send(
        &self,
        connection: &mut Object,
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

/// A connection that could not be had: nothing was sent.
fn pool_error(error: PoolError) -> (StoreError, Outcome) {
    let (error, outcome) = match error {
        PoolError::Backend(error) => connecting(error),
        PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => connecting(error),
        PoolError::Timeout(_) => {
            let what = "no connection to PostgreSQL could be had in time; check that it runs, or use a larger pool";
            (StoreError::new(Kind::Unavailable, what), Outcome::Final)
        }
        error => (
            StoreError::new(Kind::Unavailable, "no connection to PostgreSQL could be had").with_source(error),
            Outcome::Final,
        ),
    };
    (error.undone(), outcome)
}

fn connecting(error: tokio_postgres::Error) -> (StoreError, Outcome) {
    let (kind, outcome, what) = match classify(&error) {
        _ if is_certificate(&error) => (
            Kind::Config,
            Outcome::Final,
            "the TLS connection to PostgreSQL failed; check its certificate, the host's name in it, and sslrootcert",
        ),
        answer if error.code().is_some() => answer,
        // The connection did not come about, or was closed.
        (_, outcome @ Outcome::Unknown, _) => {
            (Kind::Unavailable, outcome, "PostgreSQL could not be reached; check host, port, and that it runs")
        }
        // The driver gave up: it may not go on without TLS, a password, or a way to log in that it knows.
        _ => (
            Kind::Config,
            Outcome::Final,
            "PostgreSQL and the url do not agree on how to log in; check whether it has TLS (sslmode) and the password",
        ),
    };
    let outcome = if outcome == Outcome::Final { Outcome::Final } else { Outcome::NotDone };
    (StoreError::new(kind, what).with_source(error), outcome)
}
