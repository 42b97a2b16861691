//! Where the engine runs: the only file that spawns tasks and sets timers.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "blocking")]
use tokio::runtime::RuntimeFlavor;
use tokio::runtime::{Builder, Handle, Id, Runtime};
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// How long the background finishes its work after the last clone of a mutex is gone.
const DRAINING: Duration = Duration::from_secs(5);

/// The maximum duration of a timer; longer times use several.
const LONGEST_TIMER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The time source of the engine, which also determines where its background runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// Real time, on a thread of the mutex.
    Real,
    /// Tokio's time, which a test may pause, on the runtime that needs the background first, or on a thread of the mutex
    /// where there is none.
    Tokio,
}

impl Time {
    /// The time now. Comparable across runtimes only if it is real.
    pub(crate) fn now(self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Tokio => tokio::time::Instant::now().into_std(),
        }
    }

    /// Sleeps for at least `duration`.
    pub(crate) async fn sleep(self, duration: Duration) {
        if Handle::try_current().is_err() {
            let (wake, woken) = oneshot::channel();
            let timer = thread::Builder::new().name("db-mutex-timer".into()).spawn(move || {
                thread::sleep(duration);
                let _ = wake.send(());
            });
            match timer {
                Ok(_) => drop(woken.await),
                // Without timers and threads, the only way is to block.
                Err(_) => thread::sleep(duration),
            }
            return;
        }
        let begun = Instant::now();
        let mut left = duration;
        loop {
            tokio::time::sleep(left).await;
            // If a test has paused tokio's time, it jumps from timer to timer, while the store works in real time.
            left = duration.saturating_sub(begun.elapsed());
            if left.is_zero() || self == Self::Tokio {
                return;
            }
        }
    }

    /// Waits for `work` for at most `limit`; `None` if that was not enough. Work that is done is never late.
    pub(crate) async fn within<T>(self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        // Without a runtime there are no timers.
        if Handle::try_current().is_err() {
            return Some(work.await);
        }
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(limit) => None,
        }
    }
}

/// Limits the time of calls.
///
/// A limit is hardly ever reached, so its timer is kept and reset for the next call. That costs next to nothing, while a
/// new timer wakes the thread that waits for the runtime's next timer.
#[derive(Debug)]
pub(crate) struct Limiter {
    time: Time,
    kept: Mutex<Vec<Timer>>,
}

/// A timer, and the runtime that it belongs to.
#[derive(Debug)]
struct Timer {
    runtime: Id,
    sleep: Pin<Box<Sleep>>,
}

impl Limiter {
    /// The maximum number of timers that are kept.
    const KEPT: usize = 16;

    pub(crate) fn new(time: Time) -> Self {
        Self { time, kept: Mutex::default() }
    }

    /// Waits for `work` for at most `limit`, as [`Time::within`] does.
    pub(crate) async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let Some(runtime) = self.runtime() else { return self.time.within(limit, work).await };
        let mut timer = None;
        let done = tokio::select! {
            biased;
            done = work => Some(done),
            () = async { after(limit, timer.insert(self.timer(runtime)).sleep.as_mut()).await } => None,
        };
        if let Some(timer) = timer {
            self.keep(timer);
        }
        done
    }

    /// The runtime in which timers are kept: only where time is real.
    fn runtime(&self) -> Option<Id> {
        if self.time == Time::Tokio {
            return None;
        }
        Handle::try_current().ok().map(|runtime| runtime.id())
    }

    fn timer(&self, runtime: Id) -> Timer {
        // A timer of another runtime, which may have ended, is dropped.
        let kept = self.kept().pop().filter(|kept| kept.runtime == runtime);
        kept.unwrap_or_else(|| Timer { runtime, sleep: Box::pin(tokio::time::sleep(Duration::ZERO)) })
    }

    fn keep(&self, timer: Timer) {
        let mut kept = self.kept();
        if kept.len() < Self::KEPT {
            kept.push(timer);
        }
    }

    /// Nothing that can panic runs under this mutex.
    fn kept(&self) -> MutexGuard<'_, Vec<Timer>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits by a timer, as [`Time::sleep`] does.
