//! Random numbers that a failing test can be given again.

use std::{
    hash::{BuildHasher, RandomState},
    ops::Range,
    time::Duration,
};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to spread timings.
#[derive(Clone, Debug)]
pub struct Random(u64);

// === impl Random ===

impl Random {
    /// Seeded by `LAMEDUCK_TEST_SEED`, else anew; prints the seed, which a failing test shows.
    pub fn for_test(name: &str) -> Self {
        let seed = super::from_env("LAMEDUCK_TEST_SEED")
            .unwrap_or_else(|| RandomState::new().hash_one(name) % 1_000_000_007);
        println!("{name}: LAMEDUCK_TEST_SEED={seed}");
        Self(seed)
    }

    /// A generator of its own for a thread.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `range`.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A duration up to `most`.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).unwrap().max(1);
        Duration::from_micros(self.within(0..most))
    }

    /// One of `choices`.
    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[usize::try_from(self.within(0..choices.len() as u64)).unwrap()]
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.within(0..n) == 0
    }
}
