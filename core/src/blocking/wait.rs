use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use db_mutex_may_block::{MayBlock, Refused};
use tokio::runtime::Builder;

use crate::engine::Engine;
use crate::{Action, Error, Invalid, LockId, StoreError, StoreErrorKind};

/// How this thread may block.
fn allowed() -> Result<MayBlock, Error> {
    MayBlock::here().map_err(refused)
}

fn refused(refused: Refused) -> Error {
    Invalid::Blocking { reason: refused.to_string() }.into()
}

/// Blocks until `work` on a mutex is done. The background sends its requests, and runs its timers.
///
/// # Errors
/// Those of `work`; [`Error::Invalid`] where blocking could deadlock; [`Error::Store`] if the mutex has no thread.
pub(super) fn wait<T>(
    engine: &Engine,
    about: (Action, Option<&LockId>),
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let (action, lock_id) = about;
    let failed = |source| Error::Store { lock_id: lock_id.cloned(), action, source };
    if let Some(error) = engine.forked() {
        return Err(failed(error));
    }
    let blocking = allowed()?;
    let background = engine.runner.for_blocking().map_err(|error| failed(no_thread().with_source(error)))?;
    let waited = blocking.run(|| {
        let _entered = background.enter();
        block_on(work)
    });
    waited.map_err(refused)?
}

/// Opens a store for blocking code: runs `opening` on a thread with a runtime, which ends with it.
///
/// ```
/// use db_mutex_core::{DbMutex, Error, blocking, testing::MemoryStore};
///
/// fn main() -> Result<(), Error> {
///     // let store = blocking::open(async { SqliteStore::open("locks.db").await })?;
///     let store = blocking::open(async { Ok(MemoryStore::new()) })?;
///     let mutex = DbMutex::new(store)?.blocking();
///     mutex.lock("job").acquire()?.release()
/// }
/// ```
///
/// Connections that `opening` creates end with the runtime. The blocking form of a mutex opens its own. (A store on your
/// application's pool belongs to the runtime that creates it: create it in the runtime of the pool, not here.)
///
/// # Errors
/// [`Error::Connect`] with the error of `opening`, or if no thread can be started; [`Error::Invalid`] where blocking
/// [is refused](crate::blocking#where-it-may-be-called).
pub fn open<S: Send + 'static>(
    opening: impl Future<Output = Result<S, StoreError>> + Send + 'static,
) -> Result<S, Error> {
    let blocking = allowed()?;
    let failed = |source| Error::Connect { source };
    let opened = blocking.run(|| {
        let (done, opened) = mpsc::channel();
        // The runtime is made by the thread, which may also drop it.
        let run = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => drop(done.send(runtime.block_on(opening))),
            Err(error) => drop(done.send(Err(no_thread().with_source(error)))),
        };
        let thread = thread::Builder::new().name("db-mutex-open".into()).spawn(run);
        thread.map_err(|error| failed(no_thread().with_source(error)))?;
        let panicked = || StoreError::new(StoreErrorKind::Other, "the store has panicked");
        opened.recv().unwrap_or_else(|_| Err(panicked())).map_err(failed)
    });
    opened.map_err(refused)?
}

fn no_thread() -> StoreError {
    StoreError::new(StoreErrorKind::Other, "could not start a thread for a blocking call").undone()
}

/// Runs a future on this thread. Other threads do the work that it waits for.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let signal = Arc::new(Signal::default());
    let waker = Waker::from(Arc::clone(&signal));
    // Without the budget of the task that blocks, which is not renewed meanwhile.
    let mut work = pin!(tokio::task::unconstrained(work));
    loop {
        if let Poll::Ready(output) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        signal.wait();
    }
}

/// Wakes the thread that waits for it.
#[derive(Debug, Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn wait(&self) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = self.changed.wait_while(woken, |woken| !*woken);
        *woken.unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
