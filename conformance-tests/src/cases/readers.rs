//! What readers see while others write: each row as it was at some moment, and none that never was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db_mutex_core::store::{
    DeleteRequest, Fence, InsertRequest, Inserted, ListFilter, LockId, LockRow, LockStore, Ttl,
};

use crate::answer::answered;
use crate::subject::{ROUNDING, Subject, holder_text, new_owner, seconds, span};

const WRITERS: u64 = 2;
const ROUNDS: u64 = 25;

pub(crate) async fn find_never_shows_what_never_was(store: &Subject) {
    while_others_write(store, Reader::Find).await;
}

pub(crate) async fn list_never_shows_what_never_was(store: &Subject) {
    while_others_write(store, Reader::List).await;
}

#[derive(Clone, Copy)]
enum Reader {
    Find,
    List,
}

impl Reader {
    async fn read(self, store: &dyn LockStore, id: &LockId) -> Option<LockRow> {
        match self {
            Self::Find => answered(store.find(id).await, "find"),
            Self::List => {
                let rows = answered(store.list(&ListFilter::all()).await, "list");
                let ids: Vec<_> = rows.iter().map(|row| row.lock_id.as_str()).collect();
                assert_eq!(ids, ["job", "other"], "list MUST show each row once while others write (list 1)");
                rows.into_iter().find(|row| row.lock_id == *id)
            }
        }
    }
}

/// Owners acquire an id and release it, each with another TTL, which the holder's text contains; meanwhile its row is read.
async fn while_others_write(store: &Subject, reader: Reader) {
    let method = match reader {
        Reader::Find => "find",
        Reader::List => "list",
    };
    let id = store.id("job");
    store.grant(&store.id("other"), seconds(60)).await;
    acquire_and_release(&*store.first_handle(), &id, 0).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (handle, id) = (store.second_handle().await, id.clone());
        writers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                acquire_and_release(&*handle, &id, 1 + writer * ROUNDS + round).await;
            }
        }));
    }
    let ended = Arc::clone(&over);
    let writing = tokio::spawn(async move {
        let mut failure = None;
        for writer in writers {
            failure = failure.or(writer.await.err());
        }
        ended.store(true, Ordering::SeqCst);
        failure
    });
    let mut last = Fence::new(0);
    while !over.load(Ordering::SeqCst) {
        let row = reader.read(&*store.first_handle(), &id).await;
        let row = row
            .unwrap_or_else(|| panic!("{method} MUST show a row that is there while others write it; it shows none"));
        check(&row, method);
        assert!(row.fence >= last, "{method} MUST NOT go back in time: it shows fence {} after {last}", row.fence);
        last = row.fence;
        tokio::task::yield_now().await;
    }
    if let Some(failure) = writing.await.expect("it does not panic") {
        std::panic::resume_unwind(failure.into_panic());
    }
}

/// The holder's text of an acquisition for a TTL, from which the rest of the row follows.
fn holder_of(ttl: Duration) -> String {
    format!("for {} s", ttl.as_secs())
}

async fn acquire_and_release(store: &dyn LockStore, id: &LockId, number: u64) {
    let (owner, ttl) = (new_owner(), Duration::from_secs(100 + number));
    let valid = Ttl::new(ttl).expect("the suite uses valid TTLs");
    let request = InsertRequest::new(id.clone(), owner, valid, holder_text(&holder_of(ttl)));
    while !matches!(answered(store.insert_if_absent(&request).await, "insert_if_absent"), Inserted::Granted(_)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let released = answered(store.delete(&DeleteRequest::by_owner(id.clone(), owner)).await, "delete");
    crate::answer::released(released, "delete MUST release a lock for the owner that was granted it");
}

fn check(row: &LockRow, method: &str) {
    let ttl = row.ttl.unwrap_or_default();
    let mut as_written = row.holder.as_str() == holder_of(ttl);
    // Longer than the TTL if the store has repeated the insert, which counts anew.
    as_written &= match row.owned {
        true => row.released_at.is_none() && span(row.acquired_at, row.expires_at) + ROUNDING >= ttl,
        false => row.released_at.is_some_and(|at| at >= row.acquired_at) && !row.is_taken(),
    };
    assert!(as_written, "{method} MUST show a row as it is, and this one never was, it is of two writes: {row:?}");
}
