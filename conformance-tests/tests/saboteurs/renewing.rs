use db_mutex_core::store::{
    HolderName, InsertRequest, Inserted, LockState, LockStore, RenewRequest, Renewed, StoreError, StoreTime, Ttl,
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
        (Fault::NeverIsAnHour, _) if request.ttl == Ttl::NEVER => {
            request.ttl = Ttl::new(crate::inserting::HOUR).expect("an hour is a valid TTL");
        }
        _ => {}
    }

    let answer = store.inner.renew(&request).await;
    let mut answer = store.after_waiting(answer).await?;
    if let (Renewed::Renewed(lease), Some(before)) = (&mut answer, &row) {
        let end = before.now + request.ttl.duration();
        store.inner.change_row(&request.lock_id, |row| match store.fault {
            Fault::RenewShortens if before.expires_at != StoreTime::NEVER => row.expires_at = end,
            Fault::RenewGivesNeverAnEnd if before.expires_at == StoreTime::NEVER => row.expires_at = end,
            Fault::RenewCountsFromTheAcquisition => row.expires_at = row.acquired_at + request.ttl.duration(),
            Fault::TtlIsTheLastOne => row.ttl = request.ttl.duration(),
            Fault::TtlIsTheFirstOne => row.ttl = before.ttl,
            _ => {}
        });
        lease.expires_at = store.row(&request.lock_id).await?.map_or(end, |row| row.expires_at);
    }
    let anew = match (store.fault, &answer) {
        (Fault::RenewMakesLeases, Renewed::NotHeld) => {
            store.inner.change_row(&request.lock_id, |row| row.released_by = None);
            true
        }
        (Fault::RenewRaisesTheFence, Renewed::Renewed(_)) => {
            store.end(&request.lock_id);
            true
        }
        _ => false,
    };
    if anew {
        let holder = row.map_or_else(HolderName::of_this_process, |row| row.holder);
        let insert = InsertRequest::new(request.lock_id, request.owner, request.ttl, holder);
        if let Inserted::Granted(lease) = store.inner.insert_if_absent(&insert).await? {
            return Ok(Renewed::Renewed(lease));
        }
    }
    Ok(answer)
}
