use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use db_mutex_conformance::{CASES, Suite};

use crate::fault::Fault;
use crate::saboteur::Saboteur;

/// Runs a case against a database with the fault; answers the assertion that failed, if one did.
fn failure_with(case: &str, fault: Fault) -> Option<String> {
    let databases: Arc<Mutex<HashMap<String, Saboteur>>> = Arc::default();
    let open = move |mut namespace: String| {
        match fault {
            Fault::HandlesDoNotSeeEachOther => {
                let unlike_any_other = databases.lock().expect("no test panics here").len();
                namespace.push_str(&unlike_any_other.to_string());
            }
            Fault::NamespacesAreOne => namespace.clear(),
            _ => {}
        }
        let mut databases = databases.lock().expect("no test panics here");
        let handle = databases.entry(namespace).or_insert_with(|| Saboteur::new(fault)).clone();
        async move { handle }
    };
    let (for_locks, for_shifts, for_fences) = (open.clone(), open.clone(), open.clone());
    let suite = Suite::new(open)
        .lock_row(move |namespace, id| {
            let opening = for_locks(namespace);
            async move { opening.await.inner.lock_row(&id) }
        })
        .shift_row(move |namespace, id, by| {
            let opening = for_shifts(namespace);
            async move { crate::shift(&opening.await.inner, &id, by) }
        })
        .plant_fence(move |namespace, id, fence| {
            let opening = for_fences(namespace);
            async move { opening.await.inner.change_row(&id, |row| row.fence = fence) }
        });
    failure_of(&suite, case)
}

