use std::cell::Cell;

/// A random number, or the middle where the operating system has none to give.
pub(crate) fn random_between(low: f64, high: f64) -> f64 {
    let random = match REPEATED.get() {
        Some(state) => Ok(next_repeated(state)),
        None => getrandom::u32(),
    };
    let unit = random.map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    low + (high - low) * unit
}

thread_local! {
    static REPEATED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Takes the jitter of this thread from `seed` and no longer from the operating system: for simulations, which have to
/// take the same course again.
#[doc(hidden)]
pub fn repeat_jitter(seed: u64) {
    REPEATED.set(Some(seed));
}

/// One step of [SplitMix64](https://prng.di.unimi.it/splitmix64.c), of which the upper half is enough.
fn next_repeated(state: u64) -> u32 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    REPEATED.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)
}
