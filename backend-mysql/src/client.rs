use std::time::{Duration, Instant};

use db_mutex_core::{StoreError, StoreErrorKind};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Pool, Row};

use crate::error::{Failure, failure_of, store_error};
use crate::session::Session;

/// How often a request is sent again after the server has rolled it back, and after a connection broke.
const CONFLICTS: u32 = 20;
const LOSSES: u32 = 4;

/// What the session's `innodb_lock_wait_timeout` of 1 s comes to at most, for InnoDB looks once a second.
const LONGEST_LOCK_WAIT: Duration = Duration::from_millis(2_500);

/// Sends requests through the pool, and sends them again where that is safe: all of ours are, because of the owner token.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) pool: Pool,
    pub(crate) session: Session,
    pub(crate) timeout: Duration,
}

/// What one statement answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) last_insert_id: u64,
    pub(crate) affected_rows: u64,
    pub(crate) rows: Vec<Row>,
}

/// What the statements of a request answered, one each.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answers: Vec<Answer>,
    /// Whether it may have been done before, by an attempt whose reply was lost.
    pub(crate) may_be_a_repeat: bool,
}

impl Client {
    /// Sends statements in one round trip.
    pub(crate) async fn send(&self, statements: &[String]) -> Result<Reply, StoreError> {
        self.within_timeout(self.send_patiently(statements, false)).await
    }

    /// The same, as one transaction.
    pub(crate) async fn send_as_transaction(&self, statements: &[String]) -> Result<Reply, StoreError> {
        let mut all = Vec::with_capacity(statements.len() + 2);
        all.push("START TRANSACTION".to_owned());
        all.extend_from_slice(statements);
        all.push("COMMIT".to_owned());
        let mut reply = self.within_timeout(self.send_patiently(&all, true)).await?;
        reply.answers.pop();
        reply.answers.remove(0);
        Ok(reply)
    }

    async fn within_timeout(
        &self,
        sending: impl Future<Output = Result<Reply, StoreError>>,
    ) -> Result<Reply, StoreError> {
        tokio::time::timeout(self.timeout, sending).await.unwrap_or_else(|_| {
            let message = format!("the database server did not answer within {:?}", self.timeout);
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        })
    }

    async fn send_patiently(&self, statements: &[String], transaction: bool) -> Result<Reply, StoreError> {
        let began = Instant::now();
        let (mut conflicts, mut losses, mut may_be_a_repeat) = (0, 0, false);
        loop {
            let (error, sent) = match self.pool.get_conn().await {
                Ok(connection) => match self.send_once(connection, statements, transaction).await {
                    Ok(answers) => return Ok(Reply { answers, may_be_a_repeat }),
                    Err(error) => (error, true),
                },
                Err(error) => (error, false),
            };
            let pause = match failure_of(&error) {
                // Not where the timeout could cut the next attempt off while it waits in the server, to be done after all.
                Failure::RolledBack if conflicts < CONFLICTS && began.elapsed() + LONGEST_LOCK_WAIT < self.timeout => {
                    conflicts += 1;
                    jitter(Duration::from_millis(1 << conflicts.min(5)))
                }
                Failure::Lost if losses < LOSSES => {
                    losses += 1;
                    may_be_a_repeat |= sent;
                    jitter(Duration::from_millis(10 << (2 * losses)))
                }
                Failure::Lost | Failure::RolledBack | Failure::Final => return Err(store_error(error)),
            };
            tracing::debug!(%error, ?pause, "a request to the database failed for a passing reason; sending it again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn send_once(
        &self,
        mut connection: Conn,
        statements: &[String],
        transaction: bool,
    ) -> Result<Vec<Answer>, Error> {
        let (before, behind) = self.session.around();
        let statements = statements.iter().map(String::as_str);
        let all: Vec<&str> = before.iter().copied().chain(statements).chain(behind.iter().copied()).collect();
        match query(&mut connection, &all).await {
            Ok(mut answers) => {
                answers.truncate(all.len() - behind.len());
                answers.drain(..before.len());
                Ok(answers)
            }
            Err(error) => {
                if let (Error::Server(_), Some(repair)) = (&error, self.session.repair(transaction)) {
                    // A connection that cannot be repaired must not go back to the pool.
                    if connection.query_drop(repair).await.is_err() {
                        let _ = connection.disconnect().await;
                    }
                }
                Err(error)
            }
        }
    }
}

impl std::fmt::Debug for Client {
    // By hand: the driver's own shows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
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
