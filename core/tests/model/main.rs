//! Runs the rules of the contract through random scenarios, each of which can be repeated from its seed.
//!
//! A scenario has some owners, who insert, renew and release one lock; an operator, who forces and purges; and a store whose
//! clock is set forward and back. Statements take effect in any order, long after their clock was read, twice, or never.
//! After each step the guarantees are checked: no two holders while the clock is set forward by no more than the margin,
//! rising fencing tokens, no lease for a token that was spent, and a lock that becomes free again.
//!
//! | file | the one idea |
//! |---|---|
//! | `scenario` | the steps of a scenario, from a seed |
//! | `call` | the requests of a scenario as a store gets them |
//! | `semantics` | what a scenario runs on: the rules, right or with one mistake |
//! | `stored`, `memory` | or a store, whose every answer is compared with the rules |
//! | `world` | takes the steps |
//! | `promise`, `checks` | what is promised, and whether it is kept |
//! | `mistakes` | wrong rules are found |
//! | `exceptions` | what the contract excepts happens |
//! | `events` | counts what happens, so that a weak generator is noticed |
//! | `search` | many seeds on all processors |
//!
//! More scenarios, from another first seed, and a single one with all that happens in it:
//!
//! ```text
//! DB_MUTEX_MODEL_SCENARIOS=1000000 cargo test --release -p db-mutex-core --test model
//! DB_MUTEX_MODEL_FROM=5000000 cargo test -p db-mutex-core --test model
//! DB_MUTEX_MODEL_SEED=4711 cargo test -p db-mutex-core --test model the_rules -- --nocapture
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod call;
/// A database in memory.
#[allow(unreachable_pub, reason = "the conformance suite uses it too")]
#[path = "../cas/memory.rs"]
mod cas;
mod checks;
/// Core's own rule for guards.
#[allow(dead_code, unreachable_pub, reason = "not all of it is needed here")]
#[path = "../../src/engine/deadline.rs"]
mod deadline;
mod events;
mod exceptions;
mod memory;
mod micros;
mod mistakes;
mod promise;
#[path = "../simulation/random.rs"]
mod random;
mod scenario;
mod search;
mod semantics;
mod stored;
mod world;

/// Where `deadline` finds the client's time.
mod values {
    pub(crate) use db_mutex_core::testing::ClientTime;
}

// For `deadline`.
use db_mutex_core::Ttl;
use db_mutex_core::store::LockStore;
use db_mutex_core::store::cas::CasStore;
use db_mutex_core::testing::{ManualClock, MemoryStore};
use tokio::runtime::Runtime;

use cas::{MemoryCas, Versions};
use checks::Beyond;
use events::{Event, Events};
use scenario::Scenario;
use search::{scenarios, search};
use semantics::{Rules, Variant};
use world::{Report, World};

/// About a second.
const SCENARIOS: u64 = 200_000;

/// Runs the scenario of one seed on the rules.
fn on_rules(seed: u64, variant: Variant, beyond: Beyond, traced: bool) -> (Report, Events) {
    let scenario = Scenario::new(seed);
    World::new(Rules::new(variant), scenario.owners, beyond, traced).run(&scenario)
}

/// The same on a store that `new` makes on a clock.
fn on_store<S: LockStore>(seed: u64, traced: bool, new: impl Fn(ManualClock) -> S) -> (Report, Events) {
    thread_local!(static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());
    let scenario = Scenario::new(seed);
    let clock = ManualClock::new();
    let store = new(clock.clone());
    RUNTIME.with(|runtime| {
        World::new(memory::Memory::new(&store, clock, runtime), scenario.owners, Beyond::Nothing, traced).run(&scenario)
    })
}

#[test]
fn the_rules_keep_what_is_promised() {
    let run = |seed, traced| on_rules(seed, Variant::Right, Beyond::Nothing, traced);
    let Some(events) = search("the_rules", scenarios(SCENARIOS), run) else { return };
    for event in Event::ALL {
        println!("{event:?}: {}", events.of(event));
        assert!(events.of(event) > 0 || scenarios(SCENARIOS) < 1_000, "the generator is too weak: no {event:?}");
    }
}

#[test]
fn the_memory_store_keeps_what_is_promised() {
    search("the_memory", scenarios(SCENARIOS) / 20, |seed, traced| on_store(seed, traced, MemoryStore::with_clock));
}

/// Every third swap loses its reply, and the version of a value is the value.
#[test]
fn the_kit_for_compare_and_swap_keeps_what_is_promised() {
    search("the_kit", scenarios(SCENARIOS) / 20, |seed, traced| {
        on_store(seed, traced, |clock| {
            CasStore::new(MemoryCas {
                clock: Some(clock),
                versions: Versions::Content,
                loses_replies: true,
                ..MemoryCas::default()
            })
        })
    });
}
