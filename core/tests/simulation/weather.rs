use std::time::Duration;

use crate::random::Random;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done and answered.
    None,
    /// It fails, and nothing was done.
    Fails,
    /// It is done, and the reply is lost.
    ReplyLost,
    /// It arrives that much later.
    Slow(Duration),
    /// It is done, and the reply comes that much later.
    ReplyLate(Duration),
    /// There is no reply until the store's own limit for a statement; it was done or not.
    Hangs { done: bool },
}

/// How the store does in one run.
#[derive(Debug)]
pub(crate) struct Weather {
    /// The TTL, in milliseconds, around which the times of the run are drawn.
    pub(crate) scale: u64,
    /// By how much the store's clock may still step forward: less than the margin of every TTL, all steps together.
    pub(crate) step_budget_ms: u64,
    faults_percent: u64,
    calm_from: Duration,
    outages: Vec<(Duration, Duration)>,
}

impl Weather {
    /// After so long a store gives a statement up.
    pub(crate) const STATEMENT_LIMIT: Duration = Duration::from_secs(10);

    pub(crate) fn draw(random: &mut Random) -> Self {
        let scale = random.pick(&[200, 1_000, 4_000, 20_000]);
        let calm_from = random.millis(0, 12 * scale);
        let outages = (0..random.below(3)).map(|_| {
            let from = random.millis(0, 6 * scale);
            (from, from + random.millis(1, 2 * scale))
        });
        let outages = outages.collect();
        let faults_percent = random.pick(&[0, 3, 10, 30]);
        Self { scale, step_budget_ms: 90, faults_percent, calm_from, outages }
    }

    /// From now on the store does what it should.
    pub(crate) fn clear(&mut self) {
        self.calm_from = Duration::ZERO;
    }

    pub(crate) fn next_fault(&self, now: Duration, random: &mut Random) -> Fault {
        if now >= self.calm_from {
            return Fault::None;
        }
        let out = self.outages.iter().any(|(from, to)| (*from..*to).contains(&now));
        if out {
            return if random.chance(80) { Fault::Fails } else { Fault::Hangs { done: false } };
        }
        if !random.chance(self.faults_percent) {
            return Fault::None;
        }
        match random.below(100) {
            0..20 => Fault::Fails,
            20..45 => Fault::ReplyLost,
            45..60 => Fault::Slow(random.millis(3, self.scale)),
            60..90 => Fault::ReplyLate(random.millis(3, self.scale * 3 / 2)),
            _ => Fault::Hangs { done: random.chance(50) },
        }
    }
}
