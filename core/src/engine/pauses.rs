use std::time::Duration;

use super::jitter::Jitter;

/// The pauses between attempts. They grow, and are random within bounds, so that many clients do not send at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
    factor: f64,
}

impl Pauses {
    /// Between requests for a held lock.
    pub(crate) fn while_held() -> Self {
        Self::new(20, 500, 1.5)
    }

    /// Between attempts on a locked row.
    pub(crate) fn while_busy() -> Self {
        Self::new(2, 50, 2.0)
    }

    /// Between attempts on a failing store.
    pub(crate) fn while_failing() -> Self {
        Self::new(50, 5_000, 2.0)
    }

    fn new(first_ms: u64, longest_ms: u64, factor: f64) -> Self {
        Self { next: Duration::from_millis(first_ms), longest: Duration::from_millis(longest_ms), factor }
    }

    /// The next pause: between half of its maximum and its maximum.
    pub(crate) fn next(&mut self, jitter: &Jitter) -> Duration {
        let pause = self.next.mul_f64(jitter.between(0.5, 1.0));
        self.next = self.next.mul_f64(self.factor).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let (mut pauses, jitter) = (Pauses::while_held(), Jitter::default());
        assert!(pauses.next(&jitter) <= Duration::from_millis(20));
        let later: Vec<_> = (0..20).map(|_| pauses.next(&jitter)).collect();
        assert!(later.iter().all(|pause| *pause <= Duration::from_millis(500)), "{later:?}");
        assert!(later[19] >= Duration::from_millis(250), "{later:?}");
    }
}
