//! Functions that return futures.

use std::future::Future;
use std::pin::Pin;

use db_mutex::{db_mutex, DbMutex, Error};

/// Returns a future in a box.
#[db_mutex("boxed-{id}", store = mutex)]
pub fn boxed(mutex: &DbMutex, id: u32) -> Pin<Box<dyn Future<Output = Result<u32, Error>> + Send + '_>> {
    let twice = 2 * id;
    Box::pin(async move { Ok(twice) })
}

/// Returns a future without a name.
#[db_mutex("opaque", store = mutex, on_held = "skip")]
pub fn opaque(mutex: DbMutex) -> impl Future<Output = ()> + Send {
    let name = "x".to_owned();
    async move { drop(name) }
}
