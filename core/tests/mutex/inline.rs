//! A request that finds no other under way is polled by its caller, and does not depend on it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::LockStore;
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::server::Server;
use crate::troubled::{Trouble, Troubled};

const MS: Duration = Duration::from_millis(1);

/// Polls a future once, and returns whether it goes on.
async fn goes_on<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_poll_holds_up_neither_its_request_nor_others() {
    let store = Troubled::new(50 * MS, |_, _| Trouble::None);
    let mutex = store.builder().build().unwrap();
    let lock = mutex.lock("slept over");
    let mut acquiring = Box::pin(lock.acquire());
    assert!(goes_on(acquiring.as_mut()).await);
    sleep(100 * MS).await;
    assert_eq!(store.memory.list(&ListFilter::taken()).await.unwrap().len(), 1, "its request was not sent to its end");
    mutex.lock("another").acquire().await.unwrap().release().await.unwrap();
    acquiring.await.unwrap().release().await.unwrap();
    assert!(store.memory.list(&ListFilter::taken()).await.unwrap().is_empty());
}

#[test]
fn a_caller_that_moves_to_another_runtime_gets_its_answer() {
    let mut store = Server::new();
    store.insert = 50 * MS;
    let mutex = DbMutex::builder(store).build().unwrap();
    let lock = mutex.lock("job");
    let mut acquiring = Box::pin(lock.acquire());
    let first = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    assert!(first.block_on(goes_on(acquiring.as_mut())));
    let second = Builder::new_current_thread().enable_all().build().unwrap();
    drop(second.block_on(acquiring).unwrap());
}
