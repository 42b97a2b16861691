use std::time::Duration;

use crate::random::Random;

/// What happens to one call.
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
    /// It is done, and the reply comes that much later, perhaps far beyond the limit of a call.
    ReplyLate(Duration),
    /// There is no reply until the limit of a call, or far beyond it; meanwhile it was done or not.
    Hangs { done: Option<Duration>, returns: Duration },
    /// The connection breaks at once. The statement is done that much later, perhaps twice.
    Late(Duration, Option<Duration>),
    /// It is done and answered, and done once more later.
    Twice(Duration),
    /// The store panics.
    Panics { done: bool },
    /// It is done, and an answer is missing.
    TooFew,
}

impl Fault {
    /// The same fault of a store that returns by the limit of a call.
    pub(crate) fn within(self, call: Duration) -> Self {
        let most = call - Duration::from_millis(5);
        match self {
            Self::ReplyLate(by) => Self::ReplyLate(by.min(most)),
            Self::Hangs { done, returns } => Self::Hangs { done, returns: returns.min(most) },
            fault => fault,
        }
    }
}

/// What happens to one request of a call, while the others are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Single {
    None,
    Busy,
    Fails,
    ReplyLost,
    /// It fails, and is done that much later.
    Late(Duration),
}

/// How the store does in one run.
#[derive(Debug)]
pub(crate) struct FaultPlan {
    /// The TTL, in milliseconds, around which the times of the run are drawn.
    pub(crate) scale: u64,
    /// The shortest TTL of the run, in milliseconds.
    pub(crate) shortest: u64,
    /// By how much the store's clock may still step forward: less than the margin of every TTL, all steps together.
    pub(crate) step_budget_ms: u64,
    /// How long the renewals of the quiet lock take, which is shorter than any of its attempts may take.
    pub(crate) quiet_renewal: Duration,
    faults_percent: u64,
    singles_percent: u64,
    calm_from: Duration,
    outages: Vec<(Duration, Duration)>,
}

impl FaultPlan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let scale = random.pick(&[200, 200, 500, 1_000, 1_000, 4_000, 4_000, 20_000]);
        let calm_from = random.millis(0, 12 * scale);
        let outages = (0..random.below(3)).map(|_| {
            let from = random.millis(0, 6 * scale);
            (from, from + random.millis(1, 2 * scale))
        });
        let outages = outages.collect();
        let (shortest, step_budget_ms) = random.pick(&[(100, 40), (200, 90)]);
        let (faults_percent, singles_percent) = (random.pick(&[0, 3, 10, 30]), random.pick(&[0, 0, 3, 10]));
        let quiet_renewal = Duration::from_millis(random.pick(&[0, 200]));
        Self { scale, shortest, step_budget_ms, quiet_renewal, faults_percent, singles_percent, calm_from, outages }
    }

    /// From now on the store does what it should. What was sent before may still take effect.
    pub(crate) fn clear(&mut self) {
        self.calm_from = Duration::ZERO;
    }

    /// The fault of a call; nothing is done later than `call` after it was sent.
    pub(crate) fn next_fault(&self, now: Duration, call: Duration, random: &mut Random) -> Fault {
        if now >= self.calm_from {
            return Fault::None;
        }
        let scale = self.scale;
        let late = |random: &mut Random| {
            let longest = millis(call) - 5;
            let most = if random.chance(50) { longest } else { longest.min(scale) };
            random.millis(1, most)
        };
        let out = self.outages.iter().any(|(from, to)| (*from..*to).contains(&now));
        if out {
            return if random.chance(80) { Fault::Fails } else { Fault::Hangs { done: None, returns: call } };
        }
        if !random.chance(self.faults_percent) {
            return Fault::None;
        }
        match random.below(100) {
            0..12 => Fault::Fails,
            12..27 => Fault::ReplyLost,
            27..37 => Fault::Slow(random.millis(3, scale).min(call - Duration::from_millis(5))),
            37..55 => Fault::ReplyLate(random.millis(3, scale * 3 / 2)),
            55..65 => {
                let returns = if random.chance(70) { call } else { random.millis(millis(call), 4 * millis(call)) };
                Fault::Hangs { done: random.chance(50).then(|| late(random)), returns }
            }
            65..80 => {
                let again = random.chance(30);
                Fault::Late(late(random), again.then(|| late(random)))
            }
            80..90 => Fault::Twice(late(random)),
            90..96 => Fault::Panics { done: random.chance(50) },
            _ => Fault::TooFew,
        }
    }

    /// The fault of one request of a call; it is done within `left`.
    pub(crate) fn next_single(&self, now: Duration, left: Duration, random: &mut Random) -> Single {
        if now >= self.calm_from || !random.chance(self.singles_percent) {
            return Single::None;
        }
        match random.below(10) {
            0..4 => Single::Busy,
            4..6 => Single::Fails,
            6..8 => Single::ReplyLost,
            _ => Single::Late(random.millis(0, millis(left))),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
