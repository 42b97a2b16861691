//! The random scenarios of core's model, on both servers: each answer, and the row after it, has to be that of the rules.
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

use db_mutex_core::{Fence, LockId};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::Pool;
use db_mutex_mysql::mysql_async::prelude::Queryable;
use tokio::runtime::Runtime;

use crate::database::{Database, both};
use crate::servers::pool_of;
use call::Caller;
use micros::Row;
use scenario::{Scenario, Step};
use stored::{StoreClock, Stored};

/// The clock of a session can be set, and stands still then; the store has one connection.
struct SessionClock<'a> {
    pool: &'a Pool,
    runtime: &'a Runtime,
    now_us: i64,
}

impl SessionClock<'_> {
    /// 2001: MariaDB's clock ends in 2038.
    const FIRST_US: i64 = 1_000_000_000_000_000;

    fn set(&mut self, now_us: i64) {
        self.runtime.block_on(async {
            let mut connection = self.pool.get_conn().await.unwrap();
            let set = format!("SET SESSION timestamp = {}.{:06}", now_us / 1_000_000, now_us % 1_000_000);
            connection.query_drop(set).await.unwrap();
            let read = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";
            assert_eq!(connection.query_first::<i64, _>(read).await.unwrap(), Some(now_us));
        });
        self.now_us = now_us;
    }
}

impl std::fmt::Debug for SessionClock<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.now_us.fmt(f)
    }
}

impl StoreClock for SessionClock<'_> {
    fn readings(&self, from_us: i64, _: i64) -> Vec<i64> {
        vec![from_us]
    }

    fn now_us(&self) -> i64 {
        self.now_us
    }

    fn moves(&mut self, _: &LockId, by_us: i64, _: &mut Option<Row>) {
        self.set(self.now_us + by_us);
    }
}

fn random_scenarios(database: &Database) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = {
        let _entered = runtime.enter();
        pool_of(1, &database.url, "")
    };
    let opening = MySqlStore::builder().table(database.table.clone()).from_pool(pool.clone());
    let store = runtime.block_on(opening).unwrap();
    let first = number("DB_MUTEX_MODEL_FROM").unwrap_or(0);
    for seed in first..first + number("DB_MUTEX_MODEL_SCENARIOS").unwrap_or(200) {
        let caller = Caller::new(&format!("model {seed}"));
        let mut clock = SessionClock { pool: &pool, runtime: &runtime, now_us: 0 };
        clock.set(SessionClock::FIRST_US);
        let stored = Stored::new(&store, &runtime, caller.lock_id.clone(), clock);
        if let Err(wrong) = run(&Scenario::new(seed), &caller, stored) {
            panic!("{wrong}\nrepeat it: DB_MUTEX_MODEL_FROM={seed} DB_MUTEX_MODEL_SCENARIOS=1");
        }
        // So that a purge of the next scenario does not find it.
        runtime.block_on(database.run("DELETE FROM {t}"));
    }
}

fn run(scenario: &Scenario, caller: &Caller, mut stored: Stored<'_, SessionClock<'_>>) -> Result<(), String> {
    let (mut requests, mut fences) = (Vec::new(), Vec::<Option<Fence>>::new());
    for step in &scenario.steps {
        match step {
            Step::Wait(time) => stored.moves(i64::try_from(time.as_micros()).unwrap()),
            Step::SetClock(by_us) => stored.moves(*by_us),
            Step::Read => {
                let found = stored.found()?.map(|row| row.fence);
                let by_rules = stored.row.as_ref().map(|row| Fence::new(row.fence));
                assert_eq!(found, by_rules, "a reader sees another acquisition");
                fences.push(found);
            }
            Step::Begin(request) => requests.push(*request),
            Step::Repeat(number) => requests.push(requests[*number]),
            Step::Effect(number) => {
                if let Some(call) = caller.call(requests[*number], &fences) {
                    stored.call(&call)?;
                }
            }
            // The store has done that with the insert.
            Step::EndExcess(_) => {}
        }
    }
    Ok(())
}

#[test]
fn random_scenarios_follow_the_rules() {
    for database in both() {
        random_scenarios(&database);
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}
