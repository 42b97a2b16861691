//! The contract between the mutex and a database: requests, answers, errors, and the rules that connect them.
//!
//! Architecture invariant: nothing in here depends on what is built on it, only on the values.

mod answer;
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

/// A table of locks in a database: the contract that everything else here is built on.
///
/// This is the implementors' side; users hold a [`DbMutex`](crate::DbMutex). Six methods are required and are enough for
/// a correct store. The others have a correct default, which a store can replace with a faster one.
///
/// The semantics are stated a second time, as code, in [`rules`](rules): pure functions that
/// [`MemoryStore`](MemoryStore) consists of.
///
/// # Contract
///
/// MUST and SHOULD are used as in [RFC 2119](https://www.rfc-editor.org/rfc/rfc2119). Each MUST has a label in bold, under
/// which the table at the [end](#conformance-cases) lists the cases of the conformance suite that show it. What cannot be
/// shown from outside (the clock, lost replies) is written without the word, and is for a store's own tests.
///
/// A lock id is **taken** while it has a row whose `expires_at` is later than the store's now: **held** if the row has an
/// owner, **resting** if it has none. Otherwise it is **free**, whether it has a row or not.
///
/// ## Atomicity
/// - **A1** Of all concurrent requests for a free id exactly one MUST be granted, however many tasks, handles or processes
///   send them.
/// - **A2** An answer MUST describe what is stored: a lease that was granted is seen through every handle of the database.
///
/// ## Clock
/// - Only the store's clock decides whether a row has expired; the client's time is never used, unless store and client
///   are one machine.
/// - The clock is read after the statement has started in the store, and SHOULD be read while the row is locked. A clock read
///   before that may refuse a lock that is free. It can grant one that is taken, or purge it, only if the clock is set back
///   while the statement is under way.
/// - **C1** A row records the longest TTL that its acquisition has asked for (a repeat or a renewal for less does not lower
///   it), or the length of its rest. Readers MUST NOT show more time left than that.
/// - **C2** A row that stays taken for longer than its TTL plus 10 s or a tenth of it, whichever is more, is **excessive**: the
///   clock was ahead when it was written. A refused insert MUST let it end `ttl` from now, by a second statement that locks
///   the row without waiting and reads the clock *while it holds the row*. With the clock of the statement's start, or the last
///   TTL instead of the longest, a lease that was renewed meanwhile would be cut short. Nothing else ever lowers
///   `expires_at` of a row that has an owner.
///
/// ## Owner tokens
/// - **O1** An owner token goes one way: inserts, then renewals, then deletes. After its release, an insert by the same token
///   MUST be answered with [`Inserted::Spent`], whoever holds the lock by then, so that a duplicate which arrives late grants
///   nothing. A row records the token that was released last; callers send nothing for a token after its first delete, and
///   mint a new one instead.
///
/// ## Ids
/// - **I1** Two ids are one lock exactly when their UTF-8 bytes are equal: a store MUST NOT fold, trim, normalise or cut them.
/// - **I2** Every valid [`LockId`] MUST be stored whole.
///
/// ## Fencing
/// - **F1** The fencing token of each acquisition MUST be positive and greater than every earlier one of that id, across
///   release, expiry, force and purge, in the order in which the acquisitions happened.
/// - **F2** Lease, refusal, [`find`](Self::find) and [`list`](Self::list) MUST report the same token.
///
/// ## Errors
/// - "Held" and "not held" are answers. A store that cannot determine the outcome returns an error, and an error is never
///   reported as "held" or "not held".
/// - **E1** No insert, renew or delete ever waits for a row. If another transaction has the row locked, or has inserted it and
///   not committed yet, the request MUST fail at once with [`StoreErrorKind::Busy`](StoreErrorKind::Busy), and have
///   changed nothing. The caller repeats it a little later; the store does not. ([`find`](Self::find) and
///   [`list`](Self::list) read without locks.)
/// - After an error the request may have taken effect or not, but never in part.
/// - A store SHOULD repeat, with a bound, what failed because a connection broke and is idempotent. It answers only when none
///   of its earlier attempts at the request can take effect any more, and otherwise returns an error of
///   [unknown](StoreError::unknown) outcome: the mutex takes an answer for the end of a request. (An insert that takes effect
///   after its delete, and after others have had the lock, would be granted again.)
/// - No error and no `Debug` of a store may show a password.
///
/// ## Cancellation safety
/// - A mutex lets each request run to its end, whoever waits for it: futures of a store are dropped only when the runtime that
///   they run in ends.
/// - **X1** A future that is dropped MUST leave the request either done or not done, and if it is done its owner can delete
///   it.
///
/// # Conformance cases
///
/// | rule | cases |
/// |---|---|
/// | A1 | `one_of_a_hundred_tasks_wins`, `two_handles_have_one_winner`, `one_of_many_takes_over_an_expired_lock`, `a_counter_under_the_lock_loses_nothing` |
/// | A2 | `a_grant_is_seen_through_another_handle` |
/// | C1 | `a_row_records_its_longest_ttl`, `a_shorter_renewal_keeps_the_longest_ttl`, `a_rest_records_its_length`, `a_row_from_the_future_shows_no_more_than_its_ttl` |
/// | C2 | `a_row_from_the_future_ends_within_its_ttl`, `a_row_from_the_future_keeps_what_its_owner_was_told`, `a_locked_row_from_the_future_is_refused`, `a_small_correction_of_the_clock_is_left_alone`, `a_lease_without_an_end_is_never_excessive` |
/// | O1 | `an_insert_after_the_release_is_spent`, `a_spent_token_is_refused_under_a_successor`, `a_spent_token_is_refused_when_the_successor_is_gone`, `a_forced_out_token_is_spent` |
/// | I1 | `ids_differ_by_case`, `ids_differ_by_trailing_space`, `ids_differ_by_leading_space`, `ids_differ_by_normal_form`, `ids_differ_by_accent`, `numeric_ids_are_text`, `long_ids_differ_in_their_last_character` |
/// | I2 | `the_longest_id_is_kept_whole`, `ids_with_sql_in_them_are_only_ids` |
/// | F1 | `fence_is_positive`, `fence_rises_across_release`, `fence_rises_across_expiry`, `fence_rises_across_forced_release`, `fence_rises_across_purge`, `fences_of_a_race_rise_in_the_order_of_the_grants` |
/// | F2 | `fence_is_the_same_everywhere` |
/// | E1 | `a_locked_row_is_busy_at_once`, `a_locked_row_leaves_its_batch_alone` |
/// | X1 | `a_dropped_insert_is_the_owners_to_delete` |
/// | insert 1 | `an_absent_id_is_granted`, `a_released_id_is_granted_again`, `an_expired_id_is_taken_over` |
/// | insert 2 | `a_held_id_is_refused`, `a_live_id_is_not_taken_over`, `a_refusal_changes_nothing`, `a_resting_id_is_refused`, `ids_do_not_block_one_another` |
/// | insert 3 | `a_refusal_names_the_holder`, `a_holder_text_is_kept_whole`, `a_refusal_tells_the_remaining_time` |
/// | insert 4 | `a_lease_lasts_its_ttl`, `the_longest_ttl_is_kept`, `a_lease_that_never_expires_has_no_end`, `a_takeover_shows_the_new_holder` |
/// | insert 5 | `the_same_owner_gets_its_own_lease_back`, `a_repeat_keeps_the_fence`, `a_repeat_counts_the_ttl_anew`, `a_repeat_never_shortens` |
/// | delete 1 | `the_owner_can_delete`, `a_stranger_cannot_delete`, `a_stale_holder_cannot_delete_its_successor`, `one_of_many_deletes_releases`, `deleting_an_absent_id_answers_not_held`, `deleting_an_ended_lease_answers_not_held` |
/// | delete 2 | `a_second_delete_answers_already`, `a_stranger_is_never_answered_already` |
/// | delete 3 | `a_release_leaves_nothing_in_the_future`, `a_release_in_the_future_leaves_no_rest`, `a_fast_job_leaves_its_id_resting`, `a_rested_id_is_granted`, `a_slow_job_leaves_no_rest`, `a_rest_counts_from_the_acquisition`, `a_resting_id_has_no_owner` |
/// | delete 4 | `force_releases_whoever_holds`, `force_ends_a_rest`, `forcing_a_free_id_releases_nothing`, `the_forced_out_holder_has_lost`, `a_forced_delete_spares_the_successor` |
/// | delete 5 | `a_released_lock_tells_who_ran_and_how_long` |
/// | renew 1 | `a_renewal_counts_from_now`, `a_renewal_may_be_for_ever`, `a_renewed_lease_is_not_taken_over`, `a_stranger_cannot_renew`, `an_ended_lease_cannot_be_renewed`, `a_released_lease_cannot_be_renewed`, `an_absent_id_cannot_be_renewed`, `a_stale_holder_cannot_renew_its_successor` |
/// | renew 2 | `a_renewal_never_shortens`, `a_lease_without_an_end_keeps_none` |
/// | renew 3 | `a_renewal_keeps_the_fence` |
/// | purge 1 | `a_purge_spares_the_living`, `a_purge_spares_the_resting`, `a_purge_spares_what_never_expires` |
/// | purge 2 | `a_purge_spares_the_recent`, `a_purge_spares_the_recently_released`, `a_purge_removes_what_is_over`, `a_purge_counts_what_it_removed` |
/// | purge 3 | `fence_rises_across_purge` |
/// | find 1 | `finding_an_absent_id_is_none`, `a_held_lock_is_found_with_its_holder`, `an_ended_lease_reads_as_expired`, `a_released_lock_tells_who_ran_and_how_long`, `reading_changes_nothing` |
/// | list 1 | `a_list_shows_what_is_taken`, `an_ended_lease_is_not_listed_as_taken`, `a_list_of_all_shows_the_free_too`, `a_list_is_in_the_order_of_the_ids` |
/// | many 1 | `many_inserts_answer_in_their_order`, `many_deletes_answer_in_their_order`, `many_renewals_answer_in_their_order`, `many_of_nothing_is_nothing`, `many_may_be_hundreds` |
/// | many 2 | `a_locked_row_leaves_its_batch_alone` |
/// | wait 1 | `waiting_for_a_release_ends_in_time` |
#[async_trait]
pub trait LockStore: Debug + Send + Sync + 'static {
    /// Grants the lock if its id is free, and returns the current holder if not.
    ///
    /// - **insert 1** A free id MUST be granted: absent, released, or expired.
    /// - **insert 2** A taken id MUST be refused to every other owner, and the refusal MUST change nothing.
    /// - **insert 3** The refusal MUST name the holder, by the whole text that it gave, and the time that is left.
    /// - **insert 4** The lease MUST end `ttl` after it was granted, and not at all with [`Ttl::NEVER`](Ttl::NEVER).
    /// - **insert 5** The owner that the row names, asking again, MUST get its own lease back: the same fencing token and
    ///   acquisition time, and an end no earlier than before and than `ttl` from now. So a request whose reply was lost can
    ///   be repeated. That holds also when the lease has ended meanwhile, as long as no one else was granted the lock.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError>;

    /// Releases the lock if the acquisition that the request names still holds it.
    ///
    /// - **delete 1** Only the owner of a lease that lasts MUST be answered [`Deleted::Released`], and once. Another owner, or
    ///   one whose lease has ended, MUST be answered [`Deleted::NotHeld`], which changes nothing.
    /// - **delete 2** The owner token that was released last MUST be answered [`Deleted::Already`], which changes nothing; no
    ///   other token is.
    /// - **delete 3** The id MUST be free at once, with nothing left in the future (`expires_at` is zero), or, with
    ///   `hold_at_least`, rest without an owner until that long after the acquisition.
    /// - **delete 4** [`DeleteBy::Fence`](DeleteBy::Fence) MUST end the acquisition with that fencing token whoever
    ///   holds it, and its rest too, and MUST leave every other acquisition alone: repeated, it is answered
    ///   [`Deleted::Already`] or [`Deleted::NotHeld`].
    /// - **delete 5** The row MUST stay, and record who held the lock last, and for how long, until it is purged.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError>;

    /// Lets the owner's lease last at least `ttl` from now on: `expires_at` becomes the later of what it was and now + `ttl`.
    ///
    /// - **renew 1** Only the owner of a lease that lasts MUST be answered [`Renewed::Renewed`]; a lease that has ended MUST
    ///   stay ended, also when no one has taken it over.
    /// - **renew 2** A renewal MUST NOT shorten a lease. Renewals therefore commute: late, repeated or abandoned, in whatever
    ///   order they arrive, they do no harm.
    /// - **renew 3** Fencing token and acquisition time MUST stay.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors). An error does not mean that the lease is lost.
    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError>;

    /// Removes the rows that became free at least `older_than` ago, and returns how many. A row became free when its lease or
    /// its rest ended or when it was released, whichever is later.
    ///
    /// - **purge 1** It MUST spare what is taken: held, resting, or never expiring.
    /// - **purge 2** It MUST spare what became free later, and MUST remove and count the rest.
    /// - **purge 3** It MUST spare a row whose removal could let a fencing token go backwards: one whose token is not more than
    ///   `older_than` behind the store's clock. So tokens rise across a purge unless the clock is set back by more than that
    ///   afterwards, or an insert that began so long before it takes effect.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError>;

    /// Reads the row of an id; `None` when it has none.
    ///
    /// - **find 1** It MUST show a row as it is, an ended lease not as held and a released lock with its last holder, and MUST
    ///   change nothing.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError>;

    /// Reads the rows that the filter selects.
    ///
    /// - **list 1** It MUST return exactly these, in the order of their ids' bytes.
    ///
    /// # Errors
    /// If the store cannot determine the outcome; see [Errors](#errors).
    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError>;

    /// Requests many locks at once, each as if it had been requested alone.
    ///
    /// The caller names each id at most once. The `*_many` methods are called only by a store's leave: see
    /// [`limits`](Self::limits).
    ///
    /// - **many 1** There MUST be one answer for each request, in the order of the requests.
    /// - **many 2** Every answer MUST stand alone: a request that fails leaves the others as they are. If a whole call fails,
    ///   for example because a connection broke, each request has that error ([`StoreError::for_all`]).
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
    /// It is a hint and promises nothing: the caller asks again. The default sleeps on tokio's timer.
    ///
    /// - **wait 1** It MUST end when `at_most` is over, give or take a round trip.
    ///
    /// # Errors
    /// If the store finds out that it cannot wait; a store that merely cannot learn of releases sleeps instead.
    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        let _ = id;
        tokio::time::sleep(at_most).await;
        Ok(())
    }

    /// How many requests the store takes at once. The default is 64 single calls at a time, and none for many.
    fn limits(&self) -> Limits {
        Limits::new()
    }

    /// A second handle on the same database, for the thread that renews leases: with connections of its own, which are opened
    /// in the runtime that uses them. So neither a pool that others have emptied nor a runtime that is blocked delays a
    /// renewal.
    ///
    /// The default returns `None`, which is right for a store that needs no connections tied to a runtime: the thread then
    /// uses this handle.
    fn for_background(&self) -> Option<Arc<dyn LockStore>> {
        None
    }
}
