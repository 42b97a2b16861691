use db_mutex_core::store::{DeleteBy, DeleteRequest, Deleted, LockRow, LockState, LockStore, StoreError};

use crate::fault::Fault;
use crate::saboteur::Saboteur;

pub(crate) async fn delete(store: &Saboteur, request: &DeleteRequest) -> Result<Deleted, StoreError> {
    let row = store.row(&request.lock_id).await?;
    let state = row.as_ref().map(|row| row.state());
    let by_force = matches!(request.by, DeleteBy::Fence(_));
    let mut request = request.clone();

    match store.fault {
        Fault::DeleteChangesNothing if !by_force && state == Some(LockState::Held) => return Ok(Deleted::Released),
        Fault::DeleteAsksForNoOwner if !by_force => {
            if let Some(owner) = store.last_owner(&request.lock_id) {
                request.by = DeleteBy::Owner(owner);
            }
        }
        Fault::DeleteOfAnEndedLeaseSaysReleased if !by_force && state == Some(LockState::Expired) => {
            return Ok(Deleted::Released);
        }
        Fault::HoldAtLeastIsIgnored => request.hold_at_least = std::time::Duration::ZERO,
        Fault::HoldAtLeastCountsFromTheRelease => {
            if let Some(row) = row.as_ref().filter(|_| !request.hold_at_least.is_zero()) {
                request.hold_at_least += row.acquired_ago();
            }
        }
        Fault::RestIsCutToTheLease => {
            let ttl = row.as_ref().and_then(|row| row.ttl);
            request.hold_at_least = request.hold_at_least.min(ttl.unwrap_or(request.hold_at_least));
        }
        Fault::ForceGoesById if by_force => {
            request.by = row.as_ref().map_or(request.by, |row| DeleteBy::Fence(row.fence));
        }
        Fault::ForceIsIgnored if by_force => return Ok(Deleted::NotHeld),
        Fault::ForceIsIgnoredForTheResting if by_force && state == Some(LockState::Resting) => {
            return Ok(Deleted::NotHeld);
        }
        _ => {}
    }

    let answer = store.inner.delete(&request).await;
    let answer = store.after_waiting(answer).await?;
    if let (Deleted::Released, Some(row)) = (answer, &row) {
        after_release(store, &request, row);
        let restarts = if by_force { Fault::FenceRestartsAfterForce } else { Fault::FenceRestartsAfterRelease };
        store.restart_fence_if(restarts, &request.lock_id, row.fence);
    }
    Ok(match store.fault {
        Fault::DeleteSaysReleasedAlways if !by_force => Deleted::Released,
        Fault::ForceSaysReleasedAlways if by_force => Deleted::Released,
        Fault::RepeatedDeleteSaysNotHeld if answer == Deleted::Already => Deleted::NotHeld,
        Fault::EveryDeleteOfAFreeIdSaysAlready if !by_force && state == Some(LockState::Free) => Deleted::Already,
        _ => answer,
    })
}

/// The faults that lie in what a release leaves in the row.
fn after_release(store: &Saboteur, request: &DeleteRequest, before: &LockRow) {
    let rests = !request.hold_at_least.is_zero();
    store.inner.change_row(&request.lock_id, |row| match (store.fault, request.by) {
        (Fault::ForcedOutIsGranted, DeleteBy::Fence(_)) => row.released_by = None,
        (Fault::ReleaseLeavesItsTime, _) if !rests => row.expires_at = before.now,
        (Fault::TtlOfARestIsTheLeases, _) if rests => row.ttl = before.ttl,
        (Fault::RestCountsFromTheFuture, DeleteBy::Owner(_)) if rests => {
            row.expires_at = row.acquired_at + request.hold_at_least;
        }
        _ => {}
    });
}
