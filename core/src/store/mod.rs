//! The contract between the mutex and a database: requests, answers, errors, and the rules that connect them.
//!
//! Architecture invariant: this module depends only on the values, and on nothing that is built on it.

mod answer;
pub mod cas;
mod error;
mod forward;
mod limits;
mod memory;
mod request;
pub mod rules;
mod verify;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

pub use async_trait::async_trait;

pub use crate::values::{
    Fence, HolderName, LockId, OwnerToken, StoreTime, Ttl, duration_from_micros, duration_to_micros,
};
pub use answer::{Deleted, Holder, Inserted, Lease, LockRow, LockState, Renewed};
pub use error::{StoreError, StoreErrorKind};
pub use limits::Limits;
pub use memory::{MemoryStore, RowLock};
pub use request::{DeleteBy, DeleteRequest, InsertRequest, ListFilter, RenewRequest};
pub use verify::VerifyQuery;

/// The text of this file: the conformance suite quotes the rules that a store does not keep.
#[doc(hidden)]
pub const CONTRACT: &str = include_str!("mod.rs");

/// A table of locks in a database: the contract that everything else is built on.
///
/// This trait is for implementors; users hold a [`DbMutex`](crate::DbMutex). Its six required methods are enough for a
/// correct store. The other methods have correct defaults, which a store can replace with faster implementations.
///
/// [`rules`](rules) states the same semantics as code: pure functions that [`MemoryStore`](MemoryStore) uses. For a
/// database that can compare and swap, [`cas`] is less work than this trait. [Writing a
/// store](https://github.com/db-mutex/db-mutex/blob/main/docs/writing-a-store.md) is a tutorial.
///
/// # Contract
///
/// MUST and SHOULD are used as in [RFC 2119](https://www.rfc-editor.org/rfc/rfc2119). Each rule with a MUST has a label in
/// bold. For each label, the table at the [end](#conformance-cases) lists the cases of the conformance suite that test it.
/// Rules that cannot be tested from outside (the clock, lost replies) are written without MUST; a store's own tests have to
/// cover them.
///
/// A lock id is **taken** while it has a row whose `expires_at` is later than the store's now: **held** if the row has an
/// owner, **resting** if it has none. Otherwise it is **free**, whether it has a row or not.
///
/// ## Atomicity
/// - **A1** Of all concurrent requests for a free id, exactly one MUST be granted, regardless of the number of tasks,
///   handles and processes.
/// - **A2** An answer MUST describe what is stored: a granted lease is visible through every handle of the database.
///
/// ## Clock
/// - Only the store's clock decides whether a row has expired. The client's time is never used, unless the store and the
///   client are on the same machine.
/// - The clock is read after the statement has started in the store, and SHOULD be read while the row is locked. With an
///   earlier reading, a free lock may be refused. A taken lock can be granted or purged only if the clock is set back while
///   the statement runs.
/// - **C1** A row records the longest TTL that its acquisition has requested (a repeat or a renewal with a shorter TTL does
///   not lower it), or the length of its rest. Readers MUST NOT show more remaining time than that.
/// - **C2** A row that stays taken for longer than its TTL plus 10 s or a tenth of it, whichever is more, is **excessive**:
///   the clock was ahead when it was written. A refused insert MUST shorten it to end `ttl` from now, with a second
///   statement that locks the row without waiting and reads the clock *while it holds the row*. With the time at which the
///   statement started, or the last TTL instead of the longest, a lease that was renewed meanwhile would be cut short.
///   Nothing else ever lowers `expires_at` of a row that has an owner.
///
/// ## Owner tokens
/// - **O1** The requests of an owner token have a fixed order: inserts, then renewals, then deletes. After the release, an
///   insert by the same token MUST return [`Inserted::Spent`], even if another owner holds the lock by then, so that a late
///   duplicate grants nothing. A row records the owner token that was released last. After the first delete for a token,
///   callers send no new requests for it, and mint a new token instead.
///
/// ## Ids
/// - **I1** Two ids are one lock exactly when their UTF-8 bytes are equal: a store MUST NOT fold, trim, normalise or cut them.
/// - **I2** Every valid [`LockId`] MUST be stored completely.
///
/// ## Fencing
/// - **F1** The fencing token of each acquisition MUST be positive and greater than every earlier one of that id, across
///   release, expiry, forced release and purge, in the order in which the acquisitions happened.
/// - **F2** Lease, refusal, [`find`](Self::find) and [`list`](Self::list) MUST report the same fencing token.
///
/// ## Errors
/// - "Held" and "not held" are answers. A store that cannot determine the outcome returns an error, and an error is never
///   reported as "held" or "not held".
/// - **E1** No insert, renew or delete ever waits for a row. If another transaction has locked the row, or has inserted it
///   and not committed yet, the request MUST fail at once with [`StoreErrorKind::Busy`](StoreErrorKind::Busy), and change
///   nothing. The caller repeats it a little later; the store does not. ([`find`](Self::find) and [`list`](Self::list) read
///   without locks.)
/// - After an error, the request may or may not have taken effect, but never partially.
/// - A store SHOULD repeat an idempotent request that failed because a connection broke, a limited number of times. It
///   returns an answer only if none of its earlier attempts can take effect any more; otherwise it returns an error of
///   [unknown](StoreError::unknown) outcome. The mutex regards an answer as the end of a request. (An insert that takes
///   effect after its delete, and after others have had the lock, would be granted again.)
/// - No error message and no `Debug` output of a store may contain a password.
///
/// ## Cancellation safety
/// - A mutex lets each request run to completion, even if its caller is gone. Futures of a store are dropped only when
///   their runtime ends.
/// - **X1** A dropped future MUST leave the request either done or not done. If it is done, its owner can delete it.
///
/// # Conformance cases
///
/// | rule | cases |
/// |---|---|
/// | A1 | `one_of_a_hundred_tasks_wins`, `two_handles_have_one_winner`, `one_of_many_takes_over_an_expired_lock`, `takeovers_of_leases_alike_follow_one_another`, `a_counter_under_the_lock_loses_nothing`, `processes_exclude_one_another` |
/// | A2 | `a_grant_is_seen_through_another_handle`, `what_a_process_does_is_seen_by_another` |
/// | C1 | `a_row_records_its_longest_ttl`, `a_shorter_renewal_keeps_the_longest_ttl`, `a_rest_records_its_length`, `a_row_from_the_future_shows_no_more_than_its_ttl` |
/// | C2 | `a_row_from_the_future_ends_within_its_ttl`, `a_row_from_the_future_keeps_what_its_owner_was_told`, `a_locked_row_from_the_future_is_refused`, `a_small_correction_of_the_clock_is_left_alone`, `a_lease_without_an_end_is_never_excessive` |
/// | O1 | `an_insert_after_the_release_is_spent`, `a_spent_token_is_refused_under_a_successor`, `a_spent_token_is_refused_when_the_successor_is_gone`, `a_forced_out_token_is_spent` |
/// | I1 | `ids_differ_by_case`, `ids_differ_by_trailing_space`, `ids_differ_by_leading_space`, `ids_differ_by_normal_form`, `ids_differ_by_accent`, `numeric_ids_are_text`, `long_ids_differ_in_their_last_character`, `ids_differ_in_every_printable_character`, `ids_that_look_like_keys_are_only_ids` |
/// | I2 | `the_longest_id_is_kept_whole`, `ids_with_sql_in_them_are_only_ids` |
/// | F1 | `fence_is_positive`, `fence_rises_across_release`, `fence_rises_across_expiry`, `fence_rises_across_forced_release`, `fence_rises_across_purge`, `fences_of_a_race_rise_in_the_order_of_the_grants`, `a_fence_from_the_future_is_exceeded`, `a_purge_spares_what_is_acquired_meanwhile` |
/// | F2 | `fence_is_the_same_everywhere`, `a_fence_from_the_future_is_the_same_everywhere` |
/// | E1 | `a_locked_row_is_busy_at_once`, `a_locked_row_leaves_its_batch_alone` |
/// | X1 | `a_dropped_insert_is_the_owners_to_delete` |
/// | insert 1 | `an_absent_id_is_granted`, `a_released_id_is_granted_again`, `an_expired_id_is_taken_over` |
/// | insert 2 | `a_held_id_is_refused`, `a_live_id_is_not_taken_over`, `a_refusal_changes_nothing`, `a_resting_id_is_refused`, `ids_do_not_block_one_another` |
/// | insert 3 | `a_refusal_names_the_holder`, `a_holder_text_is_kept_whole`, `a_refusal_tells_the_remaining_time` |
/// | insert 4 | `a_lease_lasts_its_ttl`, `a_lease_lasts_its_ttl_by_any_clock`, `the_longest_ttl_is_kept`, `a_lease_that_never_expires_has_no_end`, `a_takeover_shows_the_new_holder`, `a_lease_outlives_its_process` |
/// | insert 5 | `the_same_owner_gets_its_own_lease_back`, `a_repeat_keeps_the_fence`, `a_repeat_counts_the_ttl_anew`, `a_repeat_never_shortens`, `a_repeat_after_the_end_keeps_the_fence` |
/// | delete 1 | `the_owner_can_delete`, `a_stranger_cannot_delete`, `a_stale_holder_cannot_delete_its_successor`, `one_of_many_deletes_releases`, `deleting_an_absent_id_answers_not_held`, `deleting_an_ended_lease_answers_not_held` |
/// | delete 2 | `a_second_delete_answers_already`, `a_stranger_is_never_answered_already` |
/// | delete 3 | `a_release_leaves_nothing_in_the_future`, `a_release_in_the_future_leaves_no_rest`, `a_fast_job_leaves_its_id_resting`, `a_rested_id_is_granted`, `a_slow_job_leaves_no_rest`, `a_rest_counts_from_the_acquisition`, `a_rest_may_be_longer_than_the_lease`, `a_resting_id_has_no_owner` |
/// | delete 4 | `force_releases_any_holder`, `force_ends_a_rest`, `forcing_a_free_id_releases_nothing`, `the_forced_out_holder_has_lost`, `a_forced_delete_spares_the_successor` |
/// | delete 5 | `a_released_lock_tells_who_ran_and_how_long` |
/// | renew 1 | `a_renewal_counts_from_now`, `a_renewal_may_be_forever`, `a_renewed_lease_is_not_taken_over`, `a_stranger_cannot_renew`, `an_ended_lease_cannot_be_renewed`, `a_released_lease_cannot_be_renewed`, `an_absent_id_cannot_be_renewed`, `a_stale_holder_cannot_renew_its_successor` |
/// | renew 2 | `a_renewal_never_shortens`, `a_lease_without_an_end_keeps_none` |
/// | renew 3 | `a_renewal_keeps_the_fence` |
/// | purge 1 | `a_purge_spares_the_living`, `a_purge_spares_the_resting`, `a_purge_spares_what_never_expires`, `a_purge_spares_what_is_acquired_meanwhile`, `a_long_purge_spares_what_is_acquired_meanwhile` |
/// | purge 2 | `a_purge_spares_the_recent`, `a_purge_spares_the_recently_released`, `a_purge_spares_the_recently_ended`, `a_purge_removes_what_is_over`, `a_purge_counts_what_it_removed`, `a_purge_goes_by_the_age`, `a_thousand_rows_are_listed_and_purged` |
/// | purge 3 | `fence_rises_across_purge`, `a_purge_spares_a_fence_from_the_future` |
/// | find 1 | `finding_an_absent_id_is_none`, `a_held_lock_is_found_with_its_holder`, `an_ended_lease_reads_as_expired`, `a_released_lock_tells_who_ran_and_how_long`, `reading_changes_nothing`, `find_never_shows_what_never_was` |
/// | list 1 | `a_list_shows_what_is_taken`, `an_ended_lease_is_not_listed_as_taken`, `a_list_of_all_shows_the_free_too`, `a_list_is_in_the_order_of_the_ids`, `list_never_shows_what_never_was`, `a_thousand_rows_are_listed_and_purged` |
/// | many 1 | `many_inserts_answer_in_their_order`, `many_deletes_answer_in_their_order`, `many_renewals_answer_in_their_order`, `many_of_nothing_is_nothing`, `many_may_be_hundreds`, `many_requests_leave_each_id_as_if_alone` |
/// | many 2 | `a_locked_row_leaves_its_batch_alone` |
/// | wait 1 | `waiting_for_a_release_ends_in_time`, `waiting_for_a_release_takes_its_time`, `waiting_for_a_release_leaves_its_thread_free` |
#[async_trait]
pub trait LockStore: Debug + Send + Sync + 'static {
    /// Grants the lock if its id is free; otherwise returns the current holder.
    ///
    /// - **insert 1** A free id MUST be granted: absent, released, or expired.
    /// - **insert 2** A taken id MUST be refused to every other owner, and the refusal MUST change nothing.
    /// - **insert 3** The refusal MUST contain the holder's complete text and the remaining time.
    /// - **insert 4** The lease MUST end `ttl` after it was granted, or never with [`Ttl::NEVER`](Ttl::NEVER). It does not
    ///   end with the process or the connection that requested it.
    /// - **insert 5** If the owner in the row repeats the request, it MUST get its own lease back: the same fencing token
    ///   and acquisition time, and an end that is no earlier than before and no earlier than `ttl` from now. So a request
    ///   whose reply was lost can be repeated. This also applies if the lease has ended meanwhile, as long as no one else
    ///   was granted the lock.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError>;

    /// Releases the lock if the acquisition that the request names still holds it.
    ///
    /// - **delete 1** It MUST return [`Deleted::Released`] only to the owner of an unexpired lease, and only once. To
    ///   another owner, or one whose lease has ended, it MUST return [`Deleted::NotHeld`], and change nothing.
    /// - **delete 2** To the owner token that was released last, it MUST return [`Deleted::Already`], and change nothing.
    ///   No other token gets that answer.
    /// - **delete 3** The id MUST be free at once, with no time in the future (`expires_at` is zero). With `hold_at_least`,
    ///   it MUST rest without an owner until that long after the acquisition.
    /// - **delete 4** [`DeleteBy::Fence`](DeleteBy::Fence) MUST end the acquisition with that fencing token, or its rest,
    ///   regardless of its holder. It MUST NOT change any other acquisition: a repeated request returns
    ///   [`Deleted::Already`] or [`Deleted::NotHeld`].
    /// - **delete 5** Until it is purged, the row MUST stay, and record who held the lock last, and for how long.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError>;

    /// Extends the owner's lease to at least `ttl` from now: `expires_at` becomes the later of what it was and now + `ttl`.
    ///
    /// - **renew 1** It MUST return [`Renewed::Renewed`] only to the owner of an unexpired lease. A lease that has ended
    ///   MUST stay ended, even if no one has taken it over.
    /// - **renew 2** A renewal MUST NOT shorten a lease. So renewals commute: late, repeated or abandoned ones are
    ///   harmless, in any order.
    /// - **renew 3** The fencing token and the acquisition time MUST NOT change.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors). An error does not mean that the lease is lost.
    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError>;

    /// Removes the rows that became free at least `older_than` ago, and returns their number. A row became free when its
    /// lease or its rest ended or when it was released, whichever is later.
    ///
    /// - **purge 1** It MUST NOT remove rows that are taken: held, resting, or never expiring.
    /// - **purge 2** It MUST NOT remove rows that became free later, and MUST remove and count the others. If the store
    ///   repeats a request whose reply was lost, rows that an earlier attempt has removed MAY be missing in the count.
    /// - **purge 3** It MUST NOT remove a row whose removal could let a fencing token decrease: a row whose fencing token
    ///   is at most `older_than` behind the store's clock. So fencing tokens rise across a purge, unless the clock is set
    ///   back by more than that afterwards, or an insert takes effect that began that long before the purge.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError>;

    /// Returns the row of an id, or `None` if it has none.
    ///
    /// - **find 1** It MUST return the row as it is, or, if others write it meanwhile, as it was at one moment. An ended
    ///   lease does not read as held, and a released lock shows its last holder. It MUST NOT change anything.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError>;

    /// Returns the rows that the filter selects.
    ///
    /// - **list 1** It MUST return exactly these rows, ordered by the bytes of their ids, each as it is or was at one
    ///   moment.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError>;

    /// Requests many locks at once, each as if by a separate call.
    ///
    /// Each id occurs at most once. The `*_many` methods are called only if the store's [`limits`](Self::limits) allow
    /// batches.
    ///
    /// - **many 1** There MUST be one answer for each request, in the order of the requests.
    /// - **many 2** Each answer MUST be independent: a request that fails does not affect the others. If a whole call
    ///   fails, for example because a connection broke, each request gets that error ([`StoreError::for_all`]).
    async fn insert_many(&self, requests: &[InsertRequest]) -> Vec<Result<Inserted, StoreError>> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.insert_if_absent(request).await);
        }
        answers
    }

    /// Releases many locks at once; see [`insert_many`](Self::insert_many).
    async fn delete_many(&self, requests: &[DeleteRequest]) -> Vec<Result<Deleted, StoreError>> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.delete(request).await);
        }
        answers
    }

    /// Renews many leases at once; see [`insert_many`](Self::insert_many).
    async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.renew(request).await);
        }
        answers
    }

    /// Returns after `at_most`, or earlier when the store learns that the id may have become free.
    ///
    /// Returning is only a hint: the caller then sends its request again. The default sleeps on tokio's timer.
    ///
    /// - **wait 1** It MUST return when `at_most` is over, give or take a round trip, and MUST NOT block its thread. While
    ///   nothing changes, it MUST NOT return early repeatedly, because its caller sends a request each time.
    ///
    /// # Errors
    /// If the store cannot wait. A store without notifications sleeps instead.
    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        let _ = id;
        tokio::time::sleep(at_most).await;
        Ok(())
    }

    /// How many requests the store accepts at once. The default is 64 concurrent calls, and no batches.
    fn limits(&self) -> Limits {
        Limits::new()
    }

    /// Returns a second handle to the same database, for the thread that renews leases. The handle has its own connections,
    /// which are opened in the runtime that uses them. So neither an exhausted pool nor a blocked runtime delays a renewal.
    ///
    /// The default returns `None`: the thread then uses this handle. This is correct for stores whose connections are not
    /// tied to a runtime.
    fn for_background(&self) -> Option<Arc<dyn LockStore>> {
        None
    }
}
