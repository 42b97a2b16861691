//! What the factory of the suite has to keep, so that the failures of other cases are the store's.

use db_mutex_core::store::ListFilter;

use crate::subject::{Subject, minute};

pub(crate) async fn a_namespace_starts_empty(store: &Subject) {
    let rows = store.listed(ListFilter::all()).await;
    assert!(
        rows.is_empty(),
        "the suite's FACTORY is wrong, or the store's list: the new namespace {:?} is not empty, it has {rows:?}",
        store.namespace()
    );
}

pub(crate) async fn two_handles_are_one_database(store: &Subject) {
    let id = store.id("job");
    let other = store.second_handle().await;
    store.grant(&id, minute()).await;
    let seen = crate::answer::answered(other.find(&id).await, "find").is_some();
    assert!(
        seen,
        "the suite's FACTORY is wrong, or the store keeps locks in its handle: a second handle for the namespace {:?} does \
         not show a lock that the first has acquired. Two calls with one namespace must be two handles of one database",
        store.namespace()
    );
}

pub(crate) async fn two_namespaces_share_nothing(store: &Subject) {
    let id = store.id("job");
    let other = store.another_namespace().await;
    store.grant(&id, minute()).await;
    let seen = crate::answer::answered(other.find(&id).await, "find").is_some();
    assert!(
        !seen,
        "the suite's FACTORY is wrong: another namespace shows a lock of the namespace {:?}. Different namespaces must share \
         nothing: use the name for a table, a schema, a file or a prefix",
        store.namespace()
    );
}
