//! The forms for many locks at once: each answer as if it had been asked alone, in its place.

use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockId, OwnerToken, RenewRequest, Renewed};

use crate::answer::{all_answered, granted, refused, released, renewed};
use crate::subject::{Subject, insert_request, minute, new_owner, seconds};

/// As many as one statement of a store may not have parameters for.
const MANY: usize = 500;

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

/// Makes one lock that is `owner`'s, one of somebody else, and leaves one absent; in that order.
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
    refused(store.ask(&ids[1]).await, "a lock of somebody else must stay held when many are released");
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
    assert_eq!(store.row(&ids[1]).await.expires_at, before, "renew_many must not prolong a lease of somebody else");
}

pub(crate) async fn many_of_nothing_is_nothing(store: &Subject) {
    assert!(store.insert_many(&[]).await.is_empty(), "nothing was requested, so nothing must be answered");
    assert!(store.delete_many(&[]).await.is_empty(), "nothing was requested, so nothing must be answered");
    assert!(store.renew_many(&[]).await.is_empty(), "nothing was requested, so nothing must be answered");
}

pub(crate) async fn many_may_be_hundreds(store: &Subject) {
    let owner = new_owner();
    let ids: Vec<_> = (0..MANY).map(|number| store.id(&format!("job {number}"))).collect();

    let inserts: Vec<_> = ids.iter().map(|id| insert_request(owner, id, minute())).collect();
    let answers = all_answered(store.insert_many(&inserts).await, "insert_many");
    assert_eq!(answers.len(), MANY, "insert_many must answer each request");
    for answer in answers {
        granted(answer, "insert_many must grant every free id");
    }

    let renewals: Vec<_> = ids.iter().map(|id| RenewRequest::new(id.clone(), owner, seconds(600))).collect();
    let answers = all_answered(store.renew_many(&renewals).await, "renew_many");
    assert_eq!(answers.len(), MANY, "renew_many must answer each request");
    for answer in answers {
        renewed(answer, "renew_many must renew every lease of the owner");
    }

    let deletes: Vec<_> = ids.iter().map(|id| DeleteRequest::by_owner(id.clone(), owner)).collect();
    let answers = all_answered(store.delete_many(&deletes).await, "delete_many");
    assert_eq!(answers.len(), MANY, "delete_many must answer each request");
    for answer in answers {
        released(answer, "delete_many must release every lock of the owner");
    }
}
