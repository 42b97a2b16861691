use std::fmt::Debug;

use db_mutex_core::store::{Inserted, LockId, LockRow, LockStore, Renewed};
use tokio::runtime::Runtime;

use super::call::{Answer, Call};
use super::micros::Row;
use super::micros::rules::{self, Outcome};

/// The clock of a store under test.
pub(crate) trait StoreClock {
    /// The times that a statement may have read which ran between two calls of [`StoreClock::now_us`].
    fn readings(&self, from_us: i64, to_us: i64) -> Vec<i64>;

    fn now_us(&self) -> i64;

    /// Moves the clock. A store on the system's clock moves the times of its row instead, and so the copy of the row.
    fn moves(&mut self, lock_id: &LockId, by_us: i64, row: &mut Option<Row>);
}

/// A store, and a copy of its row by the rules: each answer, and the row after it, has to be theirs.
#[derive(Debug)]
pub(crate) struct Stored<'a, C> {
    store: &'a dyn LockStore,
    runtime: &'a Runtime,
    lock_id: LockId,
    pub(crate) clock: C,
    pub(crate) row: Option<Row>,
}

impl<'a, C: StoreClock + Debug> Stored<'a, C> {
    pub(crate) fn new(store: &'a dyn LockStore, runtime: &'a Runtime, lock_id: LockId, clock: C) -> Self {
        Self { store, runtime, lock_id, clock, row: None }
    }

    pub(crate) fn moves(&mut self, by_us: i64) {
        self.clock.moves(&self.lock_id, by_us, &mut self.row);
    }

    /// Sends a request, and compares.
    ///
    /// # Errors
    /// What the store answered or wrote, and what the rules say.
    pub(crate) fn call(&mut self, call: &Call) -> Result<Answer, String> {
        let from_us = self.clock.now_us();
        let answer = self.runtime.block_on(async {
            match call {
                Call::Insert(request) => self.store.insert_if_absent(request).await.map(Answer::Inserted),
                Call::Renew(request) => self.store.renew(request).await.map(Answer::Renewed),
                Call::Delete(request) => self.store.delete(request).await.map(Answer::Deleted),
                Call::Purge(older_than) => self.store.purge_expired(*older_than).await.map(Answer::Purged),
            }
        });
        let answer = answer.map_err(|error| format!("{call:?}: {error}"))?;
        let to_us = self.clock.now_us();
        let found = self.found()?;
        let readings = self.clock.readings(from_us, to_us);
        // The two statements of an insert may read the clock at different times.
        let pairs = readings.iter().flat_map(|first| readings.iter().map(move |second| (*first, *second)));
        let mut said = None;
        for (first_us, second_us) in pairs.filter(|(first_us, second_us)| first_us <= second_us) {
            let (by_rules, row) = apply(self.row.as_ref(), call, first_us, second_us);
            if same_answer(&by_rules, &answer) && same_row(found.as_ref(), row.as_ref()) {
                self.row = row;
                return Ok(answer);
            }
            said.get_or_insert((by_rules, row));
        }
        Err(format!("{call:?} on {:?}: {answer:?}, {found:?}, but the rules say {said:?}", self.row))
    }

    /// The row as a reader sees it, which changes nothing.
    pub(crate) fn found(&self) -> Result<Option<LockRow>, String> {
        self.runtime.block_on(self.store.find(&self.lock_id)).map_err(|error| error.to_string())
    }
}

/// The answer and the row by the rules. An insert that is refused by an excessive row executes a second statement.
fn apply(row: Option<&Row>, call: &Call, now_us: i64, second_us: i64) -> (Answer, Option<Row>) {
    fn written<A>(row: Option<&Row>, outcome: Outcome<A>, answer: impl FnOnce(A) -> Answer) -> (Answer, Option<Row>) {
        (answer(outcome.answer), outcome.write.or_else(|| row.cloned()))
    }
    match call {
        Call::Insert(request) => {
            let (answer, mut after) = written(row, rules::insert(row, request, now_us), Answer::Inserted);
            if matches!(answer, Answer::Inserted(Inserted::Held(_)))
                && row.is_some_and(|row| rules::is_excessive(row, now_us))
            {
                after = row.and_then(|row| rules::end_excess(row, second_us)).or(after);
            }
            (answer, after)
        }
        Call::Renew(request) => written(row, rules::renew(row, request, now_us), Answer::Renewed),
        Call::Delete(request) => written(row, rules::delete(row, request, now_us), Answer::Deleted),
        Call::Purge(older_than) => match row {
            Some(row) if rules::is_purgeable(row, *older_than, now_us) => (Answer::Purged(1), None),
            _ => (Answer::Purged(0), row.cloned()),
        },
    }
}

fn same_answer(one: &Answer, two: &Answer) -> bool {
    match (one, two) {
        (Answer::Inserted(Inserted::Granted(one)), Answer::Inserted(Inserted::Granted(two)))
        | (Answer::Renewed(Renewed::Renewed(one)), Answer::Renewed(Renewed::Renewed(two))) => one == two,
        (Answer::Inserted(Inserted::Held(one)), Answer::Inserted(Inserted::Held(two))) => one == two,
        (Answer::Inserted(Inserted::Spent), Answer::Inserted(Inserted::Spent))
        | (Answer::Renewed(Renewed::NotHeld), Answer::Renewed(Renewed::NotHeld)) => true,
        (Answer::Deleted(one), Answer::Deleted(two)) => one == two,
        (Answer::Purged(one), Answer::Purged(two)) => one == two,
        _ => false,
    }
}

/// Compares all columns but the tokens, which no reader is shown.
fn same_row(found: Option<&LockRow>, row: Option<&Row>) -> bool {
    match (found, row) {
        (Some(found), Some(row)) => {
            let by_rules = row.read(found.lock_id.clone(), found.now);
            found.owned == by_rules.owned
                && found.fence == by_rules.fence
                && found.holder == by_rules.holder
                && found.acquired_at == by_rules.acquired_at
                && found.released_at == by_rules.released_at
                && found.expires_at == by_rules.expires_at
                && found.ttl == by_rules.ttl
        }
        (None, None) => true,
        _ => false,
    }
}
