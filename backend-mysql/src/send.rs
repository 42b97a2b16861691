use std::time::{Duration, Instant};

use db_mutex_core::{StoreError, StoreErrorKind};
use db_mutex_sql_support::Sending;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Params, Row};
use tokio::runtime::Handle;

use crate::cancel::{Cancel, QUESTION};
use crate::connect::{Connections, Lent};
use crate::error::{Failed, Failure, is_conflict};
use crate::in_use::InUse;
use crate::session::Session;
use crate::statement::{Effect, Statement};

/// How long to wait for a statement without a reply, and for the request to end it.
const CANCELLING: Duration = Duration::from_secs(1);

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

impl Failed {
    /// The failure of a request of which this many statements had been answered.
    fn after(statements: &[Statement], answered: usize, error: Error) -> Self {
        let stands = may_stand(statements, answered, &error);
        let failed = Self::from(error);
        match failed.failure {
            Failure::Lost => failed,
            _ if stands => Self { failure: Failure::Final, error: unknown_outcome(failed.error) },
            // Refused before anything was done.
            Failure::WrongServer | Failure::NotReady => Self { error: failed.error.undone(), ..failed },
            _ => failed,
        }
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
                Ok(Lent { connection, pool, place: _place, cancel }) => {
                    // What is sent again need not be ended.
                    let cancel = cancel.filter(|_| !repeats_unanswered);
                    // After a failure the pool is new, where it is ours.
                    let is_new = losses > 0 && self.connections.are_replaced();
                    let answered = self.send_in_time(connection, statements, is_new, begun, cancel).await;
                    if let Err(Failed {
                        failure: Failure::Lost | Failure::Unanswered | Failure::WrongServer | Failure::NotReady,
                        ..
                    }) = &answered
                    {
                        pool.into_iter().for_each(|pool| self.connections.leave(pool));
                    }
                    match answered {
                        Ok(answers) => return Ok(Reply { answers, may_be_a_repeat }),
                        Err(failed) => (failed, true),
                    }
                }
                Err(failed) => (failed, false),
            };
            let Failed { failure, error } = failed;
            let pause = match failure {
                Failure::NoRoom if refusals < REFUSALS => {
                    refusals += 1;
                    jitter(Duration::from_millis(1 << refusals.min(5)))
                }
                // On another node, or when the cluster has settled without those that were lost.
                Failure::NotReady if begun.elapsed() < self.sending.timeout() / 4 => jitter(Duration::from_millis(200)),
                Failure::Lost | Failure::Unanswered
                    if losses < LOSSES && (repeats_unanswered || failure == Failure::Lost) =>
                {
                    losses += 1;
                    may_be_a_repeat |= sent && !error.is_undone();
                    jitter(Duration::from_millis(10 << (2 * losses)))
                }
                // On a new connection, once for each server there is.
                Failure::WrongServer if losses < self.connections.servers() => {
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
        cancel: Option<Cancel>,
    ) -> Result<Vec<Answer>, Failed> {
        // It ends before the request does as a whole, so that it is known that there was no answer.
        let mut answer_limit = self.sending.answer_limit(is_new, begun) * 9 / 10;
        let for_cancelling = CANCELLING.min(self.sending.timeout() / 4);
        if cancel.is_some() {
            let left = self.sending.timeout().saturating_sub(begun.elapsed());
            answer_limit = answer_limit.min(left.saturating_sub(for_cancelling * 5 / 4));
        }
        let mut connection = InUse::new(connection);
        let mut sending = Box::pin(self.send_once(&mut connection, statements, cancel.as_ref()));
        if let Ok(answered) = tokio::time::timeout(answer_limit, &mut sending).await {
            return answered;
        }
        let message = "the database server did not answer in time";
        let mut error = StoreError::new(StoreErrorKind::Unavailable, message);
        if let Some(cancel) = &cancel {
            // Boxed: the compiler limits how deep futures are nested.
            let cancelled = async { tokio::join!(Box::pin(cancel.send()), sending).1 };
            // Done in spite of that is not as good as done: it may be what a replica has not got.
            if let Ok(Err(failed)) = tokio::time::timeout(for_cancelling, cancelled).await
                && failed.error.is_undone()
            {
                error = error.with_source(failed.error).undone();
            }
            // What comes too late must not end the next statement on it, which may be the application's.
            connection.close();
        }
        Err(Failed { failure: Failure::Unanswered, error })
    }

    async fn send_once(
        &self,
        connection: &mut InUse,
        statements: &[Statement],
        cancel: Option<&Cancel>,
    ) -> Result<Vec<Answer>, Failed> {
        let (before, after) = self.session.around();
        let mut answers = Vec::new();
        let sent = match (&self.session, statements) {
            (Session::Own, [one]) if one.is_preparable() => execute(connection, one).await.map(|one| answers.push(one)),
            _ => {
                let texts: Vec<_> = statements.iter().map(Statement::to_text).collect();
                let texts = texts.iter().map(AsRef::as_ref);
                let mut asked = cancel.filter(|cancel| !cancel.knows_connection());
                let question = asked.map(|_| QUESTION).into_iter();
                let all = question.chain(before.iter().copied()).chain(texts).chain(after.iter().copied());
                let (all, number): (Vec<_>, _) = (all.collect(), connection.id());
                let note = |answer: Answer| match asked.take() {
                    Some(cancel) => cancel.note(number, answer.rows),
                    None => answers.push(answer),
                };
                query_each(connection, &all, note).await
            }
        };
        let Err(error) = sent else {
            connection.end();
            answers.truncate(answers.len() - after.len());
            answers.drain(..before.len());
            return Ok(answers);
        };
        // A connection that cannot be repaired must not go back to the pool.
        if matches!(error, Error::Server(_)) && connection.query_drop(self.session.repair()).await.is_ok() {
            connection.end();
        }
        Err(Failed::after(statements, answers.len().saturating_sub(before.len()), error))
    }
}

/// Whether a write of a request may stand although a statement has failed: one that has been committed, by itself or by a
/// `COMMIT`; or the `COMMIT` has failed, other than by a conflict.
fn may_stand(statements: &[Statement], answered: usize, error: &Error) -> bool {
    let mut in_transaction = false;
    for statement in statements.iter().take(answered) {
        match statement.effect() {
            Effect::Begin => in_transaction = true,
            Effect::Commit => return true,
            Effect::Write if !in_transaction => return true,
            _ => {}
        }
    }
    let commits = statements.get(answered).is_some_and(|statement| statement.effect() == Effect::Commit);
    commits && !is_conflict(error)
}

/// That nothing has happened is true of the last attempt, but not of one whose reply was lost.
pub(crate) fn unknown_outcome(error: StoreError) -> StoreError {
    if error.kind() != StoreErrorKind::Busy {
        return error.unknown();
    }
    let message =
        "an earlier part of the request may have been done, and then it met a conflict; the outcome is not known";
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
    let mut answers = Vec::with_capacity(statements.len());
    query_each(connection, statements, |answer| answers.push(answer)).await?;
    Ok(answers)
}

/// The same; each answer is noted as soon as it has come, also if a later statement fails.
async fn query_each(connection: &mut Conn, statements: &[&str], mut note: impl FnMut(Answer)) -> Result<(), Error> {
    let mut result = connection.query_iter(statements.join(";\n")).await?;
    for _ in statements {
        // Read before `collect`, which goes on to the next statement's, but does not report its error.
        let (last_insert_id, affected_rows) = (result.last_insert_id().unwrap_or(0), result.affected_rows());
        note(Answer { last_insert_id, affected_rows, rows: result.collect().await? });
    }
    Ok(())
}

/// Between half of `longest` and all of it, so that two that met do not meet again.
fn jitter(longest: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = u32::try_from(RandomState::new().hash_one(0) % 1_000).unwrap_or(0);
    longest / 2 + longest * random / 2_000
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn failed(code: u16, statements: &[&str], answered: usize) -> StoreError {
        let statements: Vec<_> = statements.iter().map(|sql| Statement::from(*sql)).collect();
        let error = ServerError { code, message: String::new(), state: String::new() };
        Failed::after(&statements, answered, Error::Server(error)).error
    }

    /// A killed read after a write that stands was taken for a write that was undone.
    #[test]
    fn an_error_after_a_write_that_stands_leaves_the_outcome_open() {
        let batch = ["INSERT INTO t", "SET TRANSACTION", "SELECT 1"];
        assert_eq!(failed(1317, &batch, 0).kind(), StoreErrorKind::Busy);
        for answered in 1..=3 {
            for code in [1317, 1213, 1205, 1047] {
                let error = failed(code, &batch, answered);
                assert!(error.is_transient() && !error.is_undone(), "{code} after {answered}: {error:?}");
            }
        }
    }

    #[test]
    fn a_transaction_stands_once_it_may_have_been_committed() {
        let batch = ["START TRANSACTION", "INSERT INTO t", "INSERT INTO v", "COMMIT", "SELECT 1"];
        for answered in 0..=3 {
            assert!(failed(1213, &batch, answered).is_undone(), "{answered}");
        }
        assert!(failed(1317, &batch, 2).is_undone());
        for code in [1317, 1180, 1047] {
            assert!(!failed(code, &batch, 3).is_undone(), "{code}");
        }
        assert!(!failed(1213, &batch, 4).is_undone());
    }

    #[test]
    fn a_server_that_takes_no_requests_has_done_nothing() {
        for code in [1047, 1290] {
            assert!(failed(code, &["INSERT INTO t", "SELECT 1"], 0).is_undone(), "{code}");
        }
    }
}
