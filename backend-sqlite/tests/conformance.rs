//! The conformance suite on a file, and on a database in memory.

use std::path::PathBuf;
use std::sync::LazyLock;

/// Lives as long as the test binary; each namespace is a file in it.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
});

mod on_a_file {
    use super::FOLDER;
    use db_mutex_sqlite::SqliteStore;

    db_mutex_conformance::suite!(|namespace| async move {
        SqliteStore::open(FOLDER.join(namespace + ".db")).await.expect("a new file can be opened")
    });
}

mod in_memory {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};

    use db_mutex_sqlite::SqliteStore;

    /// A database in memory is one connection's own, so a second handle is a clone.
    static DATABASES: LazyLock<Mutex<HashMap<String, SqliteStore>>> = LazyLock::new(Mutex::default);

    async fn open(namespace: String) -> SqliteStore {
        let known = DATABASES.lock().expect("no test panics here").get(&namespace).cloned();
        match known {
            Some(store) => store,
            None => {
                let store = SqliteStore::open(":memory:").await.expect("memory can be opened");
                DATABASES.lock().expect("no test panics here").insert(namespace, store.clone());
                store
            }
        }
    }

    db_mutex_conformance::suite!(|namespace| async move { open(namespace).await });
}