async fn after(duration: Duration, mut timer: Pin<&mut Sleep>) {
    let begun = Instant::now();
    let mut left = duration;
    while !left.is_zero() {
        timer.as_mut().reset(tokio::time::Instant::now() + left.min(LONGEST_TIMER));
        timer.as_mut().await;
        left = duration.saturating_sub(begun.elapsed());
    }
}

/// Runs tasks to their end, even if their callers are gone.
#[derive(Debug, Clone)]
pub(crate) enum Driver {
    /// The runtime in which the mutex was first used.
    Foreground(Arc<Home>),
    /// The background.
    Background(Arc<Background>),
}

impl Driver {
    /// Runs `task`, or drops it if there is no runtime for it any more.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Foreground(home) => home.spawn(task),
            Self::Background(background) => background.spawn(task),
        }
    }

    /// A future that a task of the caller polls in place of [`spawn`](Self::spawn). In a simulation it ends with the runtime.
    pub(crate) fn bound(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self {
            Self::Foreground(home) if home.ends.is_some() => {
                let ends = home.ends.clone().unwrap_or_default();
                Box::pin(async move {
                    let _: Option<()> = ends.run_until_cancelled_owned(task).await;
                })
            }
            _ => Box::pin(task),
        }
    }

    /// Whether it is the foreground.
    pub(crate) fn is_foreground(&self) -> bool {
        matches!(self, Self::Foreground(_))
    }

    /// Whether it runs the current task. The first runtime that asks becomes the foreground.
    pub(crate) fn is_here(&self) -> bool {
        let Ok(current) = Handle::try_current() else { return false };
        let runtime = match self {
            Self::Foreground(home) => home.runtime(&current),
            Self::Background(background) => background.runtime(),
        };
        runtime == Some(current.id())
    }
}

/// The runtime in which a mutex was first used.
#[derive(Debug)]
pub(crate) struct Home {
    runtime: OnceLock<Handle>,
    background: Arc<Background>,
    /// Ends it in a simulation, which has a single runtime.
    ends: Option<CancellationToken>,
}

impl Home {
    pub(crate) fn new(background: Arc<Background>, ends: Option<CancellationToken>) -> Self {
        Self { runtime: OnceLock::new(), background, ends }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Some(runtime) = self.runtime.get() else { return };
        match self.ends.clone() {
            None => drop(runtime.spawn(task)),
            Some(ends) => drop(runtime.spawn(async move {
                let _: Option<()> = ends.run_until_cancelled_owned(task).await;
            })),
        }
    }

    /// The runtime; `current` becomes it if there is none yet, unless it is the thread of the background.
    fn runtime(&self, current: &Handle) -> Option<Id> {
        let has_ended = self.ends.as_ref().is_some_and(CancellationToken::is_cancelled);
        if has_ended || self.runtime.get().is_none() && self.background.is_thread_of(current) {
            return None;
        }
        Some(self.runtime.get_or_init(|| current.clone()).id())
    }
}

/// A thread with a runtime, for work that neither blocking code nor the end of another runtime may delay. It starts when it
/// is first needed, and again if it has ended.
pub(crate) struct Background {
    time: Time,
    running: Mutex<Option<Running>>,
    closed: AtomicBool,
}

