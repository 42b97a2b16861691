use db_mutex_core::store::{Fence, HolderName, ListFilter, LockId, LockRow, LockState, LockStore, StoreError};

use crate::fault::Fault;
use crate::saboteur::Saboteur;

pub(crate) async fn find(store: &Saboteur, id: &LockId) -> Result<Option<LockRow>, StoreError> {
    let mut row = store.row(id).await?;
    match store.fault {
        Fault::FindAnswersAnotherRow if row.is_none() => row = store.inner.list(&ListFilter::all()).await?.pop(),
        Fault::FreeIsNotFound => row = row.filter(|row| row.state() != LockState::Free),
        Fault::FindHidesTheHolder => {
            if let Some(row) = &mut row {
                row.holder = HolderName::new("").expect("no text is a valid text");
            }
        }
        _ => {}
    }
    if let Some(row) = row.as_ref().filter(|row| store.fault == Fault::ReadersEndExcess && row.is_excessive()) {
        store.inner.change_row(id, |stored| stored.expires_at = row.now + row.ttl);
    }
    Ok(row.map(|row| shown(store, row)))
}

pub(crate) async fn list(store: &Saboteur, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
    let filter = match store.fault {
        Fault::ListShowsTheDeadAsLiving => ListFilter::all(),
        Fault::ListHidesTheFree => ListFilter::taken(),
        _ => filter.clone(),
    };
    let mut rows: Vec<_> = store.inner.list(&filter).await?.into_iter().map(|row| shown(store, row)).collect();
    match store.fault {
        Fault::ListIsUnsorted => rows.sort_by_key(|row| row.lock_id.as_str().encode_utf16().collect::<Vec<_>>()),
        Fault::ListTellsAnotherFence => rows.iter_mut().for_each(|row| row.fence = Fence::new(row.fence.get() + 1)),
        Fault::ListShowsTheDeadAsLiving => rows.iter_mut().for_each(|row| row.now = row.acquired_at),
        _ => {}
    }
    Ok(rows)
}

fn shown(store: &Saboteur, mut row: LockRow) -> LockRow {
    row.fence = store.shown_fence(&row.lock_id, row.fence);
    if store.fault == Fault::ExcessIsShown {
        row.ttl = None;
    }
    if store.fault == Fault::EndedReadsAsReleased && row.state() == LockState::Expired {
        row.owned = false;
        row.released_at = Some(row.expires_at);
    }
    row
}
