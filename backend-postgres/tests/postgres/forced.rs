//! A forced release, sent again because its reply was lost.

use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::Fence;
use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore, Renewed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::database::{MINUTE, ask, builder, grant, id, renewal, store, until_free};
use crate::server::url;

#[tokio::test]
async fn a_repeated_forced_release_spares_the_successor() {
    let store = store("forced").await;
    let (out, lease) = grant(&store, "job", MINUTE).await;
    let force = DeleteRequest::by_fence(id("job"), lease.fence);
    assert_eq!(store.delete(&force).await.unwrap(), Deleted::Released);
    assert_eq!(store.delete(&force).await.unwrap(), Deleted::Already);
    assert!(matches!(store.renew(&renewal("job", out, MINUTE)).await.unwrap(), Renewed::NotHeld));

    let (successor, _) = grant(&store, "job", MINUTE).await;
    assert_eq!(store.delete(&force).await.unwrap(), Deleted::NotHeld);
    assert_eq!(store.delete_many(&[force]).await.remove(0).unwrap(), Deleted::NotHeld);
    assert!(matches!(store.renew(&renewal("job", successor, MINUTE)).await.unwrap(), Renewed::Renewed(_)));
}

/// The store repeats it by itself; in the meantime the lock was granted to another.
#[tokio::test]
async fn a_forced_release_whose_reply_is_lost_spares_the_successor() {
    let (way, near) = (Way::open().await, store("reply_lost").await);
    let far = builder("reply_lost").pool_size(1).connect(&way.url).await.unwrap();
    // The statement is prepared: it takes one round trip.
    let none = DeleteRequest::by_fence(id("job"), Fence::new(1));
    assert_eq!(far.delete(&none).await.unwrap(), Deleted::NotHeld);
    for granted_meanwhile in [true, false] {
        let (_, lease) = grant(&near, "job", MINUTE).await;
        way.keep_replies.send_replace(true);
        let force = DeleteRequest::by_fence(id("job"), lease.fence);
        let forcing = tokio::spawn({
            let far = far.clone();
            async move { far.delete(&force).await }
        });
        until_free(&near, "job").await;
        let successor = if granted_meanwhile { Some(grant(&near, "job", MINUTE).await.0) } else { None };
        way.keep_replies.send_replace(false);
        way.cut.notify_waiters();
        let answer = forcing.await.unwrap();
        match successor {
            Some(successor) => {
                let renewed = near.renew(&renewal("job", successor, MINUTE)).await.unwrap();
                assert!(matches!(renewed, Renewed::Renewed(_)), "the successor was forced out: {answer:?}");
                near.delete(&crate::database::release("job", successor)).await.unwrap();
            }
            None => assert_eq!(answer.unwrap(), Deleted::Released, "it was this very request that released the lock"),
        }
    }
    assert!(matches!(ask(&near, "job", MINUTE).await.unwrap(), Inserted::Granted(_)));
}

/// A way to the server on which replies can be kept back, and connections cut.
struct Way {
    url: String,
    keep_replies: watch::Sender<bool>,
    cut: Arc<Notify>,
}

impl Way {
    async fn open() -> Self {
        let url = url("postgres");
        let (login, address) = url.split_once('@').unwrap();
        let (server, database) = address.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = format!("{login}@127.0.0.1:{}/{database}", listener.local_addr().unwrap().port());
        let (keep_replies, cut) = (watch::Sender::new(false), Arc::new(Notify::new()));
        let (server, kept, cuts) = (server.to_owned(), keep_replies.subscribe(), Arc::clone(&cut));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, kept.clone(), Arc::clone(&cuts)));
            }
        });
        Self { url: near, keep_replies, cut }
    }
}

async fn carry(client: TcpStream, server: TcpStream, mut kept: watch::Receiver<bool>, cut: Arc<Notify>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let replies = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(size @ 1..) = from_server.read(&mut buffer).await {
            kept.wait_for(|kept| !kept).await.unwrap();
            to_client.write_all(&buffer[..size]).await.unwrap();
        }
    };
    // A test that goes wrong must not hang.
    let limit = tokio::time::sleep(Duration::from_secs(60));
    tokio::select! {
        biased;
        () = cut.notified() => {}
        _ = requests => {}
        () = replies => {}
        () = limit => {}
    }
}
