//! The kit for compare and swap where its database is slow, loses replies, or is changed by others in between. What it does
//! otherwise is shown by the conformance suite and by the model.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(unreachable_pub, reason = "the conformance suite and the model use it too")]
mod memory;

use std::time::Duration;

use db_mutex_core::store::cas::{CasStore, Stored};
use db_mutex_core::store::rules::Row;
use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, Lease, ListFilter, LockStore, RenewRequest, Renewed, StoreTime,
};
use db_mutex_core::testing::ManualClock;
use db_mutex_core::{Fence, HolderName, LockId, OwnerToken, StoreErrorKind, Ttl};

use memory::{Fault, MemoryCas, Versions};

struct World {
    clock: ManualClock,
    cas: MemoryCas,
    store: CasStore<MemoryCas>,
    id: LockId,
}

/// Everything for both kinds of versions.
fn worlds() -> [World; 2] {
    [Versions::Counted, Versions::Content].map(|versions| {
        let clock = ManualClock::new();
        let cas = MemoryCas { clock: Some(clock.clone()), versions, ..MemoryCas::default() };
        World { store: CasStore::new(cas.clone()), clock, cas, id: LockId::new("job").unwrap() }
    })
}

fn owner(number: u8) -> OwnerToken {
    OwnerToken::from_bytes([number; 16])
}

fn seconds(seconds: u64) -> Ttl {
    Ttl::new(Duration::from_secs(seconds)).unwrap()
}

impl World {
    fn request(&self, number: u8, ttl: Ttl) -> InsertRequest {
        InsertRequest::new(self.id.clone(), owner(number), ttl, HolderName::new(format!("worker {number}")).unwrap())
    }

