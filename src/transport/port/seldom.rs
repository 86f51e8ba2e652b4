//! Log lines that strangers cause: not more often than a disk bears.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two of them.
const INTERVAL: Duration = Duration::from_secs(1);

/// Counts what is not told.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Tells, with how many were not told since the last time; or counts this one as well.
    pub fn tell(&self, now: Instant, tell: impl FnOnce(u64)) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, untold) = &mut *inner;
        if last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            *untold += 1;
            return;
        }
        *last = Some(now);
        tell(std::mem::take(untold));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_at_once_are_told_once_and_counted() {
        let (seldom, begin) = (Seldom::default(), Instant::now());
        let mut told = Vec::new();
        for milliseconds in [0, 1, 999, 1000, 1001, 5000] {
            seldom.tell(begin + Duration::from_millis(milliseconds), |untold| told.push((milliseconds, untold)));
        }
        assert_eq!(told, [(0, 0), (1000, 2), (5000, 1)]);
    }
}
