//! Where the blocking form is called from.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;

use db_mutex::admin::ListFilter;
use db_mutex::{Error, WaitLimit, blocking};
use tokio::task::{LocalSet, spawn, spawn_blocking};

use crate::{Made, SECOND, current_thread, is_refused, multi_thread, watched};

/// Every method, and a lock that another thread releases.
fn everything(mutex: &blocking::DbMutex) {
    let lock = mutex.lock("job");
    let guard = lock.acquire().unwrap();
    assert!(guard.is_valid());
    assert!(lock.try_acquire().unwrap_err().is_held());
    assert!(lock.clone().wait(SECOND / 10).acquire().unwrap_err().is_held());
    assert!(mutex.run_or_skip("job", |_| ()).unwrap().is_none());
    guard.extend(3_600 * SECOND).unwrap();
    guard.ensure(7_200 * SECOND).unwrap();
    guard.until_expiring(10_000 * SECOND).unwrap();
    let resumed = lock.resume(guard.into_owner_token()).unwrap();
    let releasing = thread::spawn(move || {
        thread::sleep(SECOND / 5);
        resumed.release()
    });
    let waited = lock.clone().wait(WaitLimit::Forever).keep_alive(true).acquire().unwrap();
    releasing.join().unwrap().unwrap();
    assert_eq!(mutex.find("job").unwrap().unwrap().fence, waited.fence());
    assert_eq!(mutex.list(&ListFilter::taken()).unwrap().len(), 1);
    assert!(mutex.force_release("job").unwrap());
    assert!(waited.extend(60 * SECOND).unwrap_err().is_lost());
    assert_eq!(waited.lost().unwrap(), waited.lost_reason().unwrap());
    assert!(waited.release().unwrap_err().is_lost());
    assert!(mutex.run("job", |guard| guard.is_valid()).unwrap());
    assert_eq!(mutex.run_or_skip("job", |_| 42).unwrap(), Some(42));
    mutex.purge_expired(SECOND).unwrap();
    drop(lock.acquire().unwrap());
    assert_eq!(mutex.shutdown(30 * SECOND).unwrap(), []);
    assert!(mutex.list(&ListFilter::taken()).unwrap().is_empty());
    assert!(mutex.lock("").acquire().unwrap_err().is_invalid());
}

/// Every method that blocks is refused, and changes nothing.
fn everything_is_refused(mutex: &blocking::DbMutex) {
    let lock = mutex.lock("refused");
    let refused = |error: Error| assert!(is_refused(&error), "{error:?}");
    refused(lock.acquire().unwrap_err());
    refused(lock.try_acquire().unwrap_err());
    refused(mutex.run("refused", |_| panic!("it runs")).unwrap_err().into());
    refused(mutex.run_or_skip("refused", |_| panic!("it runs")).unwrap_err().into());
    refused(mutex.find("refused").unwrap_err());
    refused(mutex.list(&ListFilter::all()).unwrap_err());
    refused(mutex.force_release("refused").unwrap_err());
    refused(mutex.purge_expired(SECOND).unwrap_err());
    refused(mutex.shutdown(SECOND).unwrap_err());
    refused(blocking::connect("sqlite::memory:").map(drop).unwrap_err());
}

/// Calls in its `Drop`.
struct Calls<F: FnMut()>(F);

impl<F: FnMut()> Drop for Calls<F> {
    fn drop(&mut self) {
        self.0();
    }
}

fn a_plain_thread(made: Made) {
    everything(&made.mutex);
}

fn many_threads(made: Made) {
    let counter = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let count = |_: &_| counter.store(counter.load(SeqCst) + 1, SeqCst);
                    made.mutex.lock("counter").wait(50 * SECOND).run(count).unwrap();
                }
            });
        }
    });
    assert_eq!(counter.into_inner(), 200);
}

