use std::time::{Duration, Instant};

use db_mutex_core::{StoreError, StoreErrorKind};
use db_mutex_sql_support::Sending;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Params, Row};
use tokio::runtime::Handle;

use crate::connect::Connections;
use crate::error::{Failure, failure_of, store_error};
use crate::session::Session;
use crate::statement::Statement;

/// How often a request is sent again after the server had no room for a connection, and after a connection broke.
const REFUSALS: u32 = 20;
const LOSSES: u32 = 4;

/// Sends requests through the pool, and sends them again if a connection broke: all of ours can be repeated, because of the
/// owner token. What met a locked row is not sent again; that is the caller's to do.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) connections: Connections,
    pub(crate) session: Session,
    pub(crate) sending: Sending,
}

/// A failure, and what it means for the request.
#[derive(Debug)]
struct Failed {
    failure: Failure,
    error: StoreError,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { failure: failure_of(&error), error: store_error(error) }
    }
}

/// What one statement returned.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) last_insert_id: u64,
    pub(crate) affected_rows: u64,
    pub(crate) rows: Vec<Row>,
}

/// What the statements of a request returned, one each.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answers: Vec<Answer>,
    /// Whether it may have been done before, by an attempt whose reply was lost.
    pub(crate) may_be_a_repeat: bool,
}

impl Client {
    /// Sends statements in one round trip.
    pub(crate) async fn send(&self, statements: &[Statement]) -> Result<Reply, StoreError> {
        within(self.sending.timeout(), self.send_repeatedly(statements, true)).await
    }

    /// Sends statements that may grant a lock: not once more if they were not answered, because they may still arrive.
    pub(crate) async fn send_grant(&self, statements: &[Statement]) -> Result<Reply, StoreError> {
        within(self.sending.timeout(), self.send_repeatedly(statements, false)).await
    }

