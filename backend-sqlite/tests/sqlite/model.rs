//! The random scenarios of core's model, on a file: each answer, and the row after it, has to be that of the rules.
//! The files of that model are included as they are.
//!
//! `DB_MUTEX_MODEL_SCENARIOS=10000` runs more scenarios, `DB_MUTEX_MODEL_FROM=5000` from another first seed.

#[allow(dead_code, reason = "the traces of core's own model")]
#[path = "../../../core/tests/model/call.rs"]
mod call;
#[allow(dead_code, reason = "the mistakes of core's own model")]
#[path = "../../../core/tests/model/micros.rs"]
mod micros;
#[path = "../../../core/tests/simulation/random.rs"]
mod random;
#[allow(dead_code, reason = "the traces of core's own model")]
#[path = "../../../core/tests/model/scenario.rs"]
mod scenario;
#[path = "../../../core/tests/model/stored.rs"]
mod stored;

use std::time::SystemTime;

use db_mutex_core::{Fence, LockId};
use db_mutex_sqlite::rusqlite::Connection;

use crate::database::Database;
use call::Caller;
use micros::{NEVER_US, Row};
use scenario::{Scenario, Step};
use stored::{StoreClock, Stored};

/// SQLite's clock cannot be set. What counts is how far the times of the row are from it, so they are moved instead, by
/// another connection.
#[derive(Debug)]
struct FileClock<'a> {
    connection: &'a Connection,
}

impl StoreClock for FileClock<'_> {
    /// SQLite's clock has whole milliseconds.
    fn readings(&self, from_us: i64, to_us: i64) -> Vec<i64> {
        (from_us / 1_000..=to_us / 1_000).map(|millis| millis * 1_000).collect()
    }

    fn now_us(&self) -> i64 {
        i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()).unwrap()
    }

    fn moves(&mut self, lock_id: &LockId, by_us: i64, row: &mut Option<Row>) {
        let Some(row) = row else { return };
        row.acquired_at_us -= by_us;
        row.fence -= by_us;
        row.released_at_us = row.released_at_us.map(|at_us| at_us - by_us);
        if !matches!(row.expires_at_us, 0 | NEVER_US) {
            row.expires_at_us -= by_us;
        }
        let moved = self.connection.execute(
            "UPDATE db_mutex_locks SET acquired_at = acquired_at - ?2, fence = fence - ?2,
                 released_at = released_at - ?2,
                 expires_at = CASE WHEN expires_at IN (0, ?3) THEN expires_at ELSE expires_at - ?2 END
             WHERE lock_id = ?1",
            (lock_id.as_str(), by_us, NEVER_US),
        );
        assert_eq!(moved, Ok(1));
    }
}

#[test]
fn random_scenarios_follow_the_rules() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = Database::new();
    let store = runtime.block_on(database.store());
    let connection = database.connection();
    let first = number("DB_MUTEX_MODEL_FROM").unwrap_or(0);
    for seed in first..first + number("DB_MUTEX_MODEL_SCENARIOS").unwrap_or(300) {
        let caller = Caller::new(&format!("model {seed}"));
        let clock = FileClock { connection: &connection };
        let stored = Stored::new(&store, &runtime, caller.lock_id.clone(), clock);
        if let Err(wrong) = run(&Scenario::new(seed), &caller, stored) {
            panic!("{wrong}\nrepeat it: DB_MUTEX_MODEL_FROM={seed} DB_MUTEX_MODEL_SCENARIOS=1");
        }
        // So that a purge of the next scenario does not find it.
        connection.execute("DELETE FROM db_mutex_locks", ()).unwrap();
    }
}

fn run(scenario: &Scenario, caller: &Caller, mut stored: Stored<'_, FileClock<'_>>) -> Result<(), String> {
    let (mut requests, mut fences) = (Vec::new(), Vec::<Option<Fence>>::new());
    for step in &scenario.steps {
        let moves_by_us = match step {
            Step::Wait(time) => i64::try_from(time.as_micros()).unwrap(),
            Step::SetClock(by_us) => *by_us,
            Step::Read => {
                let found = stored.found()?.map(|row| row.fence);
                let by_rules = stored.row.as_ref().map(|row| Fence::new(row.fence));
                assert_eq!(found, by_rules, "a reader sees another acquisition");
                fences.push(found);
                continue;
            }
            Step::Begin(request) => {
                requests.push(*request);
                continue;
            }
            Step::Repeat(number) => {
                requests.push(requests[*number]);
                continue;
            }
            Step::Effect(number) => {
                if let Some(call) = caller.call(requests[*number], &fences) {
                    stored.call(&call)?;
                }
                continue;
            }
            // The store has done that with the insert.
            Step::EndExcess(_) => continue,
        };
        stored.moves(moves_by_us);
        for fence in fences.iter_mut().flatten() {
            *fence = Fence::new(fence.get() - moves_by_us);
        }
    }
    Ok(())
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, which is no number")))
}
