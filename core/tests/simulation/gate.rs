use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Sleep;

use crate::world::World;

/// A task of a process: it stands still while the process does.
pub(crate) struct Gated<F> {
    world: Arc<World>,
    process: usize,
    task: Pin<Box<F>>,
    gate: Option<Pin<Box<Sleep>>>,
}

impl<F> Gated<F> {
    pub(crate) fn new(world: &Arc<World>, process: usize, task: F) -> Self {
        Self { world: Arc::clone(world), process, task: Box::pin(task), gate: None }
    }
}

impl<F: Future> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        loop {
            if let Some(gate) = &mut self.gate {
                if gate.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.gate = None;
            }
            match self.world.paused_until(self.process) {
                Some(until) => {
                    let pause = until.saturating_sub(self.world.now());
                    self.gate = Some(Box::pin(tokio::time::sleep(pause)));
                }
                None => return self.task.as_mut().poll(cx),
            }
        }
    }
}
