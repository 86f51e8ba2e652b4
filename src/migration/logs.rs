//! Under which names what containers have written travels in their checkpoint.

/// Below [`crate::store::layout::EXTRA`] of the container's checkpoint: what there was while it ran.
pub const BASE: &str = "logs/base";
/// What came since.
pub const REST: &str = "logs/rest";
/// No engine is told to keep more.
const MOST_ROTATED: usize = 100;

/// The name of a log that Docker has put aside, in the checkpoint; Docker compresses some.
pub fn rotated(number: usize, compressed: &str) -> String {
    format!("logs/rotated-{number}{compressed}")
}

/// The numbers and endings of the logs that may have been put aside.
pub fn all_rotated() -> impl Iterator<Item = (usize, &'static str)> {
    (1..=MOST_ROTATED).flat_map(|number| ["", ".gz"].map(|compressed| (number, compressed)))
}
