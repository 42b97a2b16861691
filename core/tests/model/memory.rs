use std::time::Duration;

use db_mutex_core::LockId;
use db_mutex_core::store::LockStore;
use db_mutex_core::testing::ManualClock;
use tokio::runtime::Runtime;

use crate::call::{Answer, Call, Caller};
use crate::micros::Row;
use crate::semantics::Semantics;
use crate::stored::{StoreClock, Stored};

impl StoreClock for ManualClock {
    fn readings(&self, from_us: i64, _to_us: i64) -> Vec<i64> {
        vec![from_us]
    }

    fn now_us(&self) -> i64 {
        self.store_time().as_micros()
    }

    fn moves(&mut self, _lock_id: &LockId, by_us: i64, _row: &mut Option<Row>) {
        if by_us > 0 {
            self.advance(Duration::from_micros(by_us.unsigned_abs()));
        } else {
            self.step_back(Duration::from_micros(by_us.unsigned_abs()));
        }
    }
}

/// A store on a manual clock that runs scenarios.
#[derive(Debug)]
pub(crate) struct Memory<'a>(Stored<'a, ManualClock>);

impl<'a> Memory<'a> {
    pub(crate) fn new(store: &'a dyn LockStore, clock: ManualClock, runtime: &'a Runtime) -> Self {
        Self(Stored::new(store, runtime, Caller::new("model").lock_id, clock))
    }
}

impl Semantics for Memory<'_> {
    fn execute(&mut self, call: &Call, _clock_us: i64) -> Result<Answer, String> {
        self.0.call(call)
    }

    /// The store has done that with the insert.
    fn end_excess(&mut self, _begun_us: i64, _clock_us: i64) {}

    fn row(&self) -> Option<&Row> {
        self.0.row.as_ref()
    }

    fn clock_moves(&mut self, by_us: i64) {
        self.0.moves(by_us);
    }

    fn at_once(&self) -> bool {
        true
    }
}
