//! Renewing leases.

use std::collections::HashMap;

use db_mutex_core::store::{RenewRequest, Renewed, StoreTime};
use db_mutex_core::{LockId, StoreError};

use crate::operations::{BATCH, Operations, Written, back_in_order, busy, order_of};
use crate::row::Found;

impl Operations {
    pub(crate) async fn renew_many(&self, requests: &[RenewRequest]) -> Vec<Result<Renewed, StoreError>> {
        let order = order_of(requests, |request| &request.lock_id);
        let mut answers = Vec::with_capacity(order.len());
        for batch in order.chunks(BATCH) {
            let batch: Vec<_> = batch.iter().map(|at| &requests[*at]).collect();
            let ids = batch.iter().map(|request| &request.lock_id);
            match self.write_and_read(self.sql.renew_many(&batch), ids).await {
                Ok(Written { at, mut rows, .. }) => {
                    answers.extend(batch.iter().map(|request| renewed(request, at, &mut rows)));
                }
                Err(error) => answers.extend(error.for_all(batch.len())),
            }
        }
        back_in_order(order, answers)
    }
}

/// By what the row says, not by affected rows: a renewal for less than is left affects none.
fn renewed(request: &RenewRequest, at: StoreTime, rows: &mut HashMap<LockId, Found>) -> Result<Renewed, StoreError> {
    match rows.remove(&request.lock_id) {
        Some(found) if found.is_owned_by(&request.owner) && found.row.is_taken() => {
            let done = found.is_prolonged(at, request.ttl);
            if done { Ok(Renewed::Renewed(found.row.lease())) } else { Err(busy()) }
        }
        _ => Ok(Renewed::NotHeld),
    }
}
