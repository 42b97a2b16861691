//! Sending requests, alone or many at once, so that none waits for a row and each gets its own answer.
//!
//! 1. The plain form decides nearly all. It waits for a locked row for a few milliseconds; then it fails as a whole.
//! 2. The careful form decides what is left. It skips locked rows. Only an id that another transaction has inserted and not
//!    committed cannot be skipped, because nothing shows it before the INSERT meets it; such an id fails the statement.
//! 3. Then the requests are divided and sent again in the careful form, until each such id is alone, and busy.
//!
//! Nothing here sleeps, and an id that is busy is not asked for again: that is the caller's decision.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use db_mutex_core::store::{InsertRequest, RenewRequest};
use db_mutex_core::{LockId, OwnerToken, StoreError, StoreErrorKind as Kind};
use tokio_postgres::Row;

use crate::error::names_a_row;
use crate::row::read;
use crate::send::{Answer, Client, Value, unknown_outcome};
use crate::sql::Forms;

/// A request that can be sent together with others of its kind.
pub(crate) trait Request: Sync {
    /// Whether it may grant a lock.
    const IS_GRANT: bool;

    fn lock_id(&self) -> &LockId;

    /// The parameters of the form for one. Those of the form for many are arrays of them.
    fn values(&self) -> Vec<Value>;
}

impl Request for InsertRequest {
    const IS_GRANT: bool = true;

    fn lock_id(&self) -> &LockId {
        &self.lock_id
    }

    fn values(&self) -> Vec<Value> {
        vec![
            id(&self.lock_id),
            token(&self.owner),
            Value::Text(self.holder.to_string()),
            Value::Number(self.ttl.to_micros()),
        ]
    }
}

impl Request for RenewRequest {
    const IS_GRANT: bool = false;

    fn lock_id(&self) -> &LockId {
        &self.lock_id
    }

    fn values(&self) -> Vec<Value> {
        vec![id(&self.lock_id), token(&self.owner), Value::Number(self.ttl.to_micros())]
    }
}

pub(crate) fn id(lock_id: &LockId) -> Value {
    Value::Text(lock_id.to_string())
}

pub(crate) fn token(owner: &OwnerToken) -> Value {
    Value::Bytes(owner.as_bytes().to_vec())
}

/// What the statements say of one request.
#[derive(Debug)]
pub(crate) struct Found {
    /// The row that names its id; `None` if the last statement returned none.
    pub(crate) row: Option<Row>,
    /// Whether a statement may have been done before, its reply lost.
    pub(crate) repeated: bool,
}

/// Sends the requests of one call.
pub(crate) struct Sending<'a, R> {
    client: &'a Client,
    requests: &'a [R],
    begun: Instant,
    repeated: bool,
    found: Vec<Option<Result<Found, StoreError>>>,
}

impl<'a, R: Request> Sending<'a, R> {
    /// Into how many parts the requests are divided.
    const PARTS: usize = 16;
    /// A statement that has waited for this long did not wait for a row, unless the server says so: on a busy machine it may
    /// have taken long to get there. The table is locked, and the careful form would wait too.
    const ROW_LIMIT: Duration = Duration::from_secs(1);

    pub(crate) fn new(client: &'a Client, requests: &'a [R]) -> Self {
        let found = requests.iter().map(|_| None).collect();
        Self { client, requests, begun: Instant::now(), repeated: false, found }
    }

    /// Sends the plain form, and the careful one for what that has not decided. The results are in the order of the
    /// requests.
    pub(crate) async fn send(mut self, forms: &Forms) -> Vec<Result<Found, StoreError>> {
        let all: Vec<usize> = (0..self.requests.len()).collect();
        let plain = match self.requests {
            [] => return Vec::new(),
            [request] => self.run(&forms.one, request.values()).await,
            _ => self.run(&forms.many, self.arrays(&all)).await,
        };
        match plain {
            Err(error) if self.is_for_a_row(&error) => {}
            outcome => self.place(&all, outcome),
        }
        let open = (0..self.requests.len()).filter(|at| self.found[*at].is_none()).collect();
        self.send_carefully(open, &forms.careful).await
    }

    /// Sends the careful form only.
    pub(crate) async fn send_all_carefully(self, careful: &str) -> Vec<Result<Found, StoreError>> {
        let all = (0..self.requests.len()).collect();
        self.send_carefully(all, careful).await
    }

    async fn send_carefully(mut self, open: Vec<usize>, careful: &str) -> Vec<Result<Found, StoreError>> {
        let mut parts = vec![open];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            match self.run(careful, self.arrays(&part)).await {
                Err(error) if part.len() > 1 && self.is_for_a_row(&error) => {
                    parts.extend(part.chunks(part.len().div_ceil(Self::PARTS)).map(<[usize]>::to_vec));
                }
                outcome => {
                    self.place(&part, outcome);
                    for at in part {
                        self.found[at].get_or_insert(Ok(Found { row: None, repeated: self.repeated }));
                    }
                }
            }
        }
        let missing =
            || StoreError::new(Kind::Other, "PostgreSQL returned nothing for a request; was its id named twice?");
        self.found.into_iter().map(|found| found.unwrap_or_else(|| Err(missing()))).collect()
    }

    /// Whether a statement has failed because of a row, so that another may decide what it has not.
    fn is_for_a_row(&self, error: &StoreError) -> bool {
        error.kind() == Kind::Busy && self.begun.elapsed() < self.client.sending.timeout()
    }

    async fn run(&self, sql: &str, values: Vec<Value>) -> Result<Answer, StoreError> {
        let sent = Instant::now();
        let ran = self.client.run_once(sql, values, !R::IS_GRANT).await;
        ran.map_err(|error| match error.kind() {
            Kind::Busy if sent.elapsed() >= Self::ROW_LIMIT && !names_a_row(&error) => {
                let what = "the table of locks is locked by another transaction; find out which in pg_locks";
                StoreError::new(Kind::Unavailable, what).with_source(error)
            }
            _ => error,
        })
    }

    /// Gives each request of a part the row with its id, or the error of its statement.
    fn place(&mut self, part: &[usize], outcome: Result<Answer, StoreError>) {
        let placed = outcome.and_then(|answer| {
            self.repeated |= answer.repeated;
            answer.rows.into_iter().map(|row| Ok((read::<String>(&row, 1)?, row))).collect::<Result<HashMap<_, _>, _>>()
        });
        match placed {
            Ok(mut rows) => {
                for at in part {
                    if let Some(row) = rows.remove(self.requests[*at].lock_id().as_str()) {
                        self.found[*at] = Some(Ok(Found { row: Some(row), repeated: self.repeated }));
                    }
                }
            }
            Err(error) => {
                // That nothing has happened is true of this statement, but not of one before it whose reply was lost.
                let error = if self.repeated { unknown_outcome(error) } else { error };
                part.iter().for_each(|at| self.found[*at] = Some(Err(error.clone())));
            }
        }
    }

    /// The parameters of the form for many: one array for each value that a request has.
    fn arrays(&self, part: &[usize]) -> Vec<Value> {
        let mut arrays: Vec<Value> = Vec::new();
        for at in part {
            for (column, value) in self.requests[*at].values().into_iter().enumerate() {
                match arrays.get_mut(column) {
                    Some(array) => array.push(value),
                    None => arrays.push(value.into_array(part.len())),
                }
            }
        }
        arrays
    }
}