struct Running {
    runtime: Handle,
    /// Whether a thread of the mutex runs it, and not the user's test.
    has_thread: bool,
    /// Alive as long as the runtime is.
    alive: Weak<()>,
    /// Takes the work after which the background ends.
    closing: Option<oneshot::Sender<Work>>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Background {
    pub(crate) fn new(time: Time) -> Self {
        Self { time, running: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Runs `task`, and starts the background if it does not run; drops the task if that fails.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self.started() {
            Ok(runtime) => drop(runtime.spawn(task)),
            Err(error) => tracing::error!(%error, "the background of a mutex could not be started"),
        }
    }

    /// Starts the background while the current runtime is available, before it is needed where there is none.
    pub(crate) fn prepare(&self) {
        if self.time == Time::Tokio {
            let _ = self.started();
        }
    }

    /// Whether `runtime` is run by the thread of the mutex.
    fn is_thread_of(&self, runtime: &Handle) -> bool {
        self.running().as_ref().is_some_and(|running| running.has_thread && running.runtime.id() == runtime.id())
    }

    /// The runtime of the background, for a thread that blocks until the background has replied. Starts it if it is not
    /// running.
    #[cfg(feature = "blocking")]
    pub(crate) fn for_blocking(&self) -> io::Result<Handle> {
        let runtime = self.started()?;
        // In a test it may be a runtime that nothing runs until this thread goes on. In `spawn_blocking` this thread has a task;
        // where it has only entered the runtime it has none, and perhaps the runtime has no one who runs it.
        let is_run = |current: Handle| {
            let has_workers = current.runtime_flavor() == RuntimeFlavor::MultiThread;
            current.id() == runtime.id() && (has_workers || tokio::task::try_id().is_some())
        };
        if self.is_thread_of(&runtime) || Handle::try_current().is_ok_and(is_run) {
            return Ok(runtime);
        }
        Err(io::Error::other(
            "a mutex on the clock of a test belongs to the runtime that has used it first, and blocks in \
             `tokio::task::spawn_blocking` there only",
        ))
    }

    fn started(&self) -> io::Result<Handle> {
        let mut running = self.running();
        if running.as_ref().is_none_or(|running| running.alive.strong_count() == 0) {
            if self.closed.load(Ordering::SeqCst) {
                return Err(io::Error::other("the mutex is gone"));
            }
            *running = Some(self.start()?);
        }
        running.as_ref().map(|running| running.runtime.clone()).ok_or_else(|| io::Error::other("it has ended"))
    }

    /// Ends the background after `work`, or after five seconds. Never blocks.
    pub(crate) fn close(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.closed.store(true, Ordering::SeqCst);
        let closing = self.running().as_mut().and_then(|running| running.closing.take());
        if let Some(closing) = closing {
            let _ = closing.send(Box::pin(work));
        }
    }

    fn runtime(&self) -> Option<Id> {
        self.running().as_ref().map(|running| running.runtime.id())
    }

    fn start(&self) -> io::Result<Running> {
        let (closing, closed) = oneshot::channel::<Work>();
        let alive = Arc::new(());
        let until_closed = |alive| async move {
            let _alive: Arc<()> = alive;
            if let Ok(work) = closed.await {
                let _ = tokio::time::timeout(DRAINING, work).await;
            }
        };
        if self.time == Time::Tokio
            && let Ok(runtime) = Handle::try_current()
        {
            let weak = Arc::downgrade(&alive);
            runtime.spawn(until_closed(alive));
            return Ok(Running { runtime, has_thread: false, alive: weak, closing: Some(closing) });
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, weak) = (runtime.handle().clone(), Arc::downgrade(&alive));
        // Kept here too: if no thread can be started it may not be dropped, which blocks.
        let runtime = Arc::new(Mutex::new(Some(runtime)));
        let of_thread = Arc::clone(&runtime);
        let run = move || {
            let runtime = of_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(runtime) = runtime {
                runtime.block_on(until_closed(alive));
            }
        };
        if let Err(error) = thread::Builder::new().name("db-mutex".into()).spawn(run) {
            let unused = runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
            unused.into_iter().for_each(Runtime::shutdown_background);
            return Err(error);
        }
        Ok(Running { runtime: handle, has_thread: true, alive: weak, closing: Some(closing) })
    }

    /// Nothing that can panic runs under this mutex.
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").field("time", &self.time).finish_non_exhaustive()
    }
}
