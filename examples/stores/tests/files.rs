//! The conformance suite on a directory, with the kit and without.

mod planted;

use std::path::PathBuf;

use db_mutex_core::store::cas::CasStore;
use stores::files::Files;
use stores::without_the_kit::Directory;

fn directory(namespace: &str) -> PathBuf {
    std::env::temp_dir().join(format!("db-mutex-files-{namespace}"))
}

fn open(namespace: &str) -> Files {
    Files::open(directory(namespace)).expect("the folder for temporary files is writable")
}

mod with_the_kit {
    use super::*;

    db_mutex_conformance::suite!(
        |namespace| async move { CasStore::new(open(&namespace)) },
        shift_row = |namespace, id, by| async move { planted::shift(&open(&namespace), &id, by).await },
        plant_fence = |namespace, id, fence| async move { planted::plant(&open(&namespace), &id, fence).await },
        cleanup = |namespace| async move { drop(std::fs::remove_dir_all(directory(&namespace))) },
        ignore = {
            locked_rows: "there are no transactions that could lock a file for long",
            a_locked_row_from_the_future_is_refused: "there are no transactions that could lock a file for long",
        }
    );
}

mod without_the_kit {
    use super::*;

    db_mutex_conformance::suite!(
        |namespace| async move { Directory(open(&namespace)) },
        shift_row = |namespace, id, by| async move { planted::shift(&open(&namespace), &id, by).await },
        plant_fence = |namespace, id, fence| async move { planted::plant(&open(&namespace), &id, fence).await },
        cleanup = |namespace| async move { drop(std::fs::remove_dir_all(directory(&namespace))) },
        ignore = {
            locked_rows: "there are no transactions that could lock a file for long",
            a_locked_row_from_the_future_is_refused: "there are no transactions that could lock a file for long",
        }
    );
}
