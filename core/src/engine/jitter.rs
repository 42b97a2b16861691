use std::sync::atomic::{AtomicU64, Ordering};

/// Where pauses get their randomness: from the operating system, or from a seed, so that simulations are reproducible.
#[derive(Debug, Default)]
pub(crate) struct Jitter(Option<AtomicU64>);

/// The increment of [SplitMix64](https://prng.di.unimi.it/splitmix64.c).
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

impl Jitter {
    /// Jitter that is the same each time.
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(Some(AtomicU64::new(seed)))
    }

    /// A random number, or the middle of the range if the operating system has none.
    pub(crate) fn between(&self, low: f64, high: f64) -> f64 {
        let random = match &self.0 {
            Some(state) => Ok(mixed(state.fetch_add(INCREMENT, Ordering::Relaxed).wrapping_add(INCREMENT))),
            None => getrandom::u32(),
        };
        let unit = random.map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        low + (high - low) * unit
    }
}

/// The upper half of the number that `SplitMix64` makes of a state.
fn mixed(state: u64) -> u32 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers_within_the_bounds() {
        let numbers = |jitter: Jitter| (0..100).map(|_| jitter.between(0.5, 1.0)).collect::<Vec<_>>();
        let first = numbers(Jitter::from_seed(7));
        assert_eq!(first, numbers(Jitter::from_seed(7)));
        assert_ne!(first, numbers(Jitter::from_seed(8)));
        assert!(first.iter().chain(&numbers(Jitter::default())).all(|number| (0.5..=1.0).contains(number)));
    }
}
