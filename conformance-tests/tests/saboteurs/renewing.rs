use db_mutex_core::{
    DeleteRequest, HolderText, InsertRequest, Inserted, LockState, LockStore, RenewRequest, Renewed, StoreError, Ttl,
};

use crate::fault::Fault;
use crate::saboteur::Saboteur;

pub(crate) async fn renew(store: &Saboteur, request: &RenewRequest) -> Result<Renewed, StoreError> {
    let row = store.row(&request.lock_id).await?;
    let mut request = request.clone();

    match (store.fault, &row) {
        (Fault::RenewRevivesALostLease, Some(row)) if row.state() == LockState::Expired => {
            // The owner's own insert, repeated, gives the lease back.
            let again = InsertRequest::new(request.lock_id, request.owner, request.ttl, row.holder.clone());
            if let Inserted::Granted(lease) = store.inner.insert_if_absent(&again).await? {
                return Ok(Renewed::Renewed(lease));
            }
            return Ok(Renewed::NotHeld);
        }
        (Fault::RenewAsksForNoOwner, _) => {
            request.owner = store.last_owner(&request.lock_id).unwrap_or(request.owner);
        }
        (Fault::RenewCountsFromTheAcquisition, Some(row)) => {
            let left = request.ttl.duration().map(|ttl| ttl.saturating_sub(row.acquired_ago()).max(Ttl::MIN));
            request.ttl = left.map_or(Ttl::NEVER, |left| Ttl::new(left).expect("a shorter TTL is valid"));
        }
        (Fault::NeverIsAnHour, _) if request.ttl == Ttl::NEVER => {
            request.ttl = Ttl::new(crate::inserting::HOUR).expect("an hour is a valid TTL");
        }
        (Fault::RenewNeverShortens, Some(row)) => {
            if let (Some(asked), Some(left)) = (request.ttl.duration(), row.expires_in()) {
                request.ttl = Ttl::new(asked.max(left)).expect("what is left of a TTL is valid");
            }
        }
        _ => {}
    }

    let answer = store.inner.renew(&request).await?;
    let anew = match (store.fault, &answer) {
        (Fault::RenewMakesLeases, Renewed::NotHeld) => true,
        (Fault::RenewRaisesTheFence, Renewed::Renewed(_)) => {
            store.inner.delete(&DeleteRequest::by_force(request.lock_id.clone())).await?;
            true
        }
        _ => false,
    };
    if anew {
        let holder = row.map_or_else(HolderText::of_this_process, |row| row.holder);
        let insert = InsertRequest::new(request.lock_id, request.owner, request.ttl, holder);
        if let Inserted::Granted(lease) = store.inner.insert_if_absent(&insert).await? {
            return Ok(Renewed::Renewed(lease));
        }
    }
    Ok(answer)
}
