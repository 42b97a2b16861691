use std::time::Duration;

use db_mutex_core::{
    DeleteRequest, Fence, HolderText, InsertRequest, Inserted, Lease, ListFilter, LockRow, LockState, LockStore,
    NEVER_US, OwnerToken, RenewRequest, StoreError, Ttl,
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
            let somebody = LockRow::new(request.lock_id, request.holder, Lease::new(Fence::new(1), 0, NEVER_US));
            return Ok(Inserted::Held(somebody.to_holder()));
        }
        (Fault::RestedCountsAsResting, Some(row)) if row.released_at_us.is_some_and(|at| at < row.expires_at_us) => {
            return Ok(Inserted::Held(row.to_holder()));
        }
        (Fault::LiveCountsAsExpired, Some(_)) if !repeated => {
            store.inner.delete(&DeleteRequest::by_force(request.lock_id.clone())).await?;
        }
        (Fault::TwoWinnersInARace, row) if row.as_ref().is_none_or(|row| !row.is_taken()) => {
            // Checked; and granted only after others have checked too.
            tokio::time::sleep(Duration::from_millis(1)).await;
            store.inner.delete(&DeleteRequest::by_force(request.lock_id.clone())).await?;
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
        (Fault::HolderTextIsCut, _) => {
            let cut: String = request.holder.as_str().chars().take(100).collect();
            request.holder = HolderText::new(cut).expect("a part of a valid text is valid");
        }
        (Fault::RepeatIsRefused, Some(row)) if repeated => return Ok(Inserted::Held(row.to_holder())),
        (Fault::RepeatRaisesTheFence, Some(_)) if repeated => {
            store.inner.delete(&DeleteRequest::by_force(request.lock_id.clone())).await?;
        }
        (Fault::RepeatDoesNotProlong, Some(row)) if repeated => {
            return Ok(Inserted::Granted(Lease::new(row.fence, row.acquired_at_us, row.expires_at_us)));
        }
        (Fault::DroppedInsertIsHalfDone, _) => {
            // First the row, and only then whose it is.
            let nobody = OwnerToken::mint()?;
            let half = InsertRequest::new(request.lock_id.clone(), nobody, request.ttl, request.holder.clone());
            if let Inserted::Granted(_) = store.inner.insert_if_absent(&half).await? {
                tokio::time::sleep(Duration::from_millis(5)).await;
                store.inner.delete(&DeleteRequest::by_owner(request.lock_id.clone(), nobody)).await?;
            }
        }
        (Fault::FenceRestartsAfterExpiry, Some(row)) if state == Some(LockState::Expired) => {
            store.restart_fence_if(store.fault, &request.lock_id, row.fence);
        }
        _ => {}
    }

    let answer = store.inner.insert_if_absent(&request).await?;
    let Inserted::Held(mut holder) = answer else { return Ok(answer) };
    match store.fault {
        Fault::RefusalHidesTheHolder => holder.holder = HolderText::new("").expect("no text is a valid text"),
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

fn ttl(duration: Duration) -> Ttl {
    Ttl::new(duration).expect("the saboteurs use valid TTLs")
}
