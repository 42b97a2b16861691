//! Whether a thread may block, for the feature `blocking` of [db-mutex](https://docs.rs/db-mutex).
//!
//! It is a separate crate, so that only programs with that feature need tokio 1.54, the first version that reports whether
//! a thread drives a runtime.

#![cfg_attr(docsrs, feature(doc_cfg))]

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::runtime::{Handle, RuntimeFlavor, worker_index};
use tokio::task::block_in_place;

/// How a thread may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayBlock {
    /// It may just block: no task of a runtime depends on it.
    Plain,
    /// It is a worker of a multi-thread runtime, whose other tasks move to another thread first.
    Worker,
}

/// Why a thread may not block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It drives a current-thread runtime, in which nothing else would go on.
    CurrentThread,
    /// It has entered a multi-thread runtime, and is none of its workers.
    Entered,
    /// It is ending: tokio's part of it is gone.
    Ending,
}

impl MayBlock {
    /// Returns how this thread may block. In `spawn_blocking`, and in what the `block_on` of a multi-thread runtime runs, it is
    /// not a worker.
    ///
    /// # Errors
    /// It may not.
    pub fn here() -> Result<Self, Refused> {
        match Handle::try_current() {
            Err(error) if error.is_thread_local_destroyed() => Err(Refused::Ending),
            Err(_) => Ok(Self::Plain),
            Ok(_) if worker_index().is_none() => Ok(Self::Plain),
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => Ok(Self::Worker),
            Ok(_) => Err(Refused::CurrentThread),
        }
    }

    /// Runs code that blocks.
    ///
    /// # Errors
    /// [`Refused::Entered`]; the code has not run. This is found out only here, because tokio says which runtime a thread has
    /// entered, and that it drives one, but not which one: with the handle of another runtime entered in async code of a
    /// current-thread runtime they differ, and tokio panics. The message of that panic is printed, too.
    pub fn run<T>(self, block: impl FnOnce() -> T) -> Result<T, Refused> {
        if self == Self::Plain {
            return Ok(block());
        }
        let mut has_begun = false;
        let in_place = AssertUnwindSafe(|| {
            block_in_place(|| {
                has_begun = true;
                block()
            })
        });
        catch_unwind(in_place).or_else(|panic| if has_begun { resume_unwind(panic) } else { Err(Refused::Entered) })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CurrentThread => {
                "this is async code of a current-thread runtime, which would stand still; use the async form, or call it in \
                 `tokio::task::spawn_blocking`"
            }
            Self::Entered => {
                "tokio does not let this thread block: it has entered a multi-thread runtime, perhaps in async code of another \
                 one, which would stand still; use the async form, or call it in `tokio::task::spawn_blocking`"
            }
            Self::Ending => "the thread is ending; do it before",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::runtime::{Builder, LocalOptions, Runtime};
    use tokio::task::{LocalSet, spawn, spawn_blocking, yield_now};

    fn current_thread() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    fn multi_thread() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    async fn in_task() -> Result<MayBlock, Refused> {
        spawn(async { MayBlock::here() }).await.unwrap()
    }

    async fn in_spawn_blocking() -> Result<MayBlock, Refused> {
        spawn_blocking(MayBlock::here).await.unwrap()
    }

    #[test]
    fn threads_without_a_runtime_may() {
        assert_eq!(MayBlock::here(), Ok(MayBlock::Plain));
        let runtime = current_thread();
        let _entered = runtime.enter();
        assert_eq!(MayBlock::here(), Ok(MayBlock::Plain), "nothing runs there");
    }

    #[test]
    fn a_current_thread_runtime_may_in_spawn_blocking_only() {
        current_thread().block_on(async {
            assert_eq!(MayBlock::here(), Err(Refused::CurrentThread));
            assert_eq!(in_task().await, Err(Refused::CurrentThread));
            assert_eq!(tokio::task::unconstrained(async { MayBlock::here() }).await, Err(Refused::CurrentThread));
            assert_eq!(in_spawn_blocking().await, Ok(MayBlock::Plain));
            let local = LocalSet::new();
            assert_eq!(local.run_until(async { MayBlock::here() }).await, Err(Refused::CurrentThread));
        });
        let local = Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        assert_eq!(local.block_on(async { MayBlock::here() }), Err(Refused::CurrentThread));
    }

    #[test]
    fn a_multi_thread_runtime_may_and_never_panics() {
        let here = || {
            let may = MayBlock::here();
            may.unwrap().run(|| ()).unwrap();
            may
        };
        multi_thread().block_on(async move {
            assert_eq!(here(), Ok(MayBlock::Plain));
            assert_eq!(LocalSet::new().run_until(async { here() }).await, Ok(MayBlock::Plain));
            assert_eq!(in_spawn_blocking().await, Ok(MayBlock::Plain));
            let nested = spawn(async move {
                let nested = block_in_place(here);
                yield_now().await;
                (nested, here())
            });
            assert_eq!(nested.await.unwrap(), (Ok(MayBlock::Plain), Ok(MayBlock::Worker)));
        });
    }

    #[test]
    fn a_thread_that_is_no_worker_of_the_runtime_that_it_has_entered_may_not() {
        let (other, mut has_run) = (multi_thread(), false);
        current_thread().block_on(async {
            let _entered = other.enter();
            let refused = MayBlock::here().unwrap().run(|| has_run = true);
            assert_eq!(refused, Err(Refused::Entered));
        });
        assert!(!has_run);
    }

    #[test]
    fn a_panic_of_the_code_is_passed_on() {
        multi_thread().block_on(async {
            let panics = spawn(async { MayBlock::here().unwrap().run(|| resume_unwind(Box::new("on purpose"))) });
            let panicked: Result<Result<(), Refused>, _> = panics.await;
            assert_eq!(*panicked.unwrap_err().into_panic().downcast::<&str>().unwrap(), "on purpose");
        });
    }

    /// The task that it waits for is another of the only worker.
    #[test]
    fn the_other_tasks_of_a_worker_go_on() {
        multi_thread().block_on(async {
            let task = spawn(async {
                let (send, receive) = std::sync::mpsc::channel();
                spawn(async move { send.send(42) });
                MayBlock::here().unwrap().run(|| receive.recv_timeout(std::time::Duration::from_secs(60)))
            });
            assert_eq!(task.await.unwrap(), Ok(Ok(42)));
        });
    }
}
