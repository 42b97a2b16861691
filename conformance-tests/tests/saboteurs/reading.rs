use db_mutex_core::store::{
    Fence, HolderName, Lease, ListFilter, LockId, LockRow, LockState, LockStore, StoreError, StoreTime,
};

use crate::fault::Fault;
use crate::saboteur::Saboteur;

pub(crate) async fn find(store: &Saboteur, id: &LockId) -> Result<Option<LockRow>, StoreError> {
    let mut row = store.row(id).await?;
    match store.fault {
        Fault::FindAnswersAnotherRow if row.is_none() => row = store.inner.list(&ListFilter::all()).await?.pop(),
        Fault::LeaseEndsEarly => {
            if let Some(row) = &mut row {
                row.now = row.now + std::time::Duration::from_millis(300);
            }
        }
        Fault::FindReadsTwice => row = read_twice(store, row).await?,
        Fault::HalfAWriteIsNothing if store.writes() => row = None,
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
    if store.fault == Fault::HalfAWriteIsNothing && store.writes() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<_> = store.inner.list(&filter).await?.into_iter().map(|row| shown(store, row)).collect();
    match store.fault {
        Fault::ListReadsTwice => {
            for row in &mut rows {
                *row = read_twice(store, Some(row.clone())).await?.unwrap_or_else(|| row.clone());
            }
        }
        Fault::ListEndsAfterAThousand => rows.truncate(1_000),
        Fault::StartsWithARow if rows.is_empty() => {
            let id = LockId::new("left by another").expect("a valid id");
            rows.push(LockRow::new(
                id,
                HolderName::of_this_process(),
                Lease::new(Fence::new(1), StoreTime::ZERO, StoreTime::NEVER),
            ));
        }
        Fault::ListIsUnsorted => rows.sort_by_key(|row| row.lock_id.as_str().encode_utf16().collect::<Vec<_>>()),
        Fault::ListTellsAnotherFence => rows.iter_mut().for_each(|row| row.fence = Fence::new(row.fence.get() + 1)),
        Fault::ListShowsTheDeadAsLiving => rows.iter_mut().for_each(|row| row.now = row.acquired_at),
        _ => {}
    }
    Ok(rows)
}

/// The holder of a row as it was, and the rest as it is a moment later.
async fn read_twice(store: &Saboteur, row: Option<LockRow>) -> Result<Option<LockRow>, StoreError> {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    let Some(first) = row else { return Ok(None) };
    let second = store.row(&first.lock_id).await?;
    Ok(second.map(|mut second| {
        second.holder = first.holder;
        second
    }))
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
