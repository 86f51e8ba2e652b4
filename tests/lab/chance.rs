//! Numbers by chance that can be had again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The seed's variable: a run that found something is repeated with the seed that it told.
const SEED: &str = "TRANSSHIP_SEED";

/// A sequence that a seed decides (splitmix64).
pub struct Chance(u64);

impl Chance {
    /// By the seed that is given, or else the time. The seed is printed.
    pub fn told() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        let seed = std::env::var(SEED).ok().map_or_else(now, |seed| seed.parse().expect("a seed is a number"));
        eprintln!("{SEED}={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A time below this one.
    pub fn below(&mut self, most: Duration) -> Duration {
        most.mul_f64((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
}
