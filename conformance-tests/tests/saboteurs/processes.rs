//! A store in a directory, which several processes share: right, or with a fault that only several processes show.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use db_mutex_conformance::Suite;
use db_mutex_core::store::cas::{CasStore, CompareAndSwap, Entry, Loaded, Page, Swapped, machine_clock};
use db_mutex_core::store::{LockId, StoreError, async_trait};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// What keeps two owners apart is the process's own.
    ExcludesWithinAProcess,
    /// What was read once is remembered until this process writes.
    RemembersWhatItRead,
    /// A lock is over with the process that has it.
    EndsWithTheProcess,
}

/// A file for each id, whose contents are the version of its value.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    fault: Fault,
    remembered: Mutex<HashMap<LockId, Option<Vec<u8>>>>,
}

/// Other processes wait while the file is there; tests kill none that has made it.
struct Exclusive(PathBuf);

impl Drop for Exclusive {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("only this process removes it");
    }
}

impl Directory {
    fn open(namespace: &str, fault: Fault) -> CasStore<Self> {
        let path = std::env::temp_dir().join(format!("db-mutex-directory-{namespace}"));
        fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        CasStore::new(Self { path, fault, remembered: Mutex::default() })
    }

    fn file(&self, id: &LockId) -> PathBuf {
        let hex: String = id.as_str().bytes().map(|byte| format!("{byte:02x}")).collect();
        // The names of files have 255 bytes; of the suite's longest ids only two differ, and in their ends.
        self.path.join(format!("{:.100}{}", hex, &hex[hex.len().saturating_sub(100)..]))
    }

    fn read(&self, id: &LockId) -> Option<Vec<u8>> {
        let read = || fs::read(self.file(id)).ok();
        let mut remembered = self.remembered.lock().expect("no test panics here");
        match self.fault {
            Fault::RemembersWhatItRead => remembered.entry(id.clone()).or_insert_with(read).clone(),
            Fault::EndsWithTheProcess => read().filter(|value| {
                let text = String::from_utf8_lossy(value);
                let pid = text.rsplit("pid ").next().and_then(|rest| rest.split('"').next()).map(str::to_owned);
                pid.is_none_or(|pid| PathBuf::from(format!("/proc/{pid}")).exists())
            }),
            _ => read(),
        }
    }

    async fn exclusive(&self) -> Option<Exclusive> {
        if self.fault == Fault::ExcludesWithinAProcess {
            return None;
        }
        let lock = self.path.join("lock");
        while OpenOptions::new().write(true).create_new(true).open(&lock).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Some(Exclusive(lock))
    }

    async fn replace(&self, id: &LockId, expected: Option<&Vec<u8>>, value: Option<&[u8]>) -> Swapped {
        static WITHIN: LazyLock<tokio::sync::Mutex<()>> = LazyLock::new(tokio::sync::Mutex::default);
        let _within = WITHIN.lock().await;
        let _exclusive = self.exclusive().await;
        let stored = match self.fault {
            Fault::EndsWithTheProcess => self.read(id),
            _ => fs::read(self.file(id)).ok(),
        };
        if stored.as_ref() != expected {
            return Swapped::Changed;
        }
        if self.fault == Fault::ExcludesWithinAProcess {
            // Others check meanwhile.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.remembered.lock().expect("no test panics here").remove(id);
        match value {
            Some(value) => {
                let new = self.path.join(format!("new {}", std::process::id()));
                fs::write(&new, value).and_then(|()| fs::rename(&new, self.file(id))).expect("the folder is writable");
            }
            None => fs::remove_file(self.file(id)).expect("it was there"),
        }
        Swapped::Done
    }
}

#[async_trait]
impl CompareAndSwap for Directory {
    type Version = Vec<u8>;

    async fn load(&self, id: &LockId) -> Result<Loaded<Vec<u8>>, StoreError> {
        let entry = self.read(id).map(|value| Entry::new(value.clone(), value));
        Ok(Loaded::new(entry, machine_clock()))
    }

    async fn swap(&self, id: &LockId, expected: Option<&Vec<u8>>, value: &[u8]) -> Result<Swapped, StoreError> {
        let expected = expected.cloned();
        let mut value = value.to_vec();
        if self.fault == Fault::EndsWithTheProcess {
            let text = String::from_utf8_lossy(&value);
            value = text.replace("conformance suite", &format!("pid {}", std::process::id())).into_bytes();
        }
        Ok(self.replace(id, expected.as_ref(), Some(&value)).await)
    }

    async fn remove(&self, id: &LockId, expected: &Vec<u8>) -> Result<Swapped, StoreError> {
        Ok(self.replace(id, Some(expected), None).await)
    }

    async fn scan(&self, _from: Option<&str>) -> Result<Page<Vec<u8>>, StoreError> {
        let files = fs::read_dir(&self.path).expect("the folder is there").flatten();
        let files = files.filter(|file| !file.file_name().to_string_lossy().contains(['l', 'n']));
        let values = files.filter_map(|file| fs::read(file.path()).ok());
        Ok(Page::last(values.map(|value| Entry::new(value.clone(), value)).collect(), machine_clock()))
    }
}

/// The assertion that failed in a case, if one did. `test` is the test that calls this.
fn failure_of(case: &str, fault: Fault, test: &str) -> Option<String> {
    let open = move |namespace: String| async move { Directory::open(&namespace, fault) };
    let clean = |namespace: String| async move {
        drop(fs::remove_dir_all(std::env::temp_dir().join(format!("db-mutex-directory-{namespace}"))));
    };
    let suite = Suite::new(open).cleanup(clean).test(test);
    crate::found::failure_of(&suite, case)
}

macro_rules! process_saboteurs {
    ($($test:ident: $fault:ident by $case:ident, with $words:literal;)*) => {
        $(
            #[test]
            fn $test() {
                let test = concat!(module_path!(), "::", stringify!($test));
                let message = failure_of(stringify!($case), Fault::$fault, test).expect("the case finds the fault");
                println!("{message}");
                assert!(message.contains($words), "it fails for another reason: {message}");
            }
        )*

        pub(crate) const FINDERS: &[&str] = &[$(stringify!($case)),*];
    };
}

process_saboteurs! {
    a_store_that_excludes_only_within_a_process: ExcludesWithinAProcess by processes_exclude_one_another,
        with "in another process (exit status: 1)";
    a_store_that_remembers_what_it_has_read: RemembersWhatItRead by what_a_process_does_is_seen_by_another,
        with "find MUST show what another process has stored";
    a_store_whose_locks_end_with_their_process: EndsWithTheProcess by a_lease_outlives_its_process,
        with "a lease MUST last its TTL, also when its process was killed";
}

/// In memory nothing is another process's.
#[test]
fn a_store_in_memory() {
    let test = concat!(module_path!(), "::a_store_in_memory");
    let suite = Suite::new(|namespace| async move { crate::open(crate::Fault::None, namespace) }).test(test);
    let message = crate::found::failure_of(&suite, "processes_exclude_one_another").expect("the case finds the fault");
    let expected = "insert_if_absent MUST grant a lock to one owner at a time, however many processes ask (A1)";
    assert!(message.contains(expected), "{message}");
}

macro_rules! right {
    ($($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                let test = concat!(module_path!(), "::", stringify!($test));
                let failure = failure_of(stringify!($test), Fault::None, test);
                assert!(failure.is_none(), "{failure:?}");
            }
        )*
    };
}

/// The directory alone is not what the cases find.
mod without_a_fault {
    use super::{Fault, failure_of};

    right! {
        processes_exclude_one_another
        what_a_process_does_is_seen_by_another
        a_lease_outlives_its_process
    }
}
