//! The threads of mutexes: when they start, what wakes them, when they end, and what happens where none can be started. Alone
//! in its process, whose threads it counts.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use db_mutex_core::testing::MemoryStore;
use db_mutex_core::{DbMutex, Error, LockId, WaitLimit};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The threads of mutexes in this process.
fn threads() -> Vec<PathBuf> {
    let all = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    all.filter(|thread| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "db-mutex")).collect()
}

/// Waits until there are so many: a thread has its name a little after it was started.
fn wait_for(count: usize) -> Vec<PathBuf> {
    let begun = Instant::now();
    loop {
        let threads = threads();
        if threads.len() == count {
            return threads;
        }
        assert!(begun.elapsed() < 60 * SECOND, "there are {}, not {count}", threads.len());
        thread::sleep(SECOND / 100);
    }
}

/// How often a thread has gone to sleep.
fn sleeps(thread: &Path) -> u64 {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    count.trim().parse().unwrap()
}

#[test]
fn the_thread_of_a_mutex_ends_with_its_last_clone() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = runtime();
    let mutexes: Vec<_> = (0..50)
        .map(|_| {
            let mutex = DbMutex::builder(MemoryStore::new()).keep_alive(true).build().unwrap();
            runtime.block_on(async { mutex.lock("job").acquire().await.unwrap().release().await.unwrap() });
            mutex
        })
        .collect();
    wait_for(50);
    let clones = mutexes.clone();
    drop(mutexes);
    thread::sleep(SECOND / 5);
    assert_eq!(threads().len(), 50);
    drop(clones);
    wait_for(0);
}

#[test]
fn acquiring_and_releasing_starts_and_wakes_no_thread() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mutex = DbMutex::new(MemoryStore::new()).unwrap();
    runtime().block_on(async {
        let pair = async || mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
        pair().await;
        thread::sleep(SECOND / 5);
        assert_eq!(threads(), Vec::<PathBuf>::new());
        let _kept = mutex.lock("kept").ttl(3_600 * SECOND).keep_alive(true).acquire().await.unwrap();
        let thread = wait_for(1).remove(0);
        let (before, begun) = (sleeps(&thread), Instant::now());
        for _ in 0..1_000 {
            pair().await;
        }
        // It looks at the clock once a second, and may just have been started.
        let expected = begun.elapsed().as_secs() + 10;
        let slept = sleeps(&thread) - before;
        assert!(slept <= expected, "a thousand pairs have woken the thread {slept} times");
    });
}

/// In a child process, whose threads would have a stack that has no room in memory.
#[test]
fn where_no_thread_can_be_started_calls_return_errors() {
    const IN_CHILD: &str = "DB_MUTEX_TEST_WITHOUT_THREADS";
    if std::env::var_os(IN_CHILD).is_some() {
        return without_threads();
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "where_no_thread_can_be_started_calls_return_errors", "--nocapture"])
        .env(IN_CHILD, "1")
        .env("RUST_MIN_STACK", (1_u64 << 47).to_string())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && output.contains("without threads"), "{output}");
}

fn without_threads() {
    assert!(thread::Builder::new().spawn(|| ()).is_err(), "a thread can be started");
    println!("without threads");
    #[cfg(feature = "blocking")]
    opening_for_blocking_code_fails();
    let mutex = DbMutex::new(MemoryStore::new()).unwrap();
    let first = runtime();
    let in_time = async |work: &mut (dyn Future<Output = Result<(), Error>> + Unpin)| {
        timeout(60 * SECOND, work).await.expect("it hangs")
    };
    first.block_on(async {
        // What the caller's own runtime does needs none.
        let guard = mutex.lock("job").acquire().await.unwrap();
        let waiting = mutex.lock("job").wait(WaitLimit::Forever);
        let error = in_time(&mut Box::pin(async { waiting.acquire().await.map(drop) })).await.unwrap_err();
        assert!(!error.is_held(), "{error:?}");
        guard.release().await.unwrap();
        drop(mutex.lock("dropped").acquire().await.unwrap());
        assert_eq!(mutex.shutdown(SECOND / 10).await, [LockId::new("dropped").unwrap()]);
    });
    // Calls from another runtime are the background's.
    runtime().block_on(async {
        let lock = mutex.lock("job");
        let error = in_time(&mut Box::pin(async { lock.acquire().await.map(drop) })).await.unwrap_err();
        assert!(matches!(error, Error::Store { .. }), "{error:?}");
    });
}

/// Also where a runtime may not be dropped: in async code.
#[cfg(feature = "blocking")]
fn opening_for_blocking_code_fails() {
    let open = || db_mutex_core::blocking::open(async { Ok(MemoryStore::new()) }).map(drop).unwrap_err();
    assert!(matches!(open(), Error::Connect { .. }));
    let workers = Builder::new_multi_thread().worker_threads(1).thread_stack_size(1 << 20).build().unwrap();
    assert!(matches!(workers.block_on(async { open() }), Error::Connect { .. }));
}
