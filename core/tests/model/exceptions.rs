//! What the contract excepts does happen, on the right rules.

use crate::checks::{Beyond, Kind};
use crate::on_rules;
use crate::semantics::Variant;

const SEEDS: u64 = 100_000;

/// Asserts that a scenario breaks the promise if it is judged without the exception.
fn needs(beyond: Beyond, kind: Kind) {
    let breaks = |seed: &u64| {
        on_rules(*seed, Variant::Right, beyond, false).0.violations.iter().any(|(found, _)| *found == kind)
    };
    let seed = (0..SEEDS).find(breaks).unwrap_or_else(|| panic!("{beyond:?} was not found within {SEEDS} seeds"));
    println!("{beyond:?}: {kind:?} at seed {seed}");
}

/// An insert begins while the clock is ahead and the lock is free. The clock is set back, another owner is granted the
/// lock until a time that the first clock has seen, and then the insert takes effect.
#[test]
fn an_insert_under_way_while_the_clock_is_set_back_makes_two_holders() {
    needs(Beyond::ClockSetBack, Kind::TwoHolders);
}

/// The purge has taken the row with the last fence, and the insert's clock is older than that.
#[test]
fn an_insert_older_than_a_purge_gets_an_old_fence() {
    needs(Beyond::OlderThanPurge, Kind::Fence);
}

/// A row records one token. A duplicate that arrives after two releases is granted; its owner has gone.
#[test]
fn a_duplicate_older_than_two_releases_is_granted() {
    needs(Beyond::EarlierToken, Kind::Ghost);
}

/// A row that the clock lets last less than 10 s or a tenth longer than its TTL is left as it is.
#[test]
fn a_small_excess_is_not_ended() {
    needs(Beyond::Tolerance, Kind::Stuck);
}
