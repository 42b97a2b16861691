//! Each rule that is wrong in one place is found. So the generator is strong enough, and the rule is needed.

use crate::checks::{Beyond, Kind};
use crate::on_rules;
use crate::semantics::Variant;

/// Ten times what the rarest mistake needs.
const SEEDS: u64 = 100_000;

/// Asserts that scenarios on the wrong rules break that promise, and no seed does so on the right ones.
fn finds(variant: Variant, kind: Kind) {
    let breaks = |variant, seed| {
        on_rules(seed, variant, Beyond::Nothing, false).0.violations.iter().any(|(found, _)| *found == kind)
    };
    let seed = (0..SEEDS).find(|seed| breaks(variant, *seed));
    let seed = seed.unwrap_or_else(|| panic!("{variant:?} was not found within {SEEDS} seeds"));
    println!("{variant:?}: {kind:?} at seed {seed}");
    assert!(!breaks(Variant::Right, seed), "the right rules break it, too: seed {seed}");
}

#[test]
fn the_last_ttl_instead_of_the_longest_makes_two_holders() {
    finds(Variant::LastTtl, Kind::TwoHolders);
}

#[test]
fn the_deciding_ttl_instead_of_the_longest_makes_two_holders() {
    finds(Variant::DecidingTtl, Kind::TwoHolders);
}

#[test]
fn an_excess_ended_by_an_old_clock_makes_two_holders() {
    finds(Variant::StaleExcess, Kind::TwoHolders);
}

#[test]
fn a_renewal_that_shortens_makes_two_holders() {
    finds(Variant::RenewalShortens, Kind::TwoHolders);
}

#[test]
fn a_repeat_that_shortens_makes_two_holders() {
    finds(Variant::RepeatShortens, Kind::TwoHolders);
}

#[test]
fn a_release_that_leaves_no_token_grants_a_late_duplicate() {
    finds(Variant::NoReleasedBy, Kind::Ghost);
}

#[test]
fn a_takeover_that_forgets_the_token_grants_a_late_duplicate() {
    finds(Variant::TakeoverForgets, Kind::Ghost);
}

#[test]
fn a_force_by_id_ends_a_successor() {
    finds(Variant::ForceById, Kind::SuccessorEnded);
}

#[test]
fn a_release_that_leaves_its_time_is_not_free() {
    finds(Variant::ReleaseAtNow, Kind::NotFree);
}

#[test]
fn a_rest_from_the_future_lasts_too_long() {
    finds(Variant::RestFromTheFuture, Kind::Shown);
}

#[test]
fn without_an_end_of_excess_a_crash_blocks_too_long() {
    finds(Variant::NoEndOfExcess, Kind::Stuck);
}

#[test]
fn a_purge_of_any_fence_lets_fences_fall() {
    finds(Variant::PurgeAnyFence, Kind::Fence);
}

#[test]
fn a_purge_of_a_recent_fence_lets_fences_fall() {
    finds(Variant::PurgeRecentFence, Kind::Fence);
}

#[test]
fn a_fence_from_the_clock_alone_falls() {
    finds(Variant::FenceIsClock, Kind::Fence);
}
