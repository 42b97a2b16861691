//! The forms for many locks at once: each answer as if it had been asked alone, in its place.

use std::time::Duration;

use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, LockId, LockRow, LockState, OwnerToken, RenewRequest, Renewed,
};

use crate::answer::{all_answered, granted, refused, released, renewed};
use crate::subject::{Subject, holder_text, insert_request, minute, moment, new_owner, seconds};

/// As many as one statement of a store may not have parameters for.
const MANY: usize = 500;
/// Enough for a store that has no statement for many.
const SOME: usize = 150;

pub(crate) async fn many_inserts_answer_in_their_order(store: &Subject) {
    let (held, _) = (store.id("b"), store.grant(&store.id("b"), minute()).await);
    // Neither the order of the ids nor its reverse.
    let ids = [store.id("c"), store.id("a"), held, store.id("d")];
    let requests: Vec<_> = ids.iter().map(|id| insert_request(new_owner(), id, minute())).collect();
    let answers = all_answered(store.insert_many(&requests).await, "insert_many");

    let shape: Vec<bool> = answers.iter().map(|answer| matches!(answer, Inserted::Granted(_))).collect();
    let promise = "insert_many must answer each request, in the order of the requests";
    assert_eq!(shape, [true, true, false, true], "{promise} (true is granted, false is held)");
    for (answer, id) in answers.into_iter().zip(&ids) {
        let fence = match answer {
            Inserted::Granted(lease) => lease.fence,
            Inserted::Held(holder) => holder.fence,
            other => panic!("{promise}; the store answered {other:?}"),
        };
        assert_eq!(fence, store.row(id).await.fence, "{promise}: the answer for {id:?} is another id's");
    }
}

/// Makes one lock that is `owner`'s, one of another owner, and leaves one absent; in that order.
async fn own_strange_absent(store: &Subject, owner: OwnerToken) -> [LockId; 3] {
    let ids = [store.id("y own"), store.id("x strange"), store.id("z absent")];
    granted(store.ask_as(owner, &ids[0], minute()).await, "a free id must be granted");
    granted(store.ask(&ids[1]).await, "a free id must be granted");
    ids
}

pub(crate) async fn many_deletes_answer_in_their_order(store: &Subject) {
    let owner = new_owner();
    let ids = own_strange_absent(store, owner).await;
    let requests = ids.each_ref().map(|id| DeleteRequest::by_owner(id.clone(), owner));
    let answers = all_answered(store.delete_many(&requests).await, "delete_many");
    let expected = [Deleted::Released, Deleted::NotHeld, Deleted::NotHeld];
    assert_eq!(answers, expected, "delete_many must answer each request, in the order of the requests");
    granted(store.ask(&ids[0]).await, "an id released among many must be free at once");
    refused(store.ask(&ids[1]).await, "a lock of another owner must stay held when many are released");
}

pub(crate) async fn many_renewals_answer_in_their_order(store: &Subject) {
    let owner = new_owner();
    let ids = own_strange_absent(store, owner).await;
    let before = store.row(&ids[1]).await.expires_at;
    let requests = ids.each_ref().map(|id| RenewRequest::new(id.clone(), owner, seconds(600)));
    let answers = all_answered(store.renew_many(&requests).await, "renew_many");
    let shape: Vec<bool> = answers.iter().map(|answer| matches!(answer, Renewed::Renewed(_))).collect();
    let promise = "renew_many must answer each request, in the order of the requests";
    assert_eq!(shape, [true, false, false], "{promise} (true is renewed, false is not held)");

    let lease = renewed(answers[0].clone(), promise);
    assert_eq!(lease.expires_at, store.row(&ids[0]).await.expires_at, "renew_many must store what it answers");
    assert_eq!(store.row(&ids[1]).await.expires_at, before, "renew_many must not prolong another owner's lease");
}