    async fn grant(&self, number: u8) -> Lease {
        match self.store.insert_if_absent(&self.request(number, seconds(60))).await.unwrap() {
            Inserted::Granted(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    async fn release(&self, number: u8) -> Deleted {
        self.store.delete(&DeleteRequest::by_owner(self.id.clone(), owner(number))).await.unwrap()
    }

    async fn renew(&self, number: u8, ttl: Ttl) -> Renewed {
        self.store.renew(&RenewRequest::new(self.id.clone(), owner(number), ttl)).await.unwrap()
    }
}

const EVERY_FAULT: [Fault; 3] = [Fault::ReplyLost, Fault::Lost, Fault::Late];

#[tokio::test]
async fn a_lost_reply_is_found_out_about() {
    for fault in EVERY_FAULT {
        for world in worlds() {
            world.cas.suffer([fault]);
            let lease = world.grant(1).await;
            assert_eq!(world.store.find(&world.id).await.unwrap().unwrap().lease(), lease, "{fault:?}");

            world.clock.advance(Duration::from_secs(1));
            world.cas.suffer([fault, fault]);
            let Renewed::Renewed(renewed) = world.renew(1, seconds(600)).await else { panic!("{fault:?}") };
            assert_eq!(world.store.find(&world.id).await.unwrap().unwrap().lease(), renewed, "{fault:?}");

            world.cas.suffer([fault, Fault::Lost, fault]);
            assert_eq!(world.release(1).await, Deleted::Released, "{fault:?}");
            assert_eq!(world.release(1).await, Deleted::Already, "{fault:?}");

            world.cas.suffer([fault]);
            assert!(world.grant(2).await.fence > lease.fence, "{fault:?}");
        }
    }
}

/// Another released it by force after the reply was lost: then it was not this delete that released it.
#[tokio::test]
async fn a_swap_of_another_is_not_taken_for_ones_own() {
    for world in worlds() {
        let lease = world.grant(1).await;
        world.cas.suffer([Fault::Lost]);
        let operator = CasStore::new(world.cas.clone());
        let by_force = DeleteRequest::by_fence(world.id.clone(), lease.fence);
        // The operator is faster than the repetition.
        let by_owner = DeleteRequest::by_owner(world.id.clone(), owner(1));
        let (released, forced) = tokio::join!(biased; world.store.delete(&by_owner), operator.delete(&by_force));
        let mut answers = [released.unwrap(), forced.unwrap()];
        answers.sort_by_key(|answer| *answer == Deleted::Already);
        assert_eq!(answers, [Deleted::Released, Deleted::Already]);
    }
}

/// The reply to a release is lost, and by the time it is asked again another has the lock, or had it: the owner has held it to
/// the end, and must not be told that it lost it.
#[tokio::test]
async fn a_release_whose_reply_was_lost_is_had_although_another_has_the_lock_by_then() {
    for traces_are_left in [true, false] {
        for world in worlds() {
            world.grant(1).await;
            world.cas.suffer([Fault::ReplyLost]);
            let by_owner = DeleteRequest::by_owner(world.id.clone(), owner(1));
            let slow = CasStore::new(MemoryCas { yields_before_loads: 20, ..world.cas.clone() });
            let others = async {
                while world.store.find(&world.id).await.unwrap().unwrap().owned {
                    tokio::task::yield_now().await;
                }
                world.grant(2).await;
                if !traces_are_left {
                    world.release(2).await;
                }
            };
            let (released, ()) = tokio::join!(slow.delete(&by_owner), others);
            if traces_are_left {
                assert_eq!(released.unwrap(), Deleted::Released);
                assert_eq!(world.release(1).await, Deleted::Already);
            } else {
                let error = released.unwrap_err();
                assert_eq!((error.kind(), error.is_undone()), (StoreErrorKind::Unavailable, false), "{error:?}");
                assert_eq!(world.release(1).await, Deleted::NotHeld);
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_found_out_is_an_unknown_outcome() {
    for world in worlds() {
        // All five attempts.
        world.cas.suffer([Fault::Lost; 5]);
        let error = world.store.insert_if_absent(&world.request(1, seconds(60))).await.unwrap_err();
        assert_eq!((error.kind(), error.is_undone()), (StoreErrorKind::Unavailable, false));
        world.grant(2).await;
        // The swap of the renewal may still arrive, but the lease has ended meanwhile, so it cannot be sent again.
        world.cas.suffer([Fault::Late]);
        let renewal = RenewRequest::new(world.id.clone(), owner(2), seconds(60));
        let passes = async { world.clock.advance(Duration::from_secs(61)) };
        let (renewed, ()) = tokio::join!(biased; world.store.renew(&renewal), passes);
        let error = renewed.unwrap_err();
        assert!(!error.is_undone(), "{error:?}");
    }
}

#[tokio::test]
async fn a_load_that_fails_is_repeated_within_a_bound() {
    for world in worlds() {
        world.cas.fail_loads(4);
        world.grant(1).await;
        world.cas.fail_loads(5);
        let error = world.store.find(&world.id).await.unwrap_err();
        assert_eq!((error.kind(), error.is_undone()), (StoreErrorKind::Unavailable, true), "{error:?}");
        // What a swap before them did is not known.
        world.cas.suffer([Fault::ReplyLost]);
        let fails = async { world.cas.fail_loads(5) };
        let by_owner = DeleteRequest::by_owner(world.id.clone(), owner(1));
        let (released, ()) = tokio::join!(biased; world.store.delete(&by_owner), fails);
        let error = released.unwrap_err();
        assert_eq!((error.kind(), error.is_undone()), (StoreErrorKind::Unavailable, false), "{error:?}");
        assert_eq!(world.release(1).await, Deleted::Already);
    }
}

#[tokio::test]
async fn lost_races_are_repeated_within_a_bound() {
    for world in worlds() {
        world.grant(1).await;
        world.cas.rivals(4);
        assert!(matches!(world.renew(1, seconds(60)).await, Renewed::Renewed(_)));

        world.cas.rivals(5);
        let before = world.cas.swaps();
        let renewal = RenewRequest::new(world.id.clone(), owner(1), seconds(600));
        let error = world.store.renew(&renewal).await.unwrap_err();
        assert_eq!((error.kind(), error.is_undone()), (StoreErrorKind::Busy, true), "{error}");
        assert_eq!(world.cas.swaps() - before, 5);
        assert_eq!(world.release(1).await, Deleted::Released);
    }
}

/// A purge that meets what was acquired in between spares it.
#[tokio::test]
async fn a_purge_spares_what_has_changed() {
    for world in worlds() {
        world.grant(1).await;
        world.release(1).await;
        world.clock.advance(Duration::from_secs(60));
        world.cas.rivals(1);
        assert_eq!(world.store.purge_expired(Duration::ZERO).await.unwrap(), 0);
        assert_eq!(world.store.purge_expired(Duration::ZERO).await.unwrap(), 1);
        assert!(world.store.find(&world.id).await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_hangs_is_given_up() {
    for world in worlds() {
        world.cas.suffer([Fault::Hangs]);
        let started = tokio::time::Instant::now();
        let error = world.store.insert_if_absent(&world.request(1, seconds(60))).await.unwrap_err();
        assert_eq!(started.elapsed(), world.store.limits().call);
        assert_eq!((error.kind(), error.is_undone()), (StoreErrorKind::Unavailable, false), "{error}");
        assert_eq!(error.to_string(), "the database did not respond within 10s");
        assert_eq!(world.cas.loads(), 1, "nothing is sent after the limit");
    }
}

/// The clock was ahead; meanwhile the owner renews, for no more than is left.
#[tokio::test]
async fn an_excess_is_not_ended_by_the_clock_before_a_renewal() {
    for world in worlds() {
        world.grant(1).await;
        world.cas.change_row(&world.id, |row| row.expires_at = row.expires_at + Duration::from_secs(3_600));
        world.cas.rivals(5);
        let refused = world.store.insert_if_absent(&world.request(2, seconds(60))).await.unwrap();
        assert!(matches!(refused, Inserted::Held(_)));
        let row = world.store.find(&world.id).await.unwrap().unwrap();
        assert!(row.is_excessive(), "the value has changed between each load and its swap: {row:?}");
        // The next one ends it.
        world.store.insert_if_absent(&world.request(2, seconds(60))).await.unwrap();
        let row = world.store.find(&world.id).await.unwrap().unwrap();
        assert_eq!(row.expires_at, row.now + Duration::from_secs(60));
    }
}

#[tokio::test]
async fn keys_that_are_mixed_up_are_an_error() {
    for world in worlds() {
        let row =
            Row::new(owner(1), Fence::new(1), HolderName::new("me").unwrap(), StoreTime::from_micros(1), seconds(60));
        let other = Stored::new(LockId::new("Job").unwrap(), row).to_bytes().unwrap();
        world.cas.put(&world.id, &other);
        let error = world.store.insert_if_absent(&world.request(1, seconds(60))).await.unwrap_err();
        let expected =
            "under the key of lock `job` is the value of lock `Job`: the key scheme mixes them up, and must not";
        assert_eq!(error.to_string(), expected);
        assert!(error.is_undone());
        assert!(world.store.find(&world.id).await.is_err());

        world.cas.put(&world.id, b"{}");
        let error = world.store.list(&ListFilter::all()).await.unwrap_err();
        assert_eq!(error.to_string(), "the value cannot be read: it has no field `db_mutex`");
    }
}
