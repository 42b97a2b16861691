use std::time::Duration;

use db_mutex_core::store::{
    DeleteRequest, Fence, HolderName, InsertRequest, Inserted, Lease, ListFilter, LockRow, LockState, LockStore,
    OwnerToken, RenewRequest, StoreError, StoreTime, Ttl,
};

use crate::fault::Fault;
use crate::saboteur::Saboteur;

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) async fn insert(store: &Saboteur, request: &InsertRequest) -> Result<Inserted, StoreError> {
    let row = store.row(&request.lock_id).await?;
    let state = row.as_ref().map(|row| row.state());
    let repeated = state == Some(LockState::Held) && store.last_owner(&request.lock_id) == Some(request.owner);
    let mut request = request.clone();

    match (store.fault, row) {
        (Fault::ExpiredCountsAsHeld, Some(row)) if state == Some(LockState::Expired) => {
            return Ok(Inserted::Held(row.to_holder()));
        }
        (Fault::AbsentIsRefused, None) => {
            let invented = LockRow::new(
                request.lock_id,
                request.holder,
                Lease::new(Fence::new(1), StoreTime::ZERO, StoreTime::NEVER),
            );
            return Ok(Inserted::Held(invented.to_holder()));
        }
        (Fault::RestedCountsAsResting, Some(row)) if row.released_at.is_some_and(|at| at < row.expires_at) => {
            return Ok(Inserted::Held(row.to_holder()));
        }
        (Fault::LiveCountsAsExpired, Some(_)) if !repeated => {
            store.end(&request.lock_id);
        }
        (Fault::TwoWinnersInARace, row) if row.as_ref().is_none_or(|row| !row.is_taken()) => {
            // Checked; and granted only after others have checked too.
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.end(&request.lock_id);
        }
        (Fault::TwoWinnersOfOneLength, Some(row))
            if state == Some(LockState::Expired) && row.ttl == request.ttl.duration() =>
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.end(&request.lock_id);
        }
        (Fault::OneLockForAllIds, _) => {
            let all = store.inner.list(&ListFilter::taken()).await?;
            if let Some(other) = all.into_iter().find(|row| row.lock_id != request.lock_id) {
                return Ok(Inserted::Held(other.to_holder()));
            }
        }
        (Fault::NeverIsAnHour, _) if request.ttl == Ttl::NEVER => request.ttl = ttl(HOUR),
        (Fault::LeaseIsHalfTheTtl, _) => {
            request.ttl = request.ttl.duration().map_or(Ttl::NEVER, |whole| ttl((whole / 2).max(Ttl::MIN)));
        }
        (Fault::HolderNameIsCut, _) => {
            let cut: String = request.holder.as_str().chars().take(100).collect();
            request.holder = HolderName::new(cut).expect("a part of a valid text is valid");
        }
        (Fault::RepeatIsRefused, Some(row)) if repeated => return Ok(Inserted::Held(row.to_holder())),
        (Fault::RepeatRaisesTheFence, Some(_)) if repeated => {
            store.end(&request.lock_id);
        }
        (Fault::RepeatDoesNotProlong, Some(row)) if repeated => {
            return Ok(Inserted::Granted(Lease::new(row.fence, row.acquired_at, row.expires_at)));
        }
        (Fault::RepeatAfterTheEndIsNew, Some(_)) if state == Some(LockState::Expired) => store.end(&request.lock_id),
        (Fault::HalfAWriteIsNothing, Some(_)) => {
            store.is_writing(true);
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.is_writing(false);
        }
        (Fault::DroppedInsertIsHalfDone, _) => {
            // First the row, and only then whose it is.
            let stranger = OwnerToken::mint().expect("the operating system gives random numbers");
            let half = InsertRequest::new(request.lock_id.clone(), stranger, request.ttl, request.holder.clone());
            if let Inserted::Granted(_) = store.inner.insert_if_absent(&half).await? {
                tokio::time::sleep(Duration::from_millis(5)).await;
                store.inner.delete(&DeleteRequest::by_owner(request.lock_id.clone(), stranger)).await?;
            }
        }
        (Fault::FenceRestartsAfterExpiry, Some(row)) if state == Some(LockState::Expired) => {
            store.restart_fence_if(store.fault, &request.lock_id, row.fence);
        }
        _ => {}
    }

    before_insert(store, &request);
    if let Some(row) = excess_of(store, &request).await? {
        return Ok(Inserted::Held(row.to_holder()));
    }
    let before = store.row(&request.lock_id).await?;
    let answer = store.inner.insert_if_absent(&request).await;
    let answer = after_insert(store, &request, before.filter(|_| repeated), store.after_waiting(answer).await?);
    let Inserted::Held(mut holder) = answer else { return Ok(answer) };
    match store.fault {
        Fault::RefusalHidesTheHolder => holder.name = HolderName::new("").expect("no text is a valid text"),
        Fault::RefusalHidesTheRemainingTime => holder.expires_in = None,
        Fault::RefusalProlongsTheLease => {
            if let Some(owner) = store.last_owner(&request.lock_id) {
                store.inner.renew(&RenewRequest::new(request.lock_id, owner, request.ttl)).await?;
            }
        }
        _ => {}
    }
    Ok(Inserted::Held(holder))
}

