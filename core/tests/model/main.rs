//! Takes the rules of the contract through random courses, each the same again from its seed.
//!
//! A course has some owners, who insert, renew and release one lock; an operator, who forces and purges; and a store whose
//! clock is set forward and back. Statements take effect in any order, long after their clock was read, twice, or never.
//! After each step the guarantees are checked: no two holders while the clock is set forward by no more than the margin,
//! rising fencing tokens, no lease for a token that was spent, and a lock that becomes free again.
//!
//! | file | the one idea |
//! |---|---|
//! | `course` | the steps of a course, from a seed |
//! | `call` | the requests of a course as a store gets them |
//! | `semantics` | what a course runs on: the rules, right or with one mistake |
//! | `stored`, `memory` | or a store, whose every answer is compared with the rules |
//! | `world` | takes the steps |
//! | `promise`, `checks` | what is promised, and whether it is kept |
//! | `mistakes` | wrong rules are found |
//! | `exceptions` | what the contract excepts happens |
//! | `events` | counts what happens, so that a weak generator is noticed |
//! | `search` | many seeds on all processors |
//!
//! More courses, from another first seed, and a single one with all that happens in it:
//!
//! ```text
//! DB_MUTEX_MODEL_COURSES=1000000 cargo test --release -p db-mutex-core --test model
//! DB_MUTEX_MODEL_FROM=5000000 cargo test -p db-mutex-core --test model
//! DB_MUTEX_MODEL_SEED=4711 cargo test -p db-mutex-core --test model the_rules -- --nocapture
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod call;
mod checks;
mod course;
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
use db_mutex_core::testing::{ManualClock, MemoryStore};
use tokio::runtime::Runtime;

use checks::Beyond;
use course::Course;
use events::{Event, Events};
use search::{courses, search};
use semantics::{Rules, Variant};
use world::{Report, World};

/// About a second.
const COURSES: u64 = 200_000;

/// Takes the course of one seed on the rules.
fn on_rules(seed: u64, variant: Variant, beyond: Beyond, traced: bool) -> (Report, Events) {
    let course = Course::new(seed);
    World::new(Rules::new(variant), course.owners, beyond, traced).run(&course)
}

/// The same on a memory store.
fn on_memory(seed: u64, runtime: &Runtime, traced: bool) -> (Report, Events) {
    let course = Course::new(seed);
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    World::new(memory::Memory::new(&store, clock, runtime), course.owners, Beyond::Nothing, traced).run(&course)
}

#[test]
fn the_rules_keep_what_is_promised() {
    let run = |seed, traced| on_rules(seed, Variant::Right, Beyond::Nothing, traced);
    let Some(events) = search("the_rules", courses(COURSES), run) else { return };
    for event in Event::ALL {
        println!("{event:?}: {}", events.of(event));
        assert!(events.of(event) > 0 || courses(COURSES) < 1_000, "the generator is too weak: no {event:?}");
    }
}

#[test]
fn the_memory_store_keeps_what_is_promised() {
    search("the_memory", courses(COURSES) / 20, |seed, traced| {
        thread_local!(static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap());
        RUNTIME.with(|runtime| on_memory(seed, runtime, traced))
    });
}