fn a_current_thread_runtime(made: Made) {
    let mutex = &made.mutex;
    current_thread().block_on(async {
        everything_is_refused(mutex);
        let task = mutex.clone();
        spawn(async move { everything_is_refused(&task) }).await.unwrap();
        LocalSet::new().run_until(async { everything_is_refused(mutex) }).await;
        tokio::task::unconstrained(async { everything_is_refused(mutex) }).await;
        // The async form of the same mutex works here.
        (**mutex).run("job", async |_| ()).await.unwrap();
    });
    assert!(mutex.find("refused").unwrap().is_none(), "nothing was sent");
    everything(mutex);
}

fn a_multi_thread_runtime(made: Made) {
    // The only worker has other things to do too.
    let (runtime, mutex) = (multi_thread(1), made.mutex.clone());
    runtime.block_on(async move {
        everything(&mutex);
        let (task, local) = (mutex.clone(), mutex.clone());
        spawn(async move { everything(&task) }).await.unwrap();
        LocalSet::new().run_until(async { everything(&local) }).await;
        let nested = mutex.clone();
        spawn(async move { tokio::task::block_in_place(|| everything(&nested)) }).await.unwrap();
        // The holder is a task of the same worker.
        let held = (*mutex).lock("job").acquire().await.unwrap();
        let waiting = spawn(async move {
            spawn(async move {
                tokio::time::sleep(SECOND / 5).await;
                held.release().await.unwrap();
            });
            mutex.lock("job").wait(WaitLimit::Forever).acquire().unwrap().release().unwrap();
        });
        waiting.await.unwrap();
    });
}

/// Tokio's own futures are not ready any more in a task that has used up its budget, until it yields.
fn a_task_without_budget(made: Made) {
    multi_thread(1).block_on(std::future::poll_fn(|context| {
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        (0..1_000).for_each(|number| send.send(number).unwrap());
        while receive.poll_recv(context).is_ready() {}
        everything(&made.mutex);
        std::task::Poll::Ready(())
    }));
}