/// The faults that lie in what a row still says of its last owner.
fn before_insert(store: &Saboteur, request: &InsertRequest) {
    store.inner.change_row(&request.lock_id, |row| match store.fault {
        Fault::SpentIsGranted if row.owner.is_none() => row.released_by = None,
        Fault::SpentIsHeldUnderASuccessor if row.owner.is_some() => row.released_by = None,
        Fault::NeverIsExcessive if row.owner != Some(request.owner) && row.expires_at == StoreTime::NEVER => {
            row.expires_at = row.acquired_at + Duration::from_secs(60);
        }
        _ => {}
    });
}

/// The faults that lie in the treatment of a row from the future: the row to refuse the request with.
async fn excess_of(store: &Saboteur, request: &InsertRequest) -> Result<Option<LockRow>, StoreError> {
    let stranger = store.last_owner(&request.lock_id) != Some(request.owner);
    let row = store.row(&request.lock_id).await?.filter(|row| stranger && row.owned && row.is_taken());
    let Some(row) = row else { return Ok(None) };
    let end = row.now + row.ttl;
    match store.fault {
        Fault::ExcessIsIgnored if row.is_excessive() => Ok(Some(row)),
        Fault::ExcessEndsByTheOldClock if row.is_excessive() => {
            tokio::time::sleep(Duration::from_millis(5)).await;
            store.inner.change_row(&request.lock_id, |row| row.expires_at = end);
            Ok(Some(row))
        }
        Fault::LockedExcessIsBusy if row.is_excessive() => {
            // Only a row that is not locked can be renewed.
            let owner = store.last_owner(&request.lock_id).expect("a row that is taken was granted");
            let unlocked = RenewRequest::new(request.lock_id.clone(), owner, ttl(Ttl::MIN));
            store.inner.renew(&unlocked).await.map(|_| None)
        }
        Fault::ExcessHasNoTolerance if row.expires_at > end => {
            store.inner.change_row(&request.lock_id, |row| row.expires_at = end);
            Ok(Some(row))
        }
        _ => Ok(None),
    }
}

/// The faults that lie in what an insert leaves in the row; `repeated` is the row before, if it was the owner's already.
fn after_insert(store: &Saboteur, request: &InsertRequest, repeated: Option<LockRow>, answer: Inserted) -> Inserted {
    let Inserted::Granted(mut lease) = answer else { return answer };
    store.inner.change_row(&request.lock_id, |row| match (store.fault, &repeated) {
        (Fault::SpentIsForgottenByTheSuccessor, _) => row.released_by = None,
        (Fault::RepeatShortens, Some(before)) => {
            row.expires_at = before.now + request.ttl.duration();
            lease.expires_at = row.expires_at;
        }
        // Of the same owner's again, it stays; of a new one, only the clock counts.
        (Fault::FenceIsTheClock, None) => {
            row.fence = Fence::new(row.acquired_at.as_micros());
            lease.fence = row.fence;
        }
        (Fault::TtlIsTheLastOne, Some(_)) => row.ttl = request.ttl.duration(),
        (Fault::TtlIsTheFirstOne, Some(before)) => row.ttl = before.ttl,
        _ => {}
    });
    Inserted::Granted(lease)
}

fn ttl(duration: Duration) -> Ttl {
    Ttl::new(duration).expect("the saboteurs use valid TTLs")
}
