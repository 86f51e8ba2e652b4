//! When it has to be looked whether anybody still goes by the ways that only open connections go by.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Until the first look at one.
const FIRST: Duration = Duration::from_secs(10);

/// The longest time between two looks: for each the kernel tells its table of connections.
const LONGEST: Duration = Duration::from_secs(600);

/// Tells whoever ends ways that another one is there.
///
/// The kernel tells of the end of a connection only where somebody listened when it began, so there is no event to wait for.
#[derive(Debug, Default)]
pub struct OpenWays {
    is_another: Mutex<bool>,
    changed: Condvar,
}

impl OpenWays {
    /// There is one more.
    pub fn begin(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// Returns as soon as there is one.
    pub fn wait_for_one(&self) {
        let is_none = |is_another: &mut bool| !*is_another;
        *self.changed.wait_while(self.lock(), is_none).unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Looks again and again, until `look` finds that there is none any more: after a while, then after twice that each time,
    /// since what has lasted long lasts on; and anew when another one is there.
    pub fn look_until_there_is_none(&self, look: impl FnMut() -> bool) {
        self.look_every(FIRST, look);
    }

    fn look_every(&self, first: Duration, mut look: impl FnMut() -> bool) {
        let mut pause = first;
        loop {
            let is_none = |is_another: &mut bool| !*is_another;
            let waited = self.changed.wait_timeout_while(self.lock(), pause, is_none);
            // Not locked while it is looked: whoever begins one has a turn that a look may wait for.
            let is_another = std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner).0);
            match is_another {
                true => pause = first,
                false if look() => pause = LONGEST.min(pause * 2),
                false => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_another.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn i5_it_is_looked_seldom_and_no_more_when_there_is_none() {
        let (ways, begun, mut looks) = (OpenWays::default(), Instant::now(), Vec::new());
        ways.begin();
        ways.wait_for_one();
        ways.look_every(Duration::from_millis(20), || {
            looks.push(begun.elapsed());
            looks.len() < 3
        });
        assert_eq!(looks.len(), 3);
        assert!(looks[2] >= Duration::from_millis(20 + 40 + 80), "{looks:?}");
    }

    #[test]
    fn one_may_begin_while_it_is_looked() {
        let (ways, mut looks) = (OpenWays::default(), 0);
        ways.look_every(Duration::from_millis(1), || {
            looks += 1;
            ways.begin();
            looks < 2
        });
        assert_eq!(looks, 2);
    }

    #[test]
    fn another_one_is_waited_for_without_a_look() {
        let ways = OpenWays::default();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| ways.wait_for_one());
            ways.begin();
            waiting.join().unwrap();
        });
        // One that comes meanwhile is looked at as soon as if it were alone.
        ways.begin();
        let mut looks = 0;
        ways.look_every(Duration::from_millis(1), || {
            looks += 1;
            false
        });
        assert_eq!(looks, 1);
    }
}