/// More callers than workers.
fn all_workers_of_a_runtime(made: Made) {
    let runtime = multi_thread(2);
    runtime.block_on(async {
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let lock = made.mutex.lock("job").wait(50 * SECOND);
                spawn(async move { lock.run(|_| thread::sleep(SECOND / 100)) })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
}

fn spawn_blocking_of_each_runtime(made: Made) {
    for runtime in [current_thread(), multi_thread(1)] {
        let mutex = made.mutex.clone();
        runtime.block_on(async move {
            let blocking = mutex.clone();
            spawn_blocking(move || everything(&blocking)).await.unwrap();
            // The holder is in the runtime.
            let held = (*mutex).lock("job").acquire().await.unwrap();
            let waiting = spawn_blocking(move || mutex.lock("job").wait(WaitLimit::Forever).run(|_| ()));
            tokio::time::sleep(SECOND / 5).await;
            held.release().await.unwrap();
            waiting.await.unwrap().unwrap();
        });
    }
}

fn a_drop(made: Made) {
    let mutex = &made.mutex;
    drop(Calls(|| everything(mutex)));
    let unwinding = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _calls = Calls(|| everything(mutex));
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert_eq!(*unwinding.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    current_thread().block_on(async { drop(Calls(|| everything_is_refused(mutex))) });
    multi_thread(1).block_on(async { drop(Calls(|| everything(mutex))) });
    let task = made.mutex.clone();
    multi_thread(1).block_on(async { spawn(async move { drop(Calls(|| everything(&task))) }).await.unwrap() });
}

type OnExit = Box<dyn FnMut()>;

/// The destructors of a thread's own values run when tokio's are gone, or not: neither may panic.
fn a_thread_that_ends(made: Made) {
    thread_local! {
        static LATE: RefCell<Option<Calls<OnExit>>> = const { RefCell::new(None) };
    }
    let (send, ended) = channel();
    let mutex = made.mutex.clone();
    let calls = move || send.send(mutex.lock("job").acquire().map(drop)).unwrap();
    let thread = thread::spawn(move || {
        LATE.with(|late| *late.borrow_mut() = Some(Calls(Box::new(calls))));
        let _ = tokio::runtime::Handle::try_current();
    });
    thread.join().unwrap();
    if let Err(error) = ended.recv().unwrap() {
        assert!(error.to_string().contains("the thread is ending"), "{error}");
    }
}

/// A guard goes where blocking is refused: its release is, and happens all the same.
fn a_guard_in_a_current_thread_runtime(made: Made) {
    let (released, dropped) =
        (made.mutex.lock("released").acquire().unwrap(), made.mutex.lock("dropped").acquire().unwrap());
    let kept = made.mutex.lock("kept").acquire().unwrap();
    current_thread().block_on(async {
        assert!(is_refused(&released.release().unwrap_err()));
        drop(dropped);
        assert!(is_refused(&kept.extend(60 * SECOND).unwrap_err()));
        assert!(is_refused(&kept.lost().unwrap_err()));
        assert!(kept.is_valid());
        // The async form of it works.
        db_mutex::Guard::from(kept).release().await.unwrap();
    });
    assert_eq!(made.mutex.shutdown(30 * SECOND).unwrap(), []);
    assert!(made.mutex.list(&ListFilter::taken()).unwrap().is_empty());
}

/// An async job and one that blocks exclude each other, and wait for each other.
fn both_forms_of_a_mutex(made: Made) {
    let asynchronous = made.mutex.clone();
    let (held, is_held) = channel();
    let thread = thread::spawn(move || {
        current_thread().block_on(async {
            let guard = (*asynchronous).lock("job").acquire().await.unwrap();
            held.send(()).unwrap();
            tokio::time::sleep(SECOND / 5).await;
            guard.release().await.unwrap();
        });
    });
    is_held.recv().unwrap();
    assert!(made.mutex.lock("job").acquire().unwrap_err().is_held());
    made.mutex.lock("job").wait(50 * SECOND).acquire().unwrap().release().unwrap();
    thread.join().unwrap();
}

macro_rules! tests {
    ($($name:ident = $make:expr;)*) => {
        $(mod $name {
            use super::*;

            tests! {
                $make => a_plain_thread many_threads a_current_thread_runtime a_multi_thread_runtime a_task_without_budget
                all_workers_of_a_runtime spawn_blocking_of_each_runtime a_drop a_thread_that_ends
                a_guard_in_a_current_thread_runtime both_forms_of_a_mutex
            }
        })*
    };
    ($make:expr => $($situation:ident)*) => {
        $(#[test]
        fn $situation() {
            watched(|| super::$situation($make));
        })*
    };
}

tests! {
    memory = crate::memory();
    sqlite = crate::sqlite();
    sqlite_of_an_idle_runtime = crate::sqlite_of_an_idle_runtime();
}

#[cfg(all(feature = "postgres", feature = "mysql"))]
tests! {
    postgres = crate::of_server("postgres");
    postgres_of_an_idle_runtime = crate::of_server_and_an_idle_runtime("postgres");
    mariadb = crate::of_server("mariadb");
    mariadb_of_an_idle_runtime = crate::of_server_and_an_idle_runtime("mariadb");
}

/// The runtime that a thread has entered is not always the one that it drives.
#[test]
fn a_runtime_that_is_entered_in_async_code_of_another() {
    watched(|| {
        let (made, other) = (crate::memory(), multi_thread(1));
        current_thread().block_on(async {
            let _entered = other.enter();
            everything_is_refused(&made.mutex);
        });
        assert!(made.mutex.find("refused").unwrap().is_none(), "nothing was sent");
        // A panic of the work is passed on as it is.
        let lock = made.mutex.lock("job");
        let panics = other.spawn(async move { lock.run(|_| std::panic::resume_unwind(Box::new("on purpose"))) });
        let panicked = other.block_on(panics).map(drop).unwrap_err().into_panic();
        assert_eq!(*panicked.downcast::<&str>().unwrap(), "on purpose");
    });
}

/// As users write them: a test without a runtime.
#[test]
fn a_test_without_a_runtime() {
    let mutex = blocking::connect("sqlite::memory:").unwrap();
    everything(&mutex);
}
