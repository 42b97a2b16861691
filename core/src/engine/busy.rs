use std::time::Duration;

use tokio::time::Instant;

use crate::engine::jitter::random_between;
use crate::{StoreError, StoreErrorKind};

/// Repeats a request that the store could not decide because the row was locked: after 2 ms, doubling to 50 ms.
#[derive(Debug)]
pub(crate) struct WhileBusy {
    until: Instant,
    pause: Duration,
}

impl WhileBusy {
    const FIRST: Duration = Duration::from_millis(2);
    const LONGEST: Duration = Duration::from_millis(50);

    /// Repeats for at most `limit` from now on.
    pub(crate) fn at_most(limit: Duration) -> Self {
        Self { until: Instant::now() + limit, pause: Self::FIRST }
    }

    /// Whether to send the request again after this error; if so, sleeps until then.
    pub(crate) async fn repeats(&mut self, error: &StoreError) -> bool {
        if error.kind() != StoreErrorKind::Busy || Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(self.pause.mul_f64(random_between(0.5, 1.0))).await;
        self.pause = (self.pause * 2).min(Self::LONGEST);
        true
    }
}