    async fn send_repeatedly(&self, statements: &[Statement], repeats_unanswered: bool) -> Result<Reply, StoreError> {
        let begun = Instant::now();
        let (mut refusals, mut losses, mut may_be_a_repeat) = (0, 0, false);
        loop {
            let (failed, sent) = match self.connections.get().await {
                Ok((connection, pool)) => {
                    // After a failure the pool is new, where it is ours.
                    let is_new = losses > 0 && self.connections.are_replaced();
                    let answered = self.send_in_time(connection, statements, is_new, begun).await;
                    if let Err(Failed { failure: Failure::Lost | Failure::Unanswered | Failure::WrongServer, .. }) =
                        &answered
                    {
                        self.connections.leave(pool);
                    }
                    match answered {
                        Ok(answers) => return Ok(Reply { answers, may_be_a_repeat }),
                        Err(failed) => (failed, true),
                    }
                }
                Err(error) => (Failed::from(error), false),
            };
            let Failed { failure, error } = failed;
            let pause = match failure {
                Failure::NoRoom if refusals < REFUSALS => {
                    refusals += 1;
                    jitter(Duration::from_millis(1 << refusals.min(5)))
                }
                Failure::Lost | Failure::Unanswered
                    if losses < LOSSES && (repeats_unanswered || failure == Failure::Lost) =>
                {
                    losses += 1;
                    may_be_a_repeat |= sent;
                    jitter(Duration::from_millis(10 << (2 * losses)))
                }
                // Once, on a new connection.
                Failure::WrongServer if losses == 0 => {
                    losses += 1;
                    Duration::ZERO
                }
                _ => {
                    return Err(match sent {
                        _ if may_be_a_repeat => unknown_outcome(error),
                        true => error,
                        false => error.undone(),
                    });
                }
            };
            tracing::debug!(%error, ?pause, "a request to the database failed for a passing reason; sending it again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends statements, and waits as long as the connection deserves.
    async fn send_in_time(
        &self,
        connection: Conn,
        statements: &[Statement],
        is_new: bool,
        begun: Instant,
    ) -> Result<Vec<Answer>, Failed> {
        // It ends before the request does as a whole, so that it is known that there was no answer.
        let patience = self.sending.patience(is_new, begun) * 9 / 10;
        match tokio::time::timeout(patience, self.send_once(connection, statements)).await {
            Ok(answered) => answered.map_err(Failed::from),
            Err(_) => {
                let error = StoreError::new(StoreErrorKind::Unavailable, "the database server did not answer in time");
                Err(Failed { failure: Failure::Unanswered, error })
            }
        }
    }

    async fn send_once(&self, mut connection: Conn, statements: &[Statement]) -> Result<Vec<Answer>, Error> {
        let sent = match (&self.session, statements) {
            (Session::Own, [one]) if one.is_preparable() => execute(&mut connection, one).await.map(|one| vec![one]),
            _ => self.query_in_session(&mut connection, statements).await,
        };
        if let Err(Error::Server(_)) = &sent {
            // A connection that cannot be repaired must not go back to the pool.
            if connection.query_drop(self.session.repair()).await.is_err() {
                let _ = connection.disconnect().await;
            }
        }
        sent
    }

    async fn query_in_session(&self, connection: &mut Conn, statements: &[Statement]) -> Result<Vec<Answer>, Error> {
        let (before, after) = self.session.around();
        let texts: Vec<_> = statements.iter().map(Statement::to_text).collect();
        let texts = texts.iter().map(AsRef::as_ref);
        let all: Vec<&str> = before.iter().copied().chain(texts).chain(after.iter().copied()).collect();
        let mut answers = query(connection, &all).await?;
        answers.truncate(all.len() - after.len());
        answers.drain(..before.len());
        Ok(answers)
    }
}

/// That nothing has happened is true of the last attempt, but not of one whose reply was lost.
pub(crate) fn unknown_outcome(error: StoreError) -> StoreError {
    if error.kind() != StoreErrorKind::Busy {
        return error.unknown();
    }
    let message = "the connection broke, and then the row of the lock was locked; the outcome is not known";
    StoreError::new(StoreErrorKind::Unavailable, message).with_source(error)
}

impl std::fmt::Debug for Client {
    // By hand: the driver's own shows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("sending", &self.sending).finish_non_exhaustive()
    }
}

/// The driver panics where there is no tokio runtime.
pub(crate) fn in_a_runtime() -> Result<(), StoreError> {
    let message = "the store was called outside of a tokio runtime; call it inside of one";
    let config = |error| StoreError::new(StoreErrorKind::Config, message).with_source(error);
    Handle::try_current().map(drop).map_err(config)
}

/// Bounds what is sent to the server.
pub(crate) async fn within<T>(
    limit: Duration,
    sending: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    in_a_runtime()?;
    tokio::time::timeout(limit, sending).await.unwrap_or_else(|_| {
        let message = format!("the database server did not answer within {limit:?}");
        Err(StoreError::new(StoreErrorKind::Unavailable, message))
    })
}

/// Executes a statement that the connection prepares the first time: the server reads its text only once.
async fn execute(connection: &mut Conn, statement: &Statement) -> Result<Answer, Error> {
    let values = Params::Positional(statement.clone().into_values());
    let result = connection.exec_iter(&*statement.sql, values).await?;
    let (last_insert_id, affected_rows) = (result.last_insert_id().unwrap_or(0), result.affected_rows());
    result.drop_result().await?;
    Ok(Answer { last_insert_id, affected_rows, rows: Vec::new() })
}

/// Runs statements on a connection, in one round trip.
pub(crate) async fn query(connection: &mut Conn, statements: &[&str]) -> Result<Vec<Answer>, Error> {
    let mut result = connection.query_iter(statements.join(";\n")).await?;
    let mut answers = Vec::with_capacity(statements.len());
    for _ in statements {
        // Read before `collect`, which goes on to the next statement's.
        let (last_insert_id, affected_rows) = (result.last_insert_id().unwrap_or(0), result.affected_rows());
        answers.push(Answer { last_insert_id, affected_rows, rows: result.collect().await? });
    }
    Ok(answers)
}

/// Between half of `longest` and all of it, so that two that met do not meet again.
fn jitter(longest: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = u32::try_from(RandomState::new().hash_one(0) % 1_000).unwrap_or(0);
    longest / 2 + longest * random / 2_000
}
