//! What is asked of the host that has the memory, and how its answer is proved.
//!
//! `POST /v1/departures/ID/pages` with a [`Question`]; the answer is the pages in the order of the ranges, and the
//! [`proof`] of them.

use super::PAGE;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// So many bytes may be asked for at once.
pub const MOST_BYTES: u64 = 4 << 20;
/// In so many ranges.
pub const MOST_RANGES: usize = 1024;
/// Bytes of a proof.
pub const PROOF: usize = blake3::OUT_LEN;

/// Pages of a process that stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The checkpoint that they belong to.
    pub checkpoint: String,
    /// The process, by its pid in the container.
    pub process: i32,
    /// Their addresses, in whole pages.
    pub ranges: Vec<Range<u64>>,
}

impl Question {
    /// How many bytes are asked for; none where that is more than may be, or no whole pages.
    pub fn bytes(&self) -> Option<u64> {
        let is_whole = |range: &Range<u64>| {
            range.start < range.end && range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE)
        };
        let is_good = self.ranges.len() <= MOST_RANGES && self.ranges.iter().all(is_whole);
        let mut lengths = self.ranges.iter().map(|range| range.end - range.start);
        let bytes = lengths.try_fold(0u64, |sum, length| sum.checked_add(length))?;
        (is_good && bytes <= MOST_BYTES).then_some(bytes)
    }
}

/// Proves that these are the pages that were asked for, from where they were read to where they are put in place.
pub fn proof(question: &Question, pages: &[u8]) -> [u8; PROOF] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(question.checkpoint.as_bytes());
    hasher.update(&question.process.to_le_bytes());
    for range in &question.ranges {
        hasher.update(&range.start.to_le_bytes()).update(&range.end.to_le_bytes());
    }
    *hasher.update(pages).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::slice::from_ref;

    fn question(ranges: &[Range<u64>]) -> Question {
        Question { checkpoint: "c".into(), process: 1, ranges: ranges.to_vec() }
    }

    #[test]
    fn no_more_than_may_be_is_asked_for_and_whole_pages_only() {
        assert_eq!(question(&[PAGE..3 * PAGE, 0..PAGE]).bytes(), Some(3 * PAGE));
        let backwards = Range { start: PAGE, end: 0 };
        let bad = [0..MOST_BYTES + PAGE, 0..!(PAGE - 1), 1..PAGE, 0..1, backwards];
        bad.into_iter().for_each(|range| assert_eq!(question(from_ref(&range)).bytes(), None, "{range:?}"));
        assert_eq!(question(&[0..1 << 63, 0..1 << 63]).bytes(), None);
        assert_eq!(question(&vec![0..PAGE; MOST_RANGES + 1]).bytes(), None);
    }

    #[test]
    fn i4_pages_that_were_not_asked_for_are_not_proved() {
        let asked = question(&[0..PAGE, PAGE..2 * PAGE]);
        let proved = proof(&asked, &[1; 8192]);
        assert_eq!(proved, proof(&asked.clone(), &[1; 8192]));
        assert_ne!(proved, proof(&asked, &[2; 8192]));
        assert_ne!(proved, proof(&question(from_ref(&(0..2 * PAGE))), &[1; 8192]));
        assert_ne!(proved, proof(&Question { process: 2, ..asked }, &[1; 8192]));
    }
}
