//! The list of the cases. It stands here and nowhere else: the table and the users' tests are made from it.

use crate::case::Case;
use crate::cases;

/// Calls the macro `$case` with the group and the name of each case: what [`suite!`](crate::suite) is made from.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_case {
    (@each $case:ident $($group:ident { $($name:ident)* })*) => {
        $crate::for_each_case! { @group $case $( [$group $($name)*] )* }
    };
    (@group $case:ident $( [$group:ident $($name:ident)*] )*) => {
        $( $crate::for_each_case! { @one $case $group $($name)* } )*
    };
    (@one $case:ident $group:ident $($name:ident)*) => {
        $( $case! { $group $name } )*
    };
    ($case:ident) => {
        $crate::with_all_cases! { [$crate::for_each_case] @each $case }
    };
}

/// Calls a macro with what stands before the list, and the list.
#[doc(hidden)]
#[macro_export]
macro_rules! with_all_cases {
    ([$($callback:tt)*] $($before:tt)*) => {
        $($callback)*! {
            $($before)*
            factory {
                a_namespace_starts_empty
                two_handles_are_one_database
                two_namespaces_share_nothing
            }
            insert {
                an_absent_id_is_granted
                a_released_id_is_granted_again
                a_held_id_is_refused
                a_refusal_changes_nothing
                ids_do_not_block_one_another
                a_refusal_names_the_holder
                a_refusal_tells_the_remaining_time
                a_holder_text_is_kept_whole
            }
            expiry {
                an_expired_id_is_taken_over
                a_live_id_is_not_taken_over
                a_takeover_shows_the_new_holder
                a_lease_lasts_its_ttl
                a_lease_lasts_its_ttl_by_any_clock
                the_longest_ttl_is_kept
                a_lease_that_never_expires_has_no_end
            }
            delete {
                the_owner_can_delete
                a_stranger_cannot_delete
                a_stale_holder_cannot_delete_its_successor
                a_second_delete_answers_already
                a_stranger_is_never_answered_already
                a_release_leaves_nothing_in_the_future
                deleting_an_absent_id_answers_not_held
                deleting_an_ended_lease_answers_not_held
                force_releases_any_holder
                forcing_a_free_id_releases_nothing
                a_forced_delete_spares_the_successor
                the_forced_out_holder_has_lost
            }
            hold_at_least {
                a_fast_job_leaves_its_id_resting
                a_resting_id_is_refused
                a_rested_id_is_granted
                a_slow_job_leaves_no_rest
                a_rest_counts_from_the_acquisition
                a_rest_may_be_longer_than_the_lease
                a_resting_id_has_no_owner
                force_ends_a_rest
            }
            renew {
                a_renewal_counts_from_now
                a_renewal_never_shortens
                a_renewal_may_be_forever
                a_lease_without_an_end_keeps_none
                a_renewed_lease_is_not_taken_over
                a_renewal_keeps_the_fence
                a_stranger_cannot_renew
                an_ended_lease_cannot_be_renewed
                a_released_lease_cannot_be_renewed
                an_absent_id_cannot_be_renewed
                a_stale_holder_cannot_renew_its_successor
            }
            idempotence {
                the_same_owner_gets_its_own_lease_back
                a_repeat_keeps_the_fence
                a_repeat_counts_the_ttl_anew
                a_repeat_never_shortens
                a_repeat_after_the_end_keeps_the_fence
                a_dropped_insert_is_the_owners_to_delete
            }
            tokens {
                an_insert_after_the_release_is_spent
                a_spent_token_is_refused_under_a_successor
                a_spent_token_is_refused_when_the_successor_is_gone
                a_forced_out_token_is_spent
            }
            fencing {
                fence_is_positive
                fence_rises_across_release
                fence_rises_across_expiry
                fence_rises_across_forced_release
                fence_rises_across_purge
                fence_is_the_same_everywhere
            }
            purge {
                a_purge_spares_the_living
                a_purge_spares_the_resting
                a_purge_spares_what_never_expires
                a_purge_spares_the_recent
                a_purge_spares_the_recently_released
                a_purge_spares_the_recently_ended
                a_purge_removes_what_is_over
                a_purge_counts_what_it_removed
                a_purge_goes_by_the_age
                a_purge_spares_what_is_acquired_meanwhile
                a_long_purge_spares_what_is_acquired_meanwhile
                a_thousand_rows_are_listed_and_purged
            }
            ids {
                ids_differ_by_case
                ids_differ_by_trailing_space
                ids_differ_by_leading_space
                ids_differ_by_normal_form
                ids_differ_by_accent
                numeric_ids_are_text
                long_ids_differ_in_their_last_character
                the_longest_id_is_kept_whole
                ids_with_sql_in_them_are_only_ids
                ids_differ_in_every_printable_character
                ids_that_look_like_keys_are_only_ids
            }
            listing {
                finding_an_absent_id_is_none
                a_held_lock_is_found_with_its_holder
                an_ended_lease_reads_as_expired
                a_released_lock_tells_who_ran_and_how_long
                a_list_shows_what_is_taken
                an_ended_lease_is_not_listed_as_taken
                a_list_of_all_shows_the_free_too
                a_list_is_in_the_order_of_the_ids
            }
            many {
                many_inserts_answer_in_their_order
                many_deletes_answer_in_their_order
                many_renewals_answer_in_their_order
                many_of_nothing_is_nothing
                many_may_be_hundreds
                many_requests_leave_each_id_as_if_alone
            }
            locked_rows {
                a_locked_row_is_busy_at_once
                a_locked_row_leaves_its_batch_alone
            }
            wrong_clock {
                a_row_records_its_longest_ttl
                a_shorter_renewal_keeps_the_longest_ttl
                a_rest_records_its_length
                a_row_from_the_future_shows_no_more_than_its_ttl
                a_row_from_the_future_ends_within_its_ttl
                a_row_from_the_future_keeps_what_its_owner_was_told
                a_locked_row_from_the_future_is_refused
                a_small_correction_of_the_clock_is_left_alone
                a_lease_without_an_end_is_never_excessive
                a_release_in_the_future_leaves_no_rest
                a_fence_from_the_future_is_the_same_everywhere
                a_fence_from_the_future_is_exceeded
                a_purge_spares_a_fence_from_the_future
                reading_changes_nothing
            }
            readers {
                find_never_shows_what_never_was
                list_never_shows_what_never_was
            }
            processes {
                processes_exclude_one_another
                what_a_process_does_is_seen_by_another
                a_lease_outlives_its_process
            }
            races {
                one_of_a_hundred_tasks_wins
                two_handles_have_one_winner
                one_of_many_takes_over_an_expired_lock
                takeovers_of_leases_alike_follow_one_another
                a_grant_is_seen_through_another_handle
                one_of_many_deletes_releases
                a_counter_under_the_lock_loses_nothing
                fences_of_a_race_rise_in_the_order_of_the_grants
            }
            waiting {
                waiting_for_a_release_ends_in_time
                waiting_for_a_release_takes_its_time
                waiting_for_a_release_leaves_its_thread_free
            }
        }
    };
}

macro_rules! table {
    ($($group:ident { $($name:ident)* })*) => {
        /// Every case of the suite, group by group.
        pub const CASES: &[Case] = &[
            $($( Case::new(stringify!($group), stringify!($name), |store| Box::pin(cases::$group::$name(store))), )*)*
        ];
    };
}

with_all_cases! { [table] }