/// Six ids in the states that matter to an insert, of which one owner has asked for two before.
pub(crate) async fn many_requests_leave_each_id_as_if_alone(store: &Subject) {
    let owner = new_owner();
    let ids = ["f absent", "e own", "d spent", "c expired", "b free", "a held"].map(|id| store.id(id));
    let [_, own, spent, expired, free, held] = &ids;
    for id in [own, spent] {
        granted(store.ask_as(owner, id, minute()).await, "a free id must be granted");
    }
    released(store.release(owner, spent).await, "the owner must be able to release its lock");
    store.grant(expired, moment()).await;
    let (other, _) = store.grant(free, minute()).await;
    released(store.release(other, free).await, "the owner must be able to release its lock");
    store.grant(held, minute()).await;
    store.until_free(expired).await;
    let before = rows(store, &ids[1..]).await;

    // Each for another TTL, and with another holder's text.
    let ttl = |number: usize| seconds(100 + number as u64);
    let inserts: Vec<_> = (ids.iter().enumerate())
        .map(|(number, id)| {
            InsertRequest::new(id.clone(), owner, ttl(number), holder_text(&format!("worker {number}")))
        })
        .collect();
    let answers = all_answered(store.insert_many(&inserts).await, "insert_many");
    let after = rows(store, &ids).await;
    for (number, (answer, row)) in answers.iter().zip(&after).enumerate() {
        let promise =
            format!("insert_many MUST do with {:?} what insert_if_absent would (many 1, many 2)", row.lock_id);
        match (number, answer) {
            (0 | 1 | 3 | 4, Inserted::Granted(lease)) => {
                assert_eq!(row.lease(), *lease, "{promise}: it must store the lease that it returned");
                assert_eq!(row.state(), LockState::Held, "{promise}: it must be held");
                assert_eq!(
                    row.holder.as_str(),
                    format!("worker {number}"),
                    "{promise}: it must store the request's own holder"
                );
                assert_eq!(row.ttl, ttl(number).duration(), "{promise}: it must store the request's own TTL");
            }
            (2, Inserted::Spent) | (5, Inserted::Held(_)) => {
                let unchanged = before[number - 1].lease() == row.lease() && before[number - 1].holder == row.holder;
                assert!(unchanged, "{promise}: what it does not grant it must leave as it was: {row:?}");
            }
            _ => panic!("{promise}; the store answered {answer:?}"),
        }
    }

    let renewals: Vec<_> = (0..ids.len()).map(|at| RenewRequest::new(ids[at].clone(), owner, ttl(100 + at))).collect();
    let answers = all_answered(store.renew_many(&renewals).await, "renew_many");
    for (number, (answer, row)) in answers.iter().zip(rows(store, &ids).await).enumerate() {
        let promise = format!("renew_many MUST do with {:?} what renew would (many 1, many 2)", row.lock_id);
        match (number, answer) {
            (0 | 1 | 3 | 4, Renewed::Renewed(lease)) => {
                assert_eq!(row.lease(), *lease, "{promise}: it must store the lease that it returned");
                assert_eq!(row.ttl, ttl(100 + number).duration(), "{promise}: it must go by the request's own TTL");
            }
            (2 | 5, Renewed::NotHeld) => {
                assert_eq!(row.lease(), after[number].lease(), "{promise}: it must leave it alone")
            }
            _ => panic!("{promise}; the store answered {answer:?}"),
        }
    }

    // Every second one is to rest.
    let rest = |number: usize| Duration::from_secs(if number % 2 == 1 { 60 } else { 0 });
    let by_owner = |at: usize| DeleteRequest::by_owner(ids[at].clone(), owner).hold_at_least(rest(at));
    let deletes: Vec<_> = (0..ids.len()).map(by_owner).collect();
    let answers = all_answered(store.delete_many(&deletes).await, "delete_many");
    for (number, (answer, row)) in answers.iter().zip(rows(store, &ids).await).enumerate() {
        let promise = format!("delete_many MUST do with {:?} what delete would (many 1, many 2)", row.lock_id);
        let (expected, state) = match number {
            1 | 3 => (Deleted::Released, LockState::Resting),
            0 | 4 => (Deleted::Released, LockState::Free),
            2 => (Deleted::Already, LockState::Free),
            _ => (Deleted::NotHeld, LockState::Held),
        };
        assert_eq!((*answer, row.state()), (expected, state), "{promise}");
    }
}

async fn rows(store: &Subject, ids: &[LockId]) -> Vec<LockRow> {
    let mut rows = Vec::new();
    for id in ids {
        rows.push(store.row(id).await);
    }
    rows
}

pub(crate) async fn many_of_nothing_is_nothing(store: &Subject) {
    assert!(store.insert_many(&[]).await.is_empty(), "nothing was requested, so nothing must be answered");
    assert!(store.delete_many(&[]).await.is_empty(), "nothing was requested, so nothing must be answered");
    assert!(store.renew_many(&[]).await.is_empty(), "nothing was requested, so nothing must be answered");
}

pub(crate) async fn many_may_be_hundreds(store: &Subject) {
    let (owner, many) = (new_owner(), if store.limits().batch > 1 { MANY } else { SOME });
    let ids: Vec<_> = (0..many).map(|number| store.id(&format!("job {number}"))).collect();

    let inserts: Vec<_> = ids.iter().map(|id| insert_request(owner, id, minute())).collect();
    let answers = all_answered(store.insert_many(&inserts).await, "insert_many");
    assert_eq!(answers.len(), many, "insert_many must answer each request");
    for answer in answers {
        granted(answer, "insert_many must grant every free id");
    }

    let renewals: Vec<_> = ids.iter().map(|id| RenewRequest::new(id.clone(), owner, seconds(600))).collect();
    let answers = all_answered(store.renew_many(&renewals).await, "renew_many");
    assert_eq!(answers.len(), many, "renew_many must answer each request");
    for answer in answers {
        renewed(answer, "renew_many must renew every lease of the owner");
    }

    let deletes: Vec<_> = ids.iter().map(|id| DeleteRequest::by_owner(id.clone(), owner)).collect();
    let answers = all_answered(store.delete_many(&deletes).await, "delete_many");
    assert_eq!(answers.len(), many, "delete_many must answer each request");
    for answer in answers {
        released(answer, "delete_many must release every lock of the owner");
    }
}
