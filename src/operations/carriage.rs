//! How what goes to a peer is carried: how hard to compress it where nobody has said so, and how slowly it may go.

use crate::failure::Failure;
use crate::transport::client::Compress;
use std::num::{NonZeroU64, NonZeroUsize};

/// What a core compresses a second at zstd's level 1 and at level 9, in bytes, of a program's memory, about.
const FAST: u64 = 250 << 20;
const BEST: u64 = 25 << 20;

/// In what may go nowhere for a while a piece of a body still has to go.
const LEAST_RATE: u64 = 64 << 10;

/// A rate that can be told from a network that is stuck.
pub fn require_rate(rate: Option<NonZeroU64>) -> Result<(), Failure> {
    match rate.filter(|rate| rate.get() < LEAST_RATE) {
        None => Ok(()),
        Some(rate) => Err(Failure::usage(format!("{rate} bytes a second are too few"))
            .remedy(format!("at least {LEAST_RATE}: less is not told from a network that is stuck"))),
    }
}

/// For a network that carries so many bytes a second, by these cores, of which one is left to everybody else. What
/// compresses more slowly than the network carries costs time instead of saving it.
pub fn compression(link: Option<u64>, cores: NonZeroUsize) -> Compress {
    let cores = cores.get().div_ceil(2) as u64;
    match link {
        // Nothing is known yet: a little work that helps on every slow network.
        None => Compress::Fast,
        Some(link) if link < BEST * cores => Compress::Best,
        Some(link) if link < FAST * cores / 2 => Compress::Fast,
        Some(_) => Compress::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_networks_are_worth_more_work_than_fast_ones() {
        let two = NonZeroUsize::new(2).unwrap();
        let of = |link: Option<u64>| compression(link, two);
        assert_eq!(of(Some(1 << 20)), Compress::Best);
        assert_eq!(of(Some(110 << 20)), Compress::Fast);
        assert_eq!(of(Some(1 << 30)), Compress::Off);
        assert_eq!(of(None), Compress::Fast);
        assert_eq!(compression(Some(300 << 20), NonZeroUsize::new(16).unwrap()), Compress::Fast);
    }
}
