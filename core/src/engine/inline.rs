//! A call that runs in its caller's task: no separate task, and no switch between threads.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::runtime::Driver;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call that its caller polls while it waits for the answer.
///
/// The call does not depend on the caller: it moves to a separate task if the caller is dropped or moves to another
/// runtime, and after a while in any case (see [`Dispatch`](super::dispatch::Dispatch)).
pub(crate) struct InlineCall {
    driver: Driver,
    /// The process in which it was made.
    process: u32,
    state: Mutex<State>,
}

enum State {
    /// No one polls the call at this moment.
    Resting(Call),
    /// The caller polls it, and hands it over afterwards if that is set.
    Polled { hand_over: bool },
    /// It has ended, or runs in a separate task.
    Gone,
}

impl InlineCall {
    pub(crate) fn new(driver: Driver, call: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        let call = driver.bound(call);
        Arc::new(Self { driver, process: std::process::id(), state: Mutex::new(State::Resting(call)) })
    }

    /// Polls the call; whether the caller need not poll it again.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> bool {
        if !self.driver.is_here() {
            self.hand_over();
            return true;
        }
        let mut state = self.state();
        let mut call = match std::mem::replace(&mut *state, State::Polled { hand_over: false }) {
            State::Resting(call) => call,
            other => {
                *state = other;
                return true;
            }
        };
        drop(state);
        // As in a separate task, a panic of the store does not reach the caller. The call reports it when it is dropped.
        let ended = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        let mut state = self.state();
        if !matches!(ended, Ok(Poll::Pending)) {
            *state = State::Gone;
            return true;
        }
        if !matches!(*state, State::Polled { hand_over: false }) {
            *state = State::Gone;
            drop(state);
            self.driver.spawn(call);
            return true;
        }
        *state = State::Resting(call);
        false
    }

    /// Whether this process is a forked child of the one that made it.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Moves the call to a separate task.
    pub(crate) fn hand_over(&self) {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Resting(call) => {
                drop(state);
                self.driver.spawn(call);
            }
            State::Polled { .. } => *state = State::Polled { hand_over: true },
            State::Gone => {}
        }
    }

    /// Nothing that can panic runs under this mutex.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for InlineCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineCall").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Job;
    use std::future::poll_fn;

    use tokio::runtime::{Builder, Handle, Id};

    use super::super::runtime::{Background, Home, Time};
    use super::*;
    use crate::{DeleteRequest, LockId, OwnerToken};

    /// The connections of a store belong to the runtime that they were opened in.
    #[test]
    fn a_call_is_polled_in_its_runtime_alone() {
        let polled_in: Arc<Mutex<Vec<Id>>> = Arc::default();
        let noted = Arc::clone(&polled_in);
        let home = Home::new(Arc::new(Background::new(Time::Real)), None);
        let driver = Driver::Foreground(Arc::new(home));
        let call = poll_fn(move |_| {
            noted.lock().unwrap().push(Handle::current().id());
            Poll::Pending
        });
        let call = InlineCall::new(driver, call);
        let poll = || poll_fn(|context| Poll::Ready(call.poll(context)));
        let first = Builder::new_current_thread().build().unwrap();
        assert!(!first.block_on(poll()), "its runtime polls it");
        let second = Builder::new_current_thread().build().unwrap();
        assert!(second.block_on(poll()), "another runtime hands it over");
        first.block_on(tokio::task::yield_now());
        assert_eq!(*polled_in.lock().unwrap(), [first.handle().id(); 2]);
    }

    /// What becomes of a call when its caller is dropped in this process, and in a child that was forked from it.
    fn dropped_in(process: u32) -> (bool, Arc<()>) {
        let kept = Arc::new(());
        let of_call = Arc::clone(&kept);
        let driver = Driver::Background(Arc::new(Background::new(Time::Real)));
        let call = Box::pin(async move {
            let _kept = of_call;
            std::future::pending().await
        });
        let call = Arc::new(InlineCall { driver: driver.clone(), process, state: Mutex::new(State::Resting(call)) });
        let request = DeleteRequest::by_owner(LockId::new("job").unwrap(), OwnerToken::from_bytes([1; 16]));
        let (_job, mut asked) = Job::new(request, std::time::Duration::MAX);
        asked.poll_inline(Arc::clone(&call));
        drop(asked);
        let was_handed_over = matches!(*call.state(), State::Gone);
        (was_handed_over, kept)
    }

    /// There a mutex of tokio may be held by a thread that is not there.
    #[test]
    fn a_forked_child_neither_hands_a_call_over_nor_drops_it() {
        assert!(dropped_in(std::process::id()).0);
        let (was_handed_over, kept) = dropped_in(std::process::id() + 1);
        assert_eq!((was_handed_over, Arc::strong_count(&kept)), (false, 2));
    }
}
