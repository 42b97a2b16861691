//! A forced release, sent again because its reply was lost.

use db_mutex_core::Ttl;
use db_mutex_core::store::{DeleteRequest, Deleted, LockStore, RenewRequest, Renewed};
use db_mutex_mysql::MySqlStore;

use crate::database::{MINUTE, both, granted, id, request, until_free};
use db_mutex_test_servers::Proxy;

async fn holds(store: &MySqlStore, request: &db_mutex_core::store::InsertRequest) -> bool {
    let renewal = RenewRequest::new(request.lock_id.clone(), request.owner, Ttl::new(MINUTE).unwrap());
    matches!(store.renew(&renewal).await.unwrap(), Renewed::Renewed(_))
}

#[tokio::test]
async fn a_repeated_forced_release_spares_the_successor() {
    for database in both() {
        let store = database.store().await;
        let (out, successor) = (request("job", MINUTE), request("job", MINUTE));
        let lease = granted(store.insert_if_absent(&out).await.unwrap());
        let force = DeleteRequest::by_fence(id("job"), lease.fence);
        assert_eq!(store.delete(&force).await.unwrap(), Deleted::Released);
        assert_eq!(store.delete(&force).await.unwrap(), Deleted::Already);
        assert!(!holds(&store, &out).await);

        granted(store.insert_if_absent(&successor).await.unwrap());
        assert_eq!(store.delete(&force).await.unwrap(), Deleted::NotHeld);
        assert_eq!(store.delete_many(&[force]).await.remove(0).unwrap(), Deleted::NotHeld);
        assert!(holds(&store, &successor).await);
    }
}

/// The store sends it again by itself; in the meantime the lock was granted to another.
#[tokio::test]
async fn a_forced_release_whose_reply_is_lost_spares_the_successor() {
    for database in both() {
        let (proxy, near) = (Proxy::to(&database.url).await, database.store().await);
        let far = MySqlStore::builder().table(database.table.clone()).pool_size(1).connect(proxy.url()).await.unwrap();
        for granted_meanwhile in [true, false] {
            let out = request("job", MINUTE);
            let lease = granted(near.insert_if_absent(&out).await.unwrap());
            // A connection is open, so that it is the release whose reply is kept back.
            far.find(&id("job")).await.unwrap();
            proxy.keep_replies();
            let forcing = tokio::spawn({
                let far = far.clone();
                async move { far.delete(&DeleteRequest::by_fence(id("job"), lease.fence)).await }
            });
            until_free(&near, "job").await;
            let successor = request("job", MINUTE);
            if granted_meanwhile {
                granted(near.insert_if_absent(&successor).await.unwrap());
            }
            proxy.cut();
            let answer = forcing.await.unwrap();
            if granted_meanwhile {
                assert!(holds(&near, &successor).await, "the successor was forced out: {answer:?}");
                near.delete(&DeleteRequest::by_owner(id("job"), successor.owner)).await.unwrap();
            } else {
                assert_eq!(answer.unwrap(), Deleted::Released, "it was this very request that released the lock");
            }
        }
    }
}
