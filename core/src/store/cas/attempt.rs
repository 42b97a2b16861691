//! One request: load, decide, swap; again if another was faster, if a reply was lost, and if the database was not there.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{CompareAndSwap, Loaded, Stored, Swapped};
use crate::store::rules::{Outcome, Row};
use crate::store::{LockId, StoreError, StoreErrorKind, StoreTime};

/// How often a request is tried when races are lost or replies, before it fails.
const ATTEMPTS: u32 = 5;

/// A swap whose reply was lost: it may have taken effect, or may still.
struct Unsettled<A> {
    row: Row,
    written: Vec<u8>,
    answer: A,
    /// Whether it matters when it takes effect.
    matters: bool,
}

/// What a request is.
pub(super) trait Rule {
    type Answer: Clone;

    /// Its answer to a row, and the row to write.
    fn apply(&self, row: Option<&Row>, now: StoreTime) -> Outcome<Self::Answer>;

    /// Whether an answer is right whether its row is written, now, later or never.
    fn stands_alone(&self, _answer: &Self::Answer) -> bool {
        false
    }

    /// The answer that changes nothing, if one of the rows `before` may have been written and then overwritten by others.
    fn after_a_lost_reply(
        &self,
        answer: Self::Answer,
        _row: Option<&Row>,
        _before: &[Row],
    ) -> Result<Self::Answer, StoreError> {
        Ok(answer)
    }
}

/// Applies a rule to the row of an id.
pub(super) async fn apply<T: CompareAndSwap, R: Rule>(
    store: &T,
    id: &LockId,
    rule: R,
) -> Result<R::Answer, StoreError> {
    let limit = Limit::new(store.limits().call);
    // All of these expect one version. As soon as the value has another, none of them can take effect any more.
    let mut unsettled: Vec<Unsettled<R::Answer>> = Vec::new();
    // Rows that matter, from before the value got another version: they may have been written, and overwritten.
    let mut before: Vec<Row> = Vec::new();
    let mut expected: Option<T::Version> = None;
    let mut last = None;
    let mut failure = StoreError::new(
        StoreErrorKind::Busy,
        format!("others changed the value {ATTEMPTS} times in between; try again"),
    );
    for attempt in 0..ATTEMPTS {
        if attempt > 0 && limit.is_over() {
            break;
        }
        let loaded = match limit.load(store, id).await {
            Ok(loaded) => loaded,
            // A connection that broke, say: the next may be to another node.
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                failure = error;
                continue;
            }
            Err(error) => return Err(settled(error, &unsettled, &before)),
        };
        let version = loaded.entry.as_ref().map(|entry| &entry.version);
        if let Some(done) = done(&loaded, &mut unsettled) {
            return Ok(done);
        }
        if version != expected.as_ref() {
            before.extend(unsettled.drain(..).filter(|swap| swap.matters).map(|swap| swap.row));
        }
        let row = row(id, &loaded).map_err(|error| settled(error, &unsettled, &before))?;
        let Outcome { answer, write } = rule.apply(row.as_ref(), loaded.now);
        let Some(written) = write else {
            return match (all_harmless(&unsettled), before.is_empty()) {
                // The value is as it was, and a swap that expects it so may still arrive.
                (false, _) => Err(settled(failure, &unsettled, &before)),
                (true, true) => Ok(answer),
                (true, false) => rule.after_a_lost_reply(answer, row.as_ref(), &before),
            };
        };
        let value =
            Stored::new(id.clone(), written.clone()).to_bytes().map_err(|error| settled(error, &unsettled, &before))?;
        let matters = !rule.stands_alone(&answer);
        last = (!matters && all_harmless(&unsettled)).then(|| answer.clone());
        match limit.of(store.swap(id, version, &value)).await {
            Ok(Swapped::Done) => return Ok(answer),
            Ok(Swapped::Changed) => {}
            Err(error) if error.is_undone() && error.kind() != StoreErrorKind::Unavailable => {
                return last.ok_or_else(|| settled(error, &unsettled, &before));
            }
            Err(error) if error.is_undone() => failure = error,
            Err(error) => {
                failure = error;
                expected = version.cloned();
                unsettled.push(Unsettled { row: written, written: value, answer, matters });
            }
        }
    }
    last.ok_or_else(|| settled(failure, &unsettled, &before))
}

/// The answer of the unsettled swap that has taken effect, if one is seen to have.
fn done<V, A>(loaded: &Loaded<V>, unsettled: &mut Vec<Unsettled<A>>) -> Option<A> {
    let entry = loaded.entry.as_ref()?;
    let at = unsettled.iter().position(|swap| swap.written == entry.value)?;
    Some(unsettled.swap_remove(at).answer)
}

/// The error of a request, of which earlier swaps may be unsettled.
fn settled<A>(error: StoreError, unsettled: &[Unsettled<A>], before: &[Row]) -> StoreError {
    if all_harmless(unsettled) && before.is_empty() { error } else { error.unknown() }
}

fn all_harmless<A>(unsettled: &[Unsettled<A>]) -> bool {
    unsettled.iter().all(|swap| !swap.matters)
}

fn row<V>(id: &LockId, loaded: &Loaded<V>) -> Result<Option<Row>, StoreError> {
    let Some(entry) = &loaded.entry else { return Ok(None) };
    let stored = Stored::from_bytes(&entry.value)?;
    if stored.lock_id != *id {
        let message = format!(
            "under the key of lock `{id}` is the value of lock `{}`: the key scheme mixes them up, and must not",
            stored.lock_id
        );
        return Err(StoreError::new(StoreErrorKind::Schema, message));
    }
    Ok(Some(stored.row))
}

/// The time at which a call has to end.
pub(super) struct Limit {
    call: Duration,
    end: Instant,
}

impl Limit {
    pub(super) fn new(call: Duration) -> Self {
        let now = Instant::now();
        // A limit beyond the clock's range is none.
        Self { call, end: now.checked_add(call).unwrap_or(now + Duration::from_secs(365 * 24 * 3_600)) }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// The result of an operation, or an error when the time is over.
    pub(super) async fn of<R>(&self, operation: impl Future<Output = Result<R, StoreError>>) -> Result<R, StoreError> {
        timeout_at(self.end, operation).await.unwrap_or_else(|_| {
            let message = format!("the database did not respond within {:?}", self.call);
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        })
    }

    /// Loads a value. A failure has changed nothing.
    async fn load<T: CompareAndSwap>(&self, store: &T, id: &LockId) -> Result<Loaded<T::Version>, StoreError> {
        self.of(store.load(id)).await.map_err(StoreError::undone)
    }
}
