use db_mutex_core::{DeleteBy, DeleteRequest, Deleted, LockState, LockStore, StoreError};

use crate::fault::Fault;
use crate::saboteur::Saboteur;

pub(crate) async fn delete(store: &Saboteur, request: &DeleteRequest) -> Result<Deleted, StoreError> {
    let row = store.row(&request.lock_id).await?;
    let state = row.as_ref().map(|row| row.state());
    let by_force = request.by == DeleteBy::Force;
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
        Fault::ForceIsIgnored if by_force => return Ok(Deleted::NotHeld),
        Fault::ForceIsIgnoredForTheResting if by_force && state == Some(LockState::Resting) => {
            return Ok(Deleted::NotHeld);
        }
        _ => {}
    }

    let answer = store.inner.delete(&request).await?;
    if let (Deleted::Released, Some(row)) = (answer, row) {
        let restarts = if by_force { Fault::FenceRestartsAfterForce } else { Fault::FenceRestartsAfterRelease };
        store.restart_fence_if(restarts, &request.lock_id, row.fence);
    }
    Ok(match store.fault {
        Fault::DeleteSaysReleasedAlways if !by_force => Deleted::Released,
        Fault::ForceSaysReleasedAlways if by_force => Deleted::Released,
        _ => answer,
    })
}
