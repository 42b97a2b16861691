use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    DeleteRequest, Deleted, InsertRequest, Inserted, ListFilter, LockId, LockRow, PendingDelete, RenewRequest, Renewed,
    StoreError,
};

/// Keeps locks in a database: the contract that everything else here stands on.
///
/// This is the implementors' side; users hold a [`DbMutex`](crate::DbMutex). Six methods are required and are enough for
/// a correct store; the others have a correct default that a store may do better.
///
/// # Contract
///
/// MUST and SHOULD are used as in [RFC 2119](https://www.rfc-editor.org/rfc/rfc2119). Behind each MUST stand the cases of
/// the conformance suite that show it. What cannot be shown from outside (the clock, lost replies) is written without
/// the word, and is for a store's own tests.
///
/// A lock id is **taken** while it has a row whose `expires_at` lies after the store's now: **held** if the row has an
/// owner, **resting** if it has none. Otherwise it is **free**, whether it has a row or not.
///
/// ## Atomicity
/// - Of all that ask for a free id at once, exactly one MUST be granted it, however many tasks, handles or processes
///   they are. \[`one_of_a_hundred_tasks_wins`, `two_handles_have_one_winner`, `one_of_many_takes_over_an_expired_lock`,
///   `a_counter_under_the_lock_loses_nothing`\]
/// - An answer MUST describe what is stored: a grant that is answered is a grant that others meet, on every handle of
///   the database. \[`a_grant_is_seen_through_another_handle`\]
///
/// ## Clock
/// - Only the store's clock decides whether a row has expired; the client's time is never used, unless store and client
///   are one machine.
/// - The clock is read once the statement has waited for whatever it waits for. A clock read before that may refuse a
///   lock that is free, but can never be allowed to grant one that is taken.
///
/// ## Ids
/// - Two ids are one lock exactly when their UTF-8 bytes are equal: never folded, trimmed, normalised or cut.
///   \[`ids_differ_by_case`, `ids_differ_by_trailing_space`, `ids_differ_by_leading_space`, `ids_differ_by_normal_form`,
///   `ids_differ_by_accent`, `numeric_ids_are_text`, `long_ids_differ_in_their_last_character`\]
/// - Every valid [`LockId`] MUST be kept whole. \[`the_longest_id_is_kept_whole`, `ids_with_sql_in_them_are_only_ids`\]
///
/// ## Fencing
/// - The fencing token of each acquisition MUST be positive and greater than every earlier one of that id, across
///   release, expiry, force and purge, in the order in which the acquisitions happened. \[`fence_is_positive`,
///   `fence_rises_across_release`, `fence_rises_across_expiry`, `fence_rises_across_forced_release`,
///   `fence_rises_across_purge`, `fences_of_a_race_rise_in_the_order_of_the_grants`\]
/// - Lease, refusal, [`find`](Self::find) and [`list`](Self::list) MUST tell the same token.
///   \[`fence_is_the_same_everywhere`\]
///
/// ## Errors
/// - "Held" and "not held" are answers. A store that cannot find out answers an error, and an error is never answered as
///   "held" or "not held".
/// - After an error the request may have taken effect or not, but never in part.
/// - A store SHOULD repeat, with a bound, what failed for a passing reason and is idempotent.
/// - No error and no `Debug` of a store may show a password.
///
/// ## Cancellation safety
/// - A future that is dropped MUST leave the request either done or not done. A grant that nobody received is the
///   caller's to release: it has the owner token, minted before. \[`a_dropped_insert_is_the_owners_to_delete`\]
/// - A request that was dropped SHOULD NOT take effect later than a request sent after it on the same handle.
#[async_trait]
pub trait LockStore: Debug + Send + Sync + 'static {
    /// Grants the lock if its id is free, and tells who holds it if not.
    ///
    /// - A free id MUST be granted: absent, released, or expired.
    ///   \[`an_absent_id_is_granted`, `a_released_id_is_granted_again`, `an_expired_id_is_taken_over`\]
    /// - A taken id MUST be refused to every other owner, and the refusal MUST change nothing.
    ///   \[`a_held_id_is_refused`, `a_live_id_is_not_taken_over`, `a_refusal_changes_nothing`,
    ///   `a_resting_id_is_refused`, `ids_do_not_block_one_another`\]
    /// - The refusal MUST name the holder, by the whole text that it gave, and the time that is left.
    ///   \[`a_refusal_names_the_holder`, `a_holder_text_is_kept_whole`, `a_refusal_tells_the_remaining_time`\]
    /// - The lease MUST end `ttl` after it was granted, and not at all with [`Ttl::NEVER`](crate::Ttl::NEVER).
    ///   \[`a_lease_lasts_its_ttl`, `the_longest_ttl_is_kept`, `a_lease_that_never_expires_has_no_end`,
    ///   `a_takeover_shows_the_new_holder`\]
    /// - The owner whose token the row has, asking again, MUST get its own lease back: the same fencing token and
    ///   acquisition time, and `ttl` from now. So a request whose reply was lost can be repeated. That holds also when the
    ///   lease has ended meanwhile, as long as nobody else was granted it.
    ///   \[`the_same_owner_gets_its_own_lease_back`, `a_repeat_keeps_the_fence`, `a_repeat_counts_the_ttl_anew`,
    ///   `a_repeat_after_release_is_a_new_acquisition`\]
    ///
    /// # Errors
    /// When the store cannot tell; see [Errors](#errors).
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError>;

    /// Releases the lock if it is still the owner's, and answers whether it was.
    ///
    /// - Only the owner of a lease that lasts MUST be answered [`Deleted::Released`], and once; everybody else, and
    ///   everybody after the lease ended, [`Deleted::NotHeld`], which MUST change nothing. \[`the_owner_can_delete`,
    ///   `a_stranger_cannot_delete`, `a_stale_holder_cannot_delete_its_successor`, `a_second_delete_answers_not_held`,
    ///   `one_of_many_deletes_releases`, `deleting_an_absent_id_answers_not_held`, `deleting_an_ended_lease_answers_not_held`\]
    /// - The id MUST be free at once, or, with `hold_at_least`, rest without an owner until that long after the
    ///   acquisition. \[`a_fast_job_leaves_its_id_resting`, `a_rested_id_is_granted`, `a_slow_job_leaves_no_rest`,
    ///   `a_rest_counts_from_the_acquisition`, `a_resting_id_has_no_owner`\]
    /// - [`DeleteBy::Force`](crate::DeleteBy::Force) MUST end whatever keeps the id taken, a rest too, and MUST answer
    ///   [`Deleted::NotHeld`] for a free one. \[`force_releases_whoever_holds`, `force_ends_a_rest`,
    ///   `forcing_a_free_id_answers_not_held`, `the_forced_out_holder_has_lost`\]
    /// - The row MUST stay, and keep who held the lock last, and for how long, until it is purged.
    ///   \[`a_released_lock_tells_who_ran_and_how_long`\]
    ///
    /// # Errors
    /// When the store cannot tell; see [Errors](#errors).
    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError>;

    /// Lets the owner's lease last `ttl` from now on, longer or shorter than what was left.
    ///
    /// - Only the owner of a lease that lasts MUST be answered [`Renewed::Renewed`]; a lease that has ended MUST stay
    ///   ended, also when nobody has taken it. \[`a_renewal_counts_from_now`, `a_renewal_may_shorten`,
    ///   `a_renewal_may_be_for_ever`, `a_renewed_lease_is_not_taken_over`, `a_stranger_cannot_renew`,
    ///   `an_ended_lease_cannot_be_renewed`, `a_released_lease_cannot_be_renewed`, `an_absent_id_cannot_be_renewed`,
    ///   `a_stale_holder_cannot_renew_its_successor`\]
    /// - Fencing token and acquisition time MUST stay. \[`a_renewal_keeps_the_fence`\]
    ///
    /// # Errors
    /// When the store cannot tell; see [Errors](#errors). An error does not mean that the lease is lost.
    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError>;

    /// Removes the rows that became free at least `older_than` ago, and answers how many.
    ///
    /// - It MUST spare what is taken: held, resting, or never expiring. \[`a_purge_spares_the_living`,
    ///   `a_purge_spares_the_resting`, `a_purge_spares_what_never_expires`\]
    /// - It MUST spare what became free later, and MUST remove and count the rest. \[`a_purge_spares_the_recent`,
    ///   `a_purge_removes_what_is_over`, `a_purge_counts_what_it_removed`\]
    /// - It MUST spare a row whose removal could let a fencing token go backwards: one whose token is not behind the
    ///   store's clock. \[`fence_rises_across_purge`\]
    ///
    /// # Errors
    /// When the store cannot tell; see [Errors](#errors).
    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError>;

    /// Reads the row of an id; `None` when it has none.
    ///
    /// It MUST show a row as it is: an ended lease not as held, a released lock with its last holder.
    /// \[`finding_an_absent_id_is_none`, `a_held_lock_is_found_with_its_holder`, `an_ended_lease_reads_as_expired`,
    /// `a_released_lock_tells_who_ran_and_how_long`\]
    ///
    /// # Errors
    /// When the store cannot tell; see [Errors](#errors).
    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError>;

    /// Reads the rows that the filter chooses, in the order of their ids' bytes.
    ///
    /// \[`a_list_shows_what_is_taken`, `an_ended_lease_is_not_listed_as_taken`, `a_list_of_all_shows_the_free_too`,
    /// `a_list_is_in_the_order_of_the_ids`\]
    ///
    /// # Errors
    /// When the store cannot tell; see [Errors](#errors).
    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError>;

    /// Asks for many locks at once: the answers stand in the order of the requests, each as if it had been asked alone.
    ///
    /// The caller names different ids, none or many, and the answers MUST keep the order. After an error nothing is known
    /// about any of them; asking again with the same owners is safe. \[`many_inserts_answer_in_their_order`,
    /// `many_of_nothing_is_nothing`, `many_may_be_hundreds`\]
    ///
    /// # Errors
    /// As [`insert_if_absent`](Self::insert_if_absent).
    async fn insert_many(&self, requests: &[InsertRequest]) -> Result<Vec<Inserted>, StoreError> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.insert_if_absent(request).await?);
        }
        Ok(answers)
    }

    /// Gives many locks back at once, as [`insert_many`](Self::insert_many) asks for them.
    /// \[`many_deletes_answer_in_their_order`\]
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    async fn delete_many(&self, requests: &[DeleteRequest]) -> Result<Vec<Deleted>, StoreError> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.delete(request).await?);
        }
        Ok(answers)
    }

    /// Renews many leases at once, as [`insert_many`](Self::insert_many) asks for them.
    /// \[`many_renewals_answer_in_their_order`\]
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    async fn renew_many(&self, requests: &[RenewRequest]) -> Result<Vec<Renewed>, StoreError> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.push(self.renew(request).await?);
        }
        Ok(answers)
    }

    /// Returns after `at_most`, or earlier when the store learns that the id may have become free.
    ///
    /// It is a hint and promises nothing: the caller asks again. It MUST end when `at_most` is over, give or take a round
    /// trip. The default sleeps on tokio's timer. \[`waiting_for_a_release_ends_in_time`\]
    ///
    /// # Errors
    /// When the store finds out that it cannot wait; a store that merely cannot learn of releases sleeps instead.
    async fn wait_for_release(&self, id: &LockId, at_most: Duration) -> Result<(), StoreError> {
        let _ = id;
        tokio::time::sleep(at_most).await;
        Ok(())
    }

    /// Takes a delete over, to be done soon without anybody waiting for it; gives it back if the store cannot do that.
    ///
    /// It is called from `Drop`, so it never blocks, panics, or needs an async runtime. A store with a thread of its own
    /// hands the delete to it; the default gives it back, and the mutex then deletes from a task. Keep the
    /// [`PendingDelete`] until the delete is done: dropping it says so.
    ///
    /// # Errors
    /// The delete itself, untouched.
    fn delete_soon(&self, delete: PendingDelete) -> Result<(), PendingDelete> {
        Err(delete)
    }
}