/// The assertion that failed in a case of the suite, if one did.
pub(crate) fn failure_of(suite: &Suite, case: &str) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| suite.run(case))).err()?;
    let message = panic.downcast_ref::<String>().cloned();
    Some(message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

/// Checks that each of the cases fails for the fault, and not only that it does not end.
fn is_found_by(fault: Fault, cases: &[&str]) {
    for case in cases {
        let failure = failure_with(case, fault);
        let message = failure.unwrap_or_else(|| panic!("{case} passes on a store with the fault {fault:?}"));
        println!("{fault:?} is found by {case}: {message}");
        assert!(!message.contains("has not ended after"), "{case} does not find {fault:?}, it only gets stuck");
        let is_the_factorys =
            matches!(fault, Fault::StartsWithARow | Fault::NamespacesAreOne | Fault::HandlesDoNotSeeEachOther);
        assert_eq!(message.starts_with("the suite's FACTORY is wrong"), is_the_factorys, "{case} blames the wrong one");
        assert!(is_the_factorys || message.contains(" MUST "), "{case} does not say which rule is broken");
    }
}

/// Makes a test for each saboteur, and the list of them.
macro_rules! saboteurs {
    ($($test:ident: $fault:ident by $($case:ident),+;)*) => {
        $(
            #[test]
            fn $test() {
                is_found_by(Fault::$fault, &[$(stringify!($case)),+]);
            }
        )*

        const FINDERS: &[&str] = &[$($(stringify!($case)),+),*];
    };
}
saboteurs! {
    a_database_that_is_not_empty: StartsWithARow by a_namespace_starts_empty;
    a_factory_whose_handles_are_two_databases: HandlesDoNotSeeEachOther by two_handles_are_one_database;
    a_factory_whose_namespaces_are_one: NamespacesAreOne by two_namespaces_share_nothing;
    a_store_whose_find_reads_twice: FindReadsTwice by find_never_shows_what_never_was;
    a_store_that_takes_half_a_write_for_nothing: HalfAWriteIsNothing by
        find_never_shows_what_never_was, list_never_shows_what_never_was;
    a_store_whose_list_reads_twice: ListReadsTwice by list_never_shows_what_never_was;
    a_store_whose_rests_end_with_the_lease: RestIsCutToTheLease by a_rest_may_be_longer_than_the_lease;
    a_store_that_takes_a_late_repeat_for_a_new_owner: RepeatAfterTheEndIsNew by a_repeat_after_the_end_keeps_the_fence;
    a_store_whose_many_share_the_first_ttl: ManyShareTheFirstTtl by many_requests_leave_each_id_as_if_alone;
    a_store_whose_many_share_the_first_rest: ManyShareTheFirstRest by many_requests_leave_each_id_as_if_alone;
    a_store_whose_purge_takes_seconds_for_milliseconds: PurgeIsAThousandTimesTooYoung by a_purge_goes_by_the_age;
    a_store_whose_purge_takes_milliseconds_for_seconds: PurgeIsAThousandTimesTooOld by a_purge_goes_by_the_age;
    a_store_whose_purge_reads_first_and_then_removes: PurgeReadsThenRemoves by a_purge_spares_what_is_acquired_meanwhile;
    a_store_whose_purge_reads_all_and_then_removes: PurgeReadsAllThenRemoves by
        a_long_purge_spares_what_is_acquired_meanwhile;
    a_store_whose_list_ends_after_a_thousand: ListEndsAfterAThousand by a_thousand_rows_are_listed_and_purged;
    a_store_whose_purge_ends_after_a_thousand: PurgeEndsAfterAThousand by a_thousand_rows_are_listed_and_purged;
    a_store_whose_waiters_ask_all_the_time: WaitingReturnsAtOnce by waiting_for_a_release_takes_its_time;
    a_store_whose_waiting_blocks: WaitingBlocksItsThread by waiting_for_a_release_leaves_its_thread_free;
    a_store_that_takes_one_character_for_another: IdsLoseABar by ids_differ_in_every_printable_character;
    a_store_whose_ids_are_paths: IdsArePaths by ids_that_look_like_keys_are_only_ids;
    a_store_whose_ids_are_decoded: IdsArePercentDecoded by ids_that_look_like_keys_are_only_ids;

    a_store_that_refuses_the_absent: AbsentIsRefused by an_absent_id_is_granted;
    a_store_that_counts_the_expired_as_held: ExpiredCountsAsHeld by
        an_expired_id_is_taken_over, a_takeover_shows_the_new_holder, a_stale_holder_cannot_delete_its_successor,
        a_stale_holder_cannot_renew_its_successor, one_of_many_takes_over_an_expired_lock;
    a_store_that_counts_the_live_as_expired: LiveCountsAsExpired by
        a_held_id_is_refused, a_live_id_is_not_taken_over, a_resting_id_is_refused, a_renewed_lease_is_not_taken_over;
    a_store_with_two_winners_in_a_race: TwoWinnersInARace by
        one_of_a_hundred_tasks_wins, two_handles_have_one_winner, one_of_many_takes_over_an_expired_lock,
        a_counter_under_the_lock_loses_nothing;
    a_store_that_compares_only_the_length_of_leases: TwoWinnersOfOneLength by takeovers_of_leases_alike_follow_one_another;
    a_store_whose_handles_do_not_see_each_other: HandlesDoNotSeeEachOther by
        a_grant_is_seen_through_another_handle, two_handles_have_one_winner;
    a_store_with_one_lock_for_all_ids: OneLockForAllIds by
        ids_do_not_block_one_another, many_may_be_hundreds;
    a_store_whose_refusal_hides_the_holder: RefusalHidesTheHolder by a_refusal_names_the_holder;
    a_store_whose_refusal_hides_the_remaining_time: RefusalHidesTheRemainingTime by a_refusal_tells_the_remaining_time;
    a_store_whose_refusal_prolongs_the_lease: RefusalProlongsTheLease by a_refusal_changes_nothing;
    a_store_that_takes_never_for_an_hour: NeverIsAnHour by a_lease_that_never_expires_has_no_end, a_renewal_may_be_forever;
    a_store_whose_leases_are_half_as_long: LeaseIsHalfTheTtl by a_lease_lasts_its_ttl, the_longest_ttl_is_kept;
    a_store_whose_leases_end_early: LeaseEndsEarly by a_lease_lasts_its_ttl_by_any_clock;
    a_store_that_cuts_the_holders_text: HolderNameIsCut by a_holder_text_is_kept_whole;

    a_store_that_refuses_the_same_owner: RepeatIsRefused by the_same_owner_gets_its_own_lease_back;
    a_store_that_raises_the_fence_for_the_same_owner: RepeatRaisesTheFence by a_repeat_keeps_the_fence;
    a_store_that_does_not_prolong_for_the_same_owner: RepeatDoesNotProlong by a_repeat_counts_the_ttl_anew;
    a_store_whose_repeats_shorten: RepeatShortens by a_repeat_never_shortens;
    a_store_whose_dropped_insert_is_half_done: DroppedInsertIsHalfDone by a_dropped_insert_is_the_owners_to_delete;

    a_store_that_grants_a_spent_token: SpentIsGranted by an_insert_after_the_release_is_spent, a_resting_id_has_no_owner;
    a_store_that_says_held_to_a_spent_token: SpentIsHeldUnderASuccessor by a_spent_token_is_refused_under_a_successor;
    a_store_whose_successors_forget_the_spent_token: SpentIsForgottenByTheSuccessor by
        a_spent_token_is_refused_under_a_successor, a_spent_token_is_refused_when_the_successor_is_gone;
    a_store_that_grants_a_forced_out_token: ForcedOutIsGranted by a_forced_out_token_is_spent;

    a_store_whose_fence_restarts_after_a_release: FenceRestartsAfterRelease by
        fence_rises_across_release, fences_of_a_race_rise_in_the_order_of_the_grants;
    a_store_whose_fence_restarts_after_an_expiry: FenceRestartsAfterExpiry by
        fence_rises_across_expiry, one_of_many_takes_over_an_expired_lock;
    a_store_whose_fence_restarts_after_force: FenceRestartsAfterForce by fence_rises_across_forced_release;
    a_store_whose_fence_restarts_after_a_purge: FenceRestartsAfterPurge by fence_rises_across_purge;
    a_store_whose_fence_is_negative: FenceIsNegative by fence_is_positive;
    a_store_whose_list_tells_another_fence: ListTellsAnotherFence by fence_is_the_same_everywhere;

    a_store_whose_delete_changes_nothing: DeleteChangesNothing by the_owner_can_delete, a_released_id_is_granted_again;
    a_store_that_deletes_for_any_owner: DeleteAsksForNoOwner by
        a_stranger_cannot_delete, a_stale_holder_cannot_delete_its_successor, the_forced_out_holder_has_lost,
        many_deletes_answer_in_their_order;
    a_store_that_says_released_of_an_ended_lease: DeleteOfAnEndedLeaseSaysReleased by
        deleting_an_ended_lease_answers_not_held;
    a_store_that_always_says_released: DeleteSaysReleasedAlways by
        a_second_delete_answers_already, deleting_an_absent_id_answers_not_held, one_of_many_deletes_releases;
    a_store_that_ignores_hold_at_least: HoldAtLeastIsIgnored by
        a_fast_job_leaves_its_id_resting, a_resting_id_is_refused,
        a_purge_spares_the_resting, a_list_shows_what_is_taken;
    a_store_that_counts_hold_at_least_from_the_release: HoldAtLeastCountsFromTheRelease by
        a_rest_counts_from_the_acquisition, a_slow_job_leaves_no_rest;
    a_store_that_counts_the_rested_as_resting: RestedCountsAsResting by a_rested_id_is_granted;
    a_store_that_ignores_force: ForceIsIgnored by force_releases_any_holder, the_forced_out_holder_has_lost;
    a_store_that_ignores_force_on_the_resting: ForceIsIgnoredForTheResting by force_ends_a_rest;
    a_store_whose_force_always_says_released: ForceSaysReleasedAlways by forcing_a_free_id_releases_nothing;
    a_store_that_forces_by_id: ForceGoesById by a_forced_delete_spares_the_successor;
    a_store_that_takes_a_repeated_delete_for_a_lost_lock: RepeatedDeleteSaysNotHeld by a_second_delete_answers_already;
    a_store_that_says_already_to_strangers: EveryDeleteOfAFreeIdSaysAlready by a_stranger_is_never_answered_already;
    a_store_whose_releases_leave_their_time: ReleaseLeavesItsTime by a_release_leaves_nothing_in_the_future;

    a_store_that_revives_a_lost_lease: RenewRevivesALostLease by an_ended_lease_cannot_be_renewed;
    a_store_that_renews_for_any_owner: RenewAsksForNoOwner by
        a_stranger_cannot_renew, a_stale_holder_cannot_renew_its_successor, many_renewals_answer_in_their_order;
    a_store_that_renews_from_the_acquisition: RenewCountsFromTheAcquisition by a_renewal_counts_from_now;
    a_store_whose_renewals_shorten: RenewShortens by a_renewal_never_shortens;
    a_store_whose_renewals_give_never_an_end: RenewGivesNeverAnEnd by a_lease_without_an_end_keeps_none;

    a_store_whose_renewal_makes_leases: RenewMakesLeases by
        a_released_lease_cannot_be_renewed, an_absent_id_cannot_be_renewed;
    a_store_whose_renewal_raises_the_fence: RenewRaisesTheFence by a_renewal_keeps_the_fence;

    a_store_that_purges_the_living: PurgeRemovesTheLiving by
        a_purge_spares_the_living, a_purge_spares_the_resting, a_purge_spares_what_never_expires;
    a_store_whose_purge_ignores_older_than: PurgeIgnoresOlderThan by a_purge_spares_the_recent;
    a_store_whose_purge_removes_nothing: PurgeRemovesNothing by a_purge_removes_what_is_over;
    a_store_whose_purge_forgets_the_release: PurgeForgetsTheRelease by a_purge_spares_the_recently_released;
    a_store_whose_purge_counts_from_the_acquisition: PurgeCountsFromTheAcquisition by a_purge_spares_the_recently_ended;
    a_store_whose_purge_miscounts: PurgeMiscounts by a_purge_counts_what_it_removed;

    a_store_that_folds_ids_by_case: IdsAreFoldedByCase by ids_differ_by_case;
    a_store_that_cuts_ids_at_255_bytes: IdsAreCutAt255Bytes by
        long_ids_differ_in_their_last_character, the_longest_id_is_kept_whole;
    a_store_that_trims_ids_at_the_end: IdsAreTrimmedAtTheEnd by ids_differ_by_trailing_space;
    a_store_that_trims_ids_at_the_start: IdsAreTrimmedAtTheStart by ids_differ_by_leading_space;
    a_store_that_normalises_ids: IdsAreNormalised by ids_differ_by_normal_form;
    a_store_that_folds_ids_by_accent: IdsAreFoldedByAccent by ids_differ_by_accent;
    a_store_that_takes_ids_for_numbers: IdsAreNumbers by numeric_ids_are_text;

    a_store_whose_ids_lose_their_quotes: IdsLoseTheirQuotes by ids_with_sql_in_them_are_only_ids;

    a_store_that_hides_the_holder: FindHidesTheHolder by a_held_lock_is_found_with_its_holder;
    a_store_that_finds_another_row: FindAnswersAnotherRow by finding_an_absent_id_is_none;
    a_store_that_does_not_find_the_free: FreeIsNotFound by a_released_lock_tells_who_ran_and_how_long;
    a_store_that_reads_the_ended_as_released: EndedReadsAsReleased by
        an_ended_lease_reads_as_expired, a_list_of_all_shows_the_free_too;
    a_store_that_lists_the_dead_as_living: ListShowsTheDeadAsLiving by
        an_ended_lease_is_not_listed_as_taken, a_list_shows_what_is_taken;
    a_store_whose_list_is_in_another_order: ListIsUnsorted by a_list_is_in_the_order_of_the_ids;
    a_store_whose_list_of_all_hides_the_free: ListHidesTheFree by a_list_of_all_shows_the_free_too;

    a_store_that_records_the_last_ttl: TtlIsTheLastOne by a_shorter_renewal_keeps_the_longest_ttl;
    a_store_that_records_the_first_ttl: TtlIsTheFirstOne by a_row_records_its_longest_ttl;
    a_store_that_records_no_length_of_a_rest: TtlOfARestIsTheLeases by a_rest_records_its_length;
    a_store_that_shows_an_excess: ExcessIsShown by a_row_from_the_future_shows_no_more_than_its_ttl;
    a_store_that_leaves_an_excess: ExcessIsIgnored by a_row_from_the_future_ends_within_its_ttl;
    a_store_that_ends_an_excess_by_the_clock_of_its_beginning: ExcessEndsByTheOldClock by
        a_row_from_the_future_keeps_what_its_owner_was_told;
    a_store_that_is_busy_over_a_locked_excess: LockedExcessIsBusy by a_locked_row_from_the_future_is_refused;
    a_store_that_ends_what_is_hardly_ahead: ExcessHasNoTolerance by a_small_correction_of_the_clock_is_left_alone;
    a_store_that_takes_never_for_an_excess: NeverIsExcessive by a_lease_without_an_end_is_never_excessive;
    a_store_whose_rests_count_from_the_future: RestCountsFromTheFuture by a_release_in_the_future_leaves_no_rest;
    a_store_whose_readers_write: ReadersEndExcess by reading_changes_nothing;
    a_store_whose_fence_is_the_clock: FenceIsTheClock by a_fence_from_the_future_is_exceeded;
    a_store_whose_fence_is_a_double: FenceIsADouble by
        a_fence_from_the_future_is_the_same_everywhere, a_fence_from_the_future_is_exceeded;
    a_store_whose_purge_forgets_the_fence: PurgeForgetsTheFence by a_purge_spares_a_fence_from_the_future;

    a_store_that_waits_for_locked_rows: LockedRowsAreWaitedFor by a_locked_row_is_busy_at_once;
    a_store_whose_batches_fail_as_a_whole: BatchFailsAsAWhole by a_locked_row_leaves_its_batch_alone;

    a_store_whose_many_answers_are_in_another_order: ManyAnswerInAnotherOrder by
        many_inserts_answer_in_their_order, many_deletes_answer_in_their_order, many_renewals_answer_in_their_order;
    a_store_with_a_limit_for_many: ManyAreAtMostAHundred by many_may_be_hundreds;
    a_store_that_fails_at_none: ManyOfNothingIsAnError by many_of_nothing_is_nothing;
    a_store_whose_waiting_never_ends: WaitingNeverEnds by waiting_for_a_release_ends_in_time;
}

#[test]
fn every_case_finds_a_saboteur() {
    let idle: Vec<_> = CASES
        .iter()
        .map(|case| case.name)
        .filter(|case| !FINDERS.contains(case) && !crate::processes::FINDERS.contains(case))
        .collect();
    assert!(idle.is_empty(), "these cases have not been seen to fail: plant a fault for them: {idle:?}");
}
