//! A row that another transaction has locked: nothing waits for it, and nothing else suffers from it.

use std::time::{Duration, Instant};

use db_mutex_core::store::{DeleteRequest, Deleted, InsertRequest, Inserted, RenewRequest, Renewed};

use crate::answer::{busy, granted, refused, released};
use crate::subject::{Subject, insert_request, minute, new_owner, seconds};

/// Far less than the shortest time for which databases wait for a row, which is a second. The fastest of some attempts has
/// to be below it, however busy the machine is.
const AT_ONCE: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 5;

pub(crate) async fn a_locked_row_is_busy_at_once(store: &Subject) {
    let id = store.id("job");
    let (owner, lease) = store.grant(&id, minute()).await;
    let before = store.row(&id).await;
    let raw = store.raw();
    let locked = store.lock_row(&id).await;
    let mut fastest = Duration::MAX;
    for _ in 0..ATTEMPTS {
        let started = Instant::now();
        busy(
            &raw.insert_if_absent(&insert_request(owner, &id, seconds(600))).await,
            "a repeated insert that meets a locked row must be busy",
        );
        busy(
            &raw.renew(&RenewRequest::new(id.clone(), owner, seconds(600))).await,
            "a renewal that meets a locked row must be busy",
        );
        busy(
            &raw.delete(&DeleteRequest::by_owner(id.clone(), owner)).await,
            "a delete that meets a locked row must be busy",
        );
        busy(
            &raw.delete(&DeleteRequest::by_fence(id.clone(), lease.fence)).await,
            "a forced delete that meets a locked row must be busy",
        );
        fastest = fastest.min(started.elapsed());
    }
    assert!(fastest < AT_ONCE, "a locked row must not be waited for: four requests took {fastest:?}");
    refused(store.ask(&id).await, "a refusal must not need the row's lock");
    let during = store.row(&id).await;
    drop(locked);

    assert_eq!(during.expires_at, before.expires_at, "a busy request must change nothing");
    assert_eq!(store.row(&id).await.expires_at, before.expires_at, "a busy request must not be done later either");
    released(store.release(owner, &id).await, "once the row is unlocked its owner must be able to release it");
}

pub(crate) async fn a_locked_row_leaves_its_batch_alone(store: &Subject) {
    let owner = new_owner();
    let ids: Vec<_> = (0..20).map(|number| store.id(&format!("job {number:02}"))).collect();
    for id in &ids {
        granted(store.ask_as(owner, id, minute()).await, "a free id must be granted");
    }
    let raw = store.raw();
    let locked_at = 7;
    let locked = store.lock_row(&ids[locked_at]).await;

    let inserts: Vec<InsertRequest> = ids.iter().map(|id| insert_request(owner, id, minute())).collect();
    for (at, answer) in raw.insert_many(&inserts).await.iter().enumerate() {
        match answer {
            answer if at == locked_at => busy(answer, "the one insert whose row is locked must be busy"),
            Ok(Inserted::Granted(_)) => {}
            other => panic!("a locked row must leave the other inserts of its batch alone; one got {other:?}"),
        }
    }
    let renewals: Vec<_> = ids.iter().map(|id| RenewRequest::new(id.clone(), owner, minute())).collect();
    for (at, answer) in raw.renew_many(&renewals).await.iter().enumerate() {
        match answer {
            answer if at == locked_at => busy(answer, "the one renewal whose row is locked must be busy"),
            Ok(Renewed::Renewed(_)) => {}
            other => panic!("a locked row must leave the other renewals of its batch alone; one got {other:?}"),
        }
    }
    let deletes: Vec<_> = ids.iter().map(|id| DeleteRequest::by_owner(id.clone(), owner)).collect();
    for (at, answer) in raw.delete_many(&deletes).await.iter().enumerate() {
        match answer {
            answer if at == locked_at => busy(answer, "the one delete whose row is locked must be busy"),
            Ok(Deleted::Released) => {}
            other => panic!("a locked row must leave the other deletes of its batch alone; one got {other:?}"),
        }
    }
    drop(locked);
    released(store.release(owner, &ids[locked_at]).await, "the lock whose row was locked must still be its owner's");
}
